"""The checkpoint as a value: what it says, and its refusals of odd contents by file and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segwright.errors import CheckpointError
from segwright.interop import Checkpoint, write_checkpoint

NNUNET: dict[str, Any] = {
    "network_weights": {"a.weight": torch.arange(4.0)},
    "optimizer_state": {"state": {}, "param_groups": []},
    "grad_scaler_state": None,
    "logging": {"train_losses": [np.float32(0.5)]},
    "_best_ema": np.float64(0.75),
    "current_epoch": 1,
    "init_args": {"plans": None, "configuration": "2d", "fold": 3, "dataset_json": None, "device": torch.device("cpu")},
    "trainer_name": "nnUNetTrainerSpecial",
    "inference_allowed_mirroring_axes": (0, 1),
}


def test_a_checkpoint_of_nnunetv2(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_final.pth"
    torch.save(NNUNET, path)
    found = Checkpoint.read(path)
    assert (found.configuration, found.fold, found.mirror_axes) == ("2d", "3", (0, 1))
    assert found.trainer_class_name == "nnUNetTrainerSpecial"
    assert (found.plan, found.description, found.own) == (None, None, {})
    assert found.settings["recipe"].value == "nnunet"
    assert (found.progress.epoch, found.progress.step, found.progress.best_ema) == (1, 0, 0.75)
    assert len(found.digest) == 64


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_final.pth"
    Checkpoint({**NNUNET, "segwright": {"trainer": "Own", "step": 4, "train_losses": [0.5]}}).write(path)
    found = Checkpoint.read(path)
    assert torch.equal(found.network_weights["a.weight"], torch.arange(4.0))
    assert found.trainer_class_name == "Own"
    assert (found.progress.step, found.progress.train_losses) == (4, (0.5,))
    assert "network_weights" not in found.without_tensors().contents


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


READERS: dict[str, Callable[[Checkpoint], Any]] = {
    "weights": lambda checkpoint: checkpoint.network_weights,
    "configuration": lambda checkpoint: checkpoint.configuration,
    "fold": lambda checkpoint: checkpoint.fold,
    "axes": lambda checkpoint: checkpoint.mirror_axes,
    "trainer": lambda checkpoint: checkpoint.trainer_class_name,
    "plan": lambda checkpoint: checkpoint.plan,
    "description": lambda checkpoint: checkpoint.description,
    "settings": lambda checkpoint: checkpoint.settings,
    "progress": lambda checkpoint: checkpoint.progress,
}


@pytest.mark.parametrize(
    ("reader", "changed", "key"),
    [
        ("weights", {"network_weights": {"a.weight": 3}}, "network_weights.a.weight"),
        ("weights", {"network_weights": {7: torch.ones(1)}}, "network_weights.7"),
        ("weights", {"network_weights": {"a.weight": torch.ones(1, device="meta")}}, "network_weights.a.weight"),
        ("configuration", {"init_args": [1]}, "init_args"),
        ("configuration", {"init_args": {}}, "init_args.configuration"),
        ("configuration", {"init_args": {"configuration": 3}}, "init_args.configuration"),
        ("fold", {"init_args": {"fold": 0.5}}, "init_args.fold"),
        ("axes", {"inference_allowed_mirroring_axes": 1}, "inference_allowed_mirroring_axes"),
        ("axes", {"inference_allowed_mirroring_axes": ("0",)}, "inference_allowed_mirroring_axes"),
        ("axes", {"inference_allowed_mirroring_axes": (0, 5)}, "inference_allowed_mirroring_axes"),
        ("trainer", {"trainer_name": ["x"]}, "trainer_name"),
        ("trainer", {"segwright": {"trainer": 3}}, "segwright.trainer"),
        ("trainer", {"segwright": "x"}, "segwright"),
        ("plan", {"init_args": {"plans": {"a": torch.ones(1)}}}, "init_args.plans"),
        ("plan", {"init_args": {"plans": cyclic()}}, "init_args.plans"),
        ("description", {"init_args": {"dataset_json": {1, 2}}}, "init_args.dataset_json"),
        ("settings", {"segwright": {"budget": 3}}, "segwright.budget"),
        ("settings", {"segwright": {"budget": {"recipe": {}, "settings": {}}}}, "segwright.budget"),
        ("progress", {"optimizer_state": None}, "optimizer_state"),
        ("progress", {"current_epoch": "three"}, "current_epoch"),
        ("progress", {"current_epoch": -1}, "current_epoch"),
        ("progress", {"current_epoch": 10**5000}, "current_epoch"),
        ("progress", {"_best_ema": 10**400}, "_best_ema"),
        ("progress", {"segwright": {"train_losses": [10**400]}}, "segwright.train_losses"),
        ("fold", {"init_args": {"fold": 10**5000}}, "init_args.fold"),
        ("progress", {"_best_ema": "high"}, "_best_ema"),
        ("progress", {"logging": [1]}, "logging"),
        ("progress", {"grad_scaler_state": 3}, "grad_scaler_state"),
        ("progress", {"segwright": {"step": 1.5}}, "segwright.step"),
        ("progress", {"segwright": {"train_losses": ["low"]}}, "segwright.train_losses"),
    ],
)
def test_odd_contents_are_refused_by_file_and_key(reader: str, changed: dict[str, Any], key: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        READERS[reader](Checkpoint({**NNUNET, **changed}, "odd.pth"))
    assert str(caught.value).startswith(f"odd.pth, key '{key}': ")


@pytest.mark.parametrize("key", ["optimizer_state", "logging", "current_epoch", "_best_ema"])
def test_what_a_training_needs_must_be_there(key: str) -> None:
    contents = {name: value for name, value in NNUNET.items() if name != key}
    with pytest.raises(CheckpointError, match=f"'{key}'"):
        Checkpoint(contents).progress  # noqa: B018 - reading it is what is tested


def test_refusals_never_advise_to_load_without_refusing(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("text.pth", "empty.pth", "code.pth", "old.pth", "no_zip.pth")]
    paths[0].write_text("not a model")
    paths[1].write_bytes(b"")
    torch.save({"network_weights": {}, "x": Path("a")}, paths[2])
    torch.save({"network_weights": {}, "x": Path("a")}, paths[3], _use_new_zipfile_serialization=False)
    paths[4].write_bytes(b"\x80\x04\x95" + bytes(range(200)))
    for path in paths:
        with pytest.raises(CheckpointError) as caught:
            Checkpoint.read(path)
        assert "weights_only" not in str(caught.value)
        assert "torch.load" not in str(caught.value)


def test_a_repeated_write_takes_the_place_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_latest.pth"
    for epoch in (1, 2):
        write_checkpoint(path, {**NNUNET, "current_epoch": epoch})
    assert Checkpoint.read(path).progress.epoch == 2
