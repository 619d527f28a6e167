"""Case ids whose files would have one name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import partial

from attack.commands import (
    CHECK,
    CHECK_FOREIGN,
    PLAN_FOREIGN,
    PREDICT,
    PREPROCESS,
    PREPROCESS_FOREIGN,
    foreign,
)
from attack.engine import Attack, answered, refused, refused_or_warned
from attack.place import Place

FAMILY = "collisions"
# Pairs of ids, and the one to rename.
COLLIDING = {
    "seg": ({"x": 0, "x_seg": 1, "y": 2}, "x_seg"),
    "seg-alone": ({"x_seg": 0, "y": 1, "z": 2}, "x_seg"),
    "seg-of-seg": ({"x_seg": 0, "x_seg_seg": 1, "y": 2}, "x_seg"),
    "channel": ({"x_0000": 0, "y": 1, "z": 2}, "x_0000"),
    "channel-and-without": ({"x": 0, "x_0001": 1, "y": 2}, "x_0001"),
    "case": ({"x": 0, "X": 1, "y": 2}, "X"),
    "unicode": ({"\u00e9": 0, "e\u0301": 1, "y": 2}, "\u00e9"),
    "blank": ({"x": 0, "x ": 1, "y": 2}, "x "),
    "dot": ({"x": 0, "x.": 1, "y": 2}, "x."),
    "device": ({"con": 0, "nul": 1, "y": 2}, "con"),
}
_SURE = {"seg", "seg-of-seg"}


def attacks() -> Iterator[Attack]:
    """Each pair in dataset.json and as files."""
    verbs = (("check", CHECK_FOREIGN), ("plan", PLAN_FOREIGN), ("preprocess", PREPROCESS_FOREIGN))
    for what, (ids, culprit) in COLLIDING.items():
        for verb, argv in verbs:
            # what collides on some file systems only may be worked on here, but not without what is told
            expect = refused(culprit) if what in _SURE else answered()
            yield Attack(f"{what}-{verb}", FAMILY, argv, expect, partial(foreign, case_ids=ids))
    for what in ("seg", "case", "channel"):
        ids, culprit = COLLIDING[what]
        for verb, argv in (("check", CHECK), ("preprocess", PREPROCESS)):
            expect = refused(culprit) if what == "seg" else refused_or_warned() if what == "case" else answered()
            yield Attack(f"{what}-of-files-{verb}", FAMILY, argv, expect, partial(_files, ids=ids), keeps_raw=True)
    yield Attack("seg-predict", FAMILY, PREDICT, answered(), _inputs)
    yield Attack("same-image-twice", FAMILY, CHECK_FOREIGN, answered(), partial(foreign, case_ids={"x": 0, "y": 0}))


def _files(place: Place, *, ids: Mapping[str, int]) -> None:
    images, labels = place.raw / "imagesTr", place.raw / "labelsTr"
    for case_id, number in ids.items():
        shutil.copy(images / f"ballTr_{number:03d}_0000.nii.gz", images / f"{case_id}_0000.nii.gz")
        shutil.copy(labels / f"ballTr_{number:03d}.nii.gz", labels / f"{case_id}.nii.gz")


def _inputs(place: Place) -> None:
    images = place.raw / "imagesTs"
    for case_id in ("x", "x_seg", "X", "x_0000"):
        shutil.copy(images / "ballTs_000_0000.nii.gz", images / f"{case_id}_0000.nii.gz")
