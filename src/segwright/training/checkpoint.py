"""What a checkpoint of a training holds: nnU-Net v2's keys, and under `segwright` what an exact resume needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from segwright.errors import CheckpointError, message
from segwright.interop.checkpoint_file import read_checkpoint, write_checkpoint
from segwright.interop.weights import load_state_dict, to_nnunet_state_dict
from segwright.planning.budget import Setting, stored_settings
from segwright.training.history import History

if TYPE_CHECKING:
    from segwright.training.trainer import Trainer

FINAL, LATEST, BEST = "checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"
NNUNET_TRAINER = "nnUNetTrainer"


@dataclass(frozen=True)
class TrainingState:
    """Where within an epoch a training stands; `train_losses` are those of the epoch's finished steps."""

    step: int
    train_losses: tuple[float, ...]


def newest_checkpoint(fold_folder: Path) -> Path | None:
    """The checkpoint that `--continue` goes on from: final, latest, best, the first that exists (nnU-Net's order)."""
    return next((fold_folder / name for name in (FINAL, LATEST, BEST) if (fold_folder / name).is_file()), None)


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write the whole state of a training, atomically. nnunetv2 reads it as one of its own."""
    write_checkpoint(
        path,
        {
            "network_weights": to_nnunet_state_dict(trainer.network),
            "optimizer_state": trainer.optimizer.state_dict(),
            "grad_scaler_state": None if trainer.grad_scaler is None else trainer.grad_scaler.state_dict(),
            "logging": trainer.history.lists,
            "_best_ema": trainer.best_ema,
            "current_epoch": trainer.current_epoch,
            "init_args": {
                "plans": dict(trainer.plan.raw),
                "configuration": trainer.configuration_name,
                "fold": trainer.fold,
                "dataset_json": dict(trainer.description.raw),
                "device": torch.device(trainer.device.type),
            },
            # nnunetv2 looks this class up to build the network, which the plan describes whatever our class is.
            "trainer_name": NNUNET_TRAINER,
            "inference_allowed_mirroring_axes": trainer.mirror_axes or None,
            "segwright": {
                "trainer": type(trainer).__name__,
                "budget": trainer.budget.to_json(len(trainer.split.train)),
                "step": trainer.state.step,
                "train_losses": list(trainer.state.train_losses),
            },
        },
    )


def settings_of(checkpoint: Mapping[str, Any]) -> dict[str, Setting]:
    """Settings that a checkpoint was trained with; of one that nnunetv2 wrote only the recipe is known."""
    budget = checkpoint.get("segwright", {}).get("budget")
    if budget is None:
        return {"recipe": Setting("recipe", "nnunet", "default")}
    return stored_settings(budget)


def read_for_training(path: Path, *, configuration_name: str) -> dict[str, Any]:
    """Read a checkpoint to go on from, and see that it belongs to this configuration.

    Raises:
        CheckpointError: torn, foreign, or of another configuration.
    """
    checkpoint = read_checkpoint(path)
    trained = checkpoint.get("init_args", {}).get("configuration")
    if trained != configuration_name:
        raise CheckpointError(
            message(
                path,
                expected=f"a checkpoint of configuration '{configuration_name}'",
                got=f"one of '{trained}'",
                remedy="Name the configuration it was trained with, or start anew without --continue.",
            )
        )
    return checkpoint


def restore(trainer: Trainer, checkpoint: Mapping[str, Any], *, where: Path) -> None:
    """Put a training into the state that a checkpoint holds.

    Raises:
        CheckpointError: if weights or optimizer state do not fit.
    """
    load_state_dict(trainer.network, checkpoint["network_weights"], where=str(where))
    try:
        trainer.optimizer.load_state_dict(checkpoint["optimizer_state"])
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            message(
                f"{where}, key 'optimizer_state'",
                expected=f"the state of {type(trainer.optimizer).__name__} over this network's parameters",
                got=str(error),
                remedy="Go on with the recipe and the trainer class that it was trained with.",
            )
        ) from error
    if trainer.grad_scaler is not None and checkpoint.get("grad_scaler_state") is not None:
        trainer.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
    own = checkpoint.get("segwright", {})
    trainer.current_epoch = int(checkpoint["current_epoch"])
    trainer.best_ema = None if checkpoint["_best_ema"] is None else float(checkpoint["_best_ema"])
    trainer.history = History(checkpoint["logging"])
    trainer.history.cut(trainer.current_epoch)
    trainer.state = TrainingState(int(own.get("step", 0)), tuple(own.get("train_losses", ())))
