"""The one place where the wording of messages is tested: each says where, what was expected, what there is, what to do.

Other tests assert kinds, places and values, so that a sentence may be made better without them.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from filelock import FileLock

from model_folders import small_plan, write_model
from raw_folder import SHAPE, RawFolder
from segwright.dataset import DatasetDescription, RawDataset, Workspace
from segwright.dataset.case_ids import require_apart
from segwright.dataset.groups import read_groups
from segwright.dataset.splits import create_splits, read_splits, split_for_fold
from segwright.doctor.check import check
from segwright.errors import SegwrightError, message
from segwright.explain.edits import parse_edits
from segwright.explain.fit import refuse_absurd
from segwright.inference import Predictor
from segwright.interop import read_checkpoint, write_checkpoint
from segwright.io import reader_named
from segwright.io.atomic import write_text_atomic
from segwright.io.json_file import read_json
from segwright.io.safe_pickle import load_pickle
from segwright.parallel import run_cases
from segwright.planning import Plan
from segwright.planning.budget import resolve_budget
from segwright.planning.presets import planner_named
from segwright.training.loading import _worker_died
from segwright.training.run import _locked
from segwright.training.trainer_class import load_trainer_class

BANNED = re.compile(
    r"\b(mend\w*|told|lest|in want of|halved|learnt by heart|weights_only|pickle\.load|trusted source)\b", re.IGNORECASE
)
LONGEST_LINE = 1000


def test_the_form_of_every_message() -> None:
    text = message("dataset.json, key 'numTraining'", expected="a whole number", got="'ten'", remedy="Write 10.")
    assert text == "dataset.json, key 'numTraining': expected a whole number, got 'ten'. Write 10."
    assert message("a", expected="b", got=1, remedy="") == "a: expected b, got 1."
    long = message("a", expected="e" * 5000, got="g" * 5000, remedy="Do it.")
    assert len(long) < 2200
    assert long.endswith(". Do it.")


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def with_plan(tmp: Path, **entries: Any) -> Any:
    raw = json.loads(json.dumps(small_plan().raw))
    raw["configurations"]["3d_fullres"].update(entries)
    return Plan.read(written(tmp / "plans.json", json.dumps(raw))).configuration("3d_fullres")


def with_description(tmp: Path, **keys: Any) -> Any:
    value = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "numTraining": 1, "file_ending": ".mha"}
    return DatasetDescription.read(written(tmp / "dataset.json", json.dumps({**value, **keys})))


def skewed_image(tmp: Path) -> Any:
    affine = np.array([[1.0, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.set_qform(None, code=0)
    image.set_sform(affine, code=1)
    nibabel.save(image, tmp / "a_0000.nii.gz")
    return reader_named("SimpleITKIO").read_image([tmp / "a_0000.nii.gz"])


def other_shapes(tmp: Path) -> Any:
    raw = RawFolder(tmp / "Dataset007_Test")
    raw.write_image("b", 1, np.zeros((4, 6, 4)))
    return reader_named("SimpleITKIO").read_image([raw.image("b", 0), raw.image("b", 1)])


def missing_channel(tmp: Path) -> Any:
    raw = RawFolder(tmp / "Dataset007_Test")
    raw.image("b", 1).unlink()
    return RawDataset.open(raw.folder)


def dangerous_checkpoint(tmp: Path) -> Any:
    class Exploit:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    torch.save({"network_weights": Exploit()}, tmp / "checkpoint_final.pth")
    return read_checkpoint(tmp / "checkpoint_final.pth")


def torn_checkpoint(tmp: Path) -> Any:
    path = tmp / "checkpoint_final.pth"
    write_checkpoint(path, {"network_weights": {"a": torch.zeros(99)}})
    return read_checkpoint(written(path, path.read_bytes()[:-500]))


def other_weights(tmp: Path) -> Any:
    model = write_model(tmp / "model")
    path = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = read_checkpoint(path)
    checkpoint["network_weights"].pop("decoder.seg_layers.0.bias")
    write_checkpoint(path, checkpoint)
    return Predictor.from_folder(model)


def no_checkpoint(tmp: Path) -> Any:
    return Predictor.from_folder(write_model(tmp / "model", folds=("all",)))


def trainer_file(text: str, name: str) -> Callable[[Path], Any]:
    return lambda tmp: load_trainer_class(f"{written(tmp / 'mine.py', text)}:{name}")


def undeclared_label(tmp: Path) -> Any:
    raw = RawFolder(tmp / "Dataset007_Test")
    raw.write_labels("b", np.full(SHAPE, 9))
    (problem,) = check(raw.folder).errors
    raise SegwrightError(problem.text)


def file_in_the_way(tmp: Path) -> Any:
    return write_text_atomic(written(tmp / "file", "") / "below" / "a.txt", "text")


def locked_folder(tmp: Path) -> Any:
    with FileLock(tmp / ".fold_0.lock"), _locked(tmp / ".fold_0.lock", tmp / "fold_0"):
        pass


CASES = [f"case_{number}" for number in range(10)]
MESSAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a key of a plan": (lambda tmp: with_plan(tmp, batch_size=0), "'batch_size'"),
    "a missing key of a plan": (lambda tmp: Plan.from_json({}, where="plans.json"), "plans.json"),
    "an unknown configuration": (lambda tmp: small_plan().configuration("3d_tiny"), "plans"),
    "a name of a plan that leaves its folder": (lambda tmp: with_plan(tmp, data_identifier="../x"), "data_identifier"),
    "an unknown planner": (lambda tmp: planner_named("nnUNetPlaner"), "planner"),
    "a key of dataset.json": (lambda tmp: with_description(tmp, numTraining="3"), "dataset.json, key 'numTraining'"),
    "the labels of dataset.json": (lambda tmp: with_description(tmp, labels={"a": 1}), "dataset.json"),
    "text that is no JSON": (lambda tmp: read_json(written(tmp / "a.json", '{"a" 1}')), "a.json, line 1, column 6"),
    "splits of another form": (lambda tmp: read_splits(written(tmp / "splits_final.json", "{}")), "splits_final.json"),
    "a fold that is not there": (lambda tmp: split_for_fold(create_splits(CASES), 7, CASES), "fold"),
    "too few cases for folds": (lambda tmp: create_splits(CASES[:3]), "cross-validation"),
    "an expression that groups nothing": (lambda tmp: read_groups("x(", CASES), "--group-by"),
    "names that collide": (lambda tmp: require_apart(["x", "x_seg"], 2, tmp), "x_seg"),
    "a missing file": (lambda tmp: read_json(tmp / "gone.json"), "gone.json"),
    "a missing channel": (missing_channel, "case b"),
    "a missing data set": (lambda tmp: Workspace.resolve(tmp, {}, tmp).find_dataset("4"), "4"),
    "a damaged image": (
        lambda tmp: reader_named("NibabelIO").read_image([written(tmp / "a_0000.nii.gz", "torn")]),
        "a_0000.nii.gz",
    ),
    "an unreadable geometry": (skewed_image, "a_0000.nii.gz"),
    "channels of two shapes": (other_shapes, "b_0001.mha"),
    "a label that is not declared": (undeclared_label, "case b, labelsTr/b.mha"),
    "a torn checkpoint": (torn_checkpoint, "checkpoint_final.pth"),
    "a checkpoint that runs code": (dangerous_checkpoint, "checkpoint_final.pth"),
    "weights of another network": (other_weights, "checkpoint_final.pth"),
    "a model without checkpoints": (no_checkpoint, "model"),
    "a pickle that runs code": (
        lambda tmp: load_pickle(written(tmp / "a.pkl", pickle.dumps(os.system))),
        "a.pkl",
    ),
    "a setting out of its range": (
        lambda tmp: resolve_budget(plan={"batch_size": 2}, flags={"num_epochs": 0}),
        "'num_epochs' from the command line",
    ),
    "an edit of an unknown key": (
        lambda tmp: parse_edits(["patchsize=3"]),
        "patchsize",
    ),
    "a batch that no device holds": (lambda tmp: refuse_absurd(1 << 60, "batch_size 9"), "batch_size 9"),
    "a trainer file with an error": (trainer_file("x = 1 / 0\n", "Mine"), "mine.py, line 1"),
    "a trainer that is not in its file": (trainer_file("x = 1\n", "Mine"), "mine.py"),
    "a loading process that was killed": (
        lambda tmp: (_ for _ in ()).throw(_worker_died([SimpleNamespace(_workers=[SimpleNamespace(exitcode=-9)])])),
        "loading processes",
    ),
    "more workers than any use": (
        lambda tmp: list(run_cases(str, [1], workers=10**6, case_id=str, what="x")),
        "workers",
    ),
    "a locked folder": (locked_folder, "fold_0"),
    "a file in the place of a folder": (file_in_the_way, "file/below"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_its_parts(tmp_path: Path, name: str) -> None:
    provoke, place = MESSAGES[name]
    with pytest.raises(SegwrightError) as caught:
        provoke(tmp_path)
    text = str(caught.value)
    where, separator, rest = text.partition(": expected ")
    assert separator, text
    assert place in where, text
    expected, separator, rest = rest.partition(", got ")
    assert separator, text
    assert expected, text
    got, separator, remedy = rest.partition(". ")
    assert got, text
    assert separator, text
    assert remedy, text
    sound(text)


def sound(text: str) -> None:
    assert text.endswith((".", "?")), text  # a question is what was perhaps meant
    assert "Traceback" not in text
    assert max(map(len, text.splitlines())) <= LONGEST_LINE, text
    assert not BANNED.search(text), text
