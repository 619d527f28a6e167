from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_folders import write_image, write_model
from segwright.errors import CheckpointError, MissingFileError, PlanError, SettingsError
from segwright.inference import Predictor
from segwright.inference.forward import predict_logits
from segwright.interop import read_checkpoint, write_checkpoint
from segwright.io import reader_named


@pytest.fixture
def image(tmp_path: Path) -> Any:
    path = tmp_path / "images" / "a_0000.nii.gz"
    write_image(path)
    return reader_named("SimpleITKIO").read_image([path])


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_an_image_is_segmented_on_its_own_grid(tmp_path: Path, image: Any, configuration: str) -> None:
    predictor = Predictor.from_folder(write_model(tmp_path / "model", configuration=configuration))
    label_map = predictor.predict_image(image)
    assert predictor.configuration.name == configuration
    assert label_map.shape == image.array.shape[1:]
    assert label_map.dtype == np.uint8
    assert set(np.unique(label_map)) <= {0, 1, 2}
    assert len(np.unique(label_map)) > 1


def test_all_numbered_folds_are_used_and_averaged(tmp_path: Path, image: Any) -> None:
    folder = write_model(tmp_path / "model", folds=(0, 2, 10, "all"))
    predictor = Predictor.from_folder(folder)
    assert predictor.folds == ("0", "2", "10")
    assert predictor.mirror_axes == (0, 1, 2)
    data, _ = predictor.preprocess(image)
    single = [
        predict_logits([net], torch.from_numpy(data), patch_size=(16, 16, 16), num_outputs=3, mirror_axes=(0, 1, 2))
        for net in predictor.networks
    ]
    torch.testing.assert_close(predictor.predict_logits(data), torch.stack(single).mean(0), rtol=0, atol=1e-5)


def test_fold_all_is_used_when_asked_for(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", folds=(0, "all"))
    assert Predictor.from_folder(folder, folds=["all"]).folds == ("all",)
    assert Predictor.from_folder(folder, folds=[0]).folds == ("0",)


def test_mirroring_can_be_left_out(tmp_path: Path) -> None:
    assert Predictor.from_folder(write_model(tmp_path / "model"), mirroring=False).mirror_axes == ()


def test_a_checkpoint_without_mirror_axes_mirrors_none(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", inference_allowed_mirroring_axes=None)
    assert Predictor.from_folder(folder).mirror_axes == ()


def test_another_checkpoint_can_be_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "fold_0" / "checkpoint_final.pth").rename(folder / "fold_0" / "checkpoint_best.pth")
    assert Predictor.from_folder(folder, checkpoint_name="checkpoint_best.pth").folds == ("0",)


def test_a_trainer_that_is_unknown_is_a_warning(tmp_path: Path) -> None:
    known = Predictor.from_folder(write_model(tmp_path / "known"))
    other = Predictor.from_folder(write_model(tmp_path / "other", trainer_name="nnUNetTrainerSpecial"))
    assert known.warnings == ()
    assert len(other.warnings) == 1
    assert "nnUNetTrainerSpecial" in other.warnings[0]


def test_no_checkpoint_is_told_with_what_there_is(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", folds=("all",))
    with pytest.raises(MissingFileError, match=r"fold_\*/checkpoint_final\.pth.*fold_all/checkpoint_final\.pth"):
        Predictor.from_folder(folder)
    with pytest.raises(MissingFileError, match=r"fold_3/checkpoint_final\.pth.*fold_all"):
        Predictor.from_folder(folder, folds=[3, "all"])
    shutil.rmtree(folder / "fold_all")
    with pytest.raises(MissingFileError, match=r"fold_\*/checkpoint_final\.pth"):
        Predictor.from_folder(folder)


def test_a_missing_folder_or_plan_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nothing"):
        Predictor.from_folder(tmp_path / "nothing")
    folder = write_model(tmp_path / "model")
    (folder / "plans.json").unlink()
    with pytest.raises(MissingFileError, match=r"plans\.json"):
        Predictor.from_folder(folder)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    path = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = read_checkpoint(path)
    checkpoint["network_weights"].pop("decoder.seg_layers.0.bias")
    write_checkpoint(path, checkpoint)
    with pytest.raises(CheckpointError, match=r"fold_0.*decoder\.seg_layers\.0\.bias"):
        Predictor.from_folder(folder)


def test_a_plan_whose_weights_cannot_fit_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    raw = json.loads((folder / "plans.json").read_text())
    network = raw["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network.update(features_per_stage=[65536, 65536], kernel_sizes=[[99] * 3] * 2)
    (folder / "plans.json").write_text(json.dumps(raw))
    with pytest.raises(PlanError, match="'3d_fullres'"):
        Predictor.from_folder(folder)


def test_a_checkpoint_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"init_args\.configuration"):
        Predictor.from_folder(write_model(tmp_path / "model", init_args={}))


def test_folds_of_two_configurations_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    other = write_model(tmp_path / "other", configuration="2d")
    shutil.copytree(other / "fold_0", folder / "fold_1")
    with pytest.raises(CheckpointError, match=r"fold_1.*'3d_fullres'.*'2d'"):
        Predictor.from_folder(folder)


def test_a_mirror_axis_that_the_patch_lacks_is_refused(tmp_path: Path, image: Any) -> None:
    predictor = Predictor.from_folder(write_model(tmp_path / "model", configuration="2d"))
    with pytest.raises(SettingsError, match="mirror_axes"):
        dataclasses.replace(predictor, mirror_axes=(2,)).predict_image(image)
