"""Fixtures: a small data set in nnU-Net's layout that tests then break in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segwright.io import reader_named
from segwright.io.atomic import write_json_atomic

SHAPE = (4, 6, 5)


class RawFolder:
    """A raw data set on the disk: two MRI channels, three cases, labels 0, 1 and 2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.case_ids = ["a", "b", "c"]
        self.description: dict[str, Any] = {
            "channel_names": {"0": "T1", "1": "T2"},
            "labels": {"background": 0, "one": 1, "two": 2},
            "numTraining": 3,
            "file_ending": ".mha",
        }
        self.describe()
        for number, case_id in enumerate(self.case_ids):
            rng = np.random.default_rng(number)
            for channel in range(2):
                self.write_image(case_id, channel, rng.normal(size=SHAPE))
            self.write_labels(case_id, (np.arange(np.prod(SHAPE)).reshape(SHAPE) + number) % 3)

    def describe(self, **keys: Any) -> None:
        self.description.update(keys)
        write_json_atomic(self.folder / "dataset.json", self.description)

    def image(self, case_id: str, channel: int) -> Path:
        return self.folder / "imagesTr" / f"{case_id}_{channel:04d}.mha"

    def labels(self, case_id: str) -> Path:
        return self.folder / "labelsTr" / f"{case_id}.mha"

    def write_image(self, case_id: str, channel: int, voxels: np.ndarray, **geometry: Any) -> None:
        _write(self.image(case_id, channel), voxels.astype(np.float32), **geometry)

    def write_labels(self, case_id: str, voxels: np.ndarray, **geometry: Any) -> None:
        _write(self.labels(case_id), voxels, **geometry)


def _write(
    path: Path,
    voxels: np.ndarray,
    *,
    spacing: Any = (1.0, 1.0, 3.0),
    origin: Any = (0.0, 0.0, 0.0),
    direction: Any = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


@pytest.fixture
def raw(tmp_path: Path) -> RawFolder:
    return RawFolder(tmp_path / "Dataset007_Test")


@pytest.fixture
def picture_folder(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Make a data set of two 2D pictures with a label map each."""

    def make(description: dict[str, Any], image_shape: tuple[int, ...] = (8, 9, 3)) -> Path:
        from imageio import v3 as imageio

        folder = tmp_path / "Dataset008_Pictures"
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir(parents=True)
        for case_id in ("p", "q"):
            imageio.imwrite(folder / "imagesTr" / f"{case_id}_0000.png", np.full(image_shape, 7, np.uint8))
            label_map = (np.arange(72).reshape(1, 8, 9) % 2).astype(np.uint8)
            reader_named("NaturalImage2DIO").write_labels(label_map, folder / "labelsTr" / f"{case_id}.png", {})
        write_json_atomic(folder / "dataset.json", description)
        return folder

    return make
