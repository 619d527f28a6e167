"""A checkpoint as a value: nnU-Net v2's keys, and under `segwright` the data that only Segwright needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segwright.dataset import DatasetDescription
from segwright.errors import CheckpointError, message, shown_short
from segwright.interop.checkpoint_file import WEIGHTS_KEY, read_with_digest, write_checkpoint
from segwright.planning.budget import Setting, stored_settings
from segwright.planning.plan import Plan

OWN_KEY = "segwright"
NNUNET_TRAINER = "nnUNetTrainer"
_TOO_LARGE = 1 << 63  # a pickle holds whole numbers that are no float, and that Python does not write
_ANOTHER = "Use another checkpoint of this training."


@dataclass(frozen=True)
class Progress:
    """Progress of a training: what it needs, beside the weights, to continue.

    `epoch` epochs are finished, and `step` steps of the next one, with the losses `train_losses`.
    """

    epoch: int
    step: int
    train_losses: tuple[float, ...]
    best_ema: float | None
    logging: Mapping[str, Any]
    optimizer_state: Mapping[str, Any]
    grad_scaler_state: Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint in memory. Build it with `Checkpoint.read`, or with `Checkpoint.of_training` to write it.

    `contents` is the file's dictionary. The properties read one key each and raise `CheckpointError`, naming the file
    and the key, for invalid values; in foreign files only the keys that are used need to be valid.
    `digest` identifies the contents of the file.
    """

    contents: Mapping[str, Any]
    where: str = "checkpoint"
    digest: str = ""

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a file of Segwright or nnU-Net v2, running no code from it.

        Raises:
            MissingFileError: there is no such file.
            CheckpointError: the file is damaged, not a checkpoint, or contains something that could run code.
        """
        contents, digest = read_with_digest(path)
        return cls(contents, str(path), digest)

    @classmethod
    def of_training(
        cls,
        *,
        network_weights: Mapping[str, Tensor],
        progress: Progress,
        plan: Plan,
        configuration: str,
        fold: int | str,
        description: DatasetDescription,
        device: torch.device,
        mirror_axes: tuple[int, ...],
        own: Mapping[str, Any],
    ) -> Checkpoint:
        """Lay out the state of a training under nnU-Net's keys; `own` is only read by Segwright."""
        return cls(
            {
                WEIGHTS_KEY: network_weights,
                "optimizer_state": progress.optimizer_state,
                "grad_scaler_state": progress.grad_scaler_state,
                "logging": progress.logging,
                "_best_ema": progress.best_ema,
                "current_epoch": progress.epoch,
                "init_args": {
                    "plans": dict(plan.raw),
                    "configuration": configuration,
                    "fold": fold,
                    "dataset_json": dict(description.raw),
                    "device": torch.device(device.type),
                },
                # nnunetv2 uses this class to build the network, which the plan describes whatever our class is.
                "trainer_name": NNUNET_TRAINER,
                "inference_allowed_mirroring_axes": mirror_axes or None,
                OWN_KEY: {**own, "step": progress.step, "train_losses": list(progress.train_losses)},
            }
        )

    def write(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            WriteError: the disk is full, or the folder cannot be written to.
        """
        write_checkpoint(path, self.contents)

    def without_tensors(self) -> Checkpoint:
        """Return a copy without weights and optimizer state, which take nearly all of the memory."""
        contents = {k: v for k, v in self.contents.items() if k not in (WEIGHTS_KEY, "optimizer_state")}
        return replace(self, contents=contents)

    @cached_property
    def network_weights(self) -> dict[str, Tensor]:
        """The weights under nnU-Net's names."""
        weights = self._mapping(self.contents, WEIGHTS_KEY)
        for name, value in weights.items():
            if not isinstance(name, str) or not _is_dense(value):
                raise self._error(f"{WEIGHTS_KEY}.{name}", "a dense tensor with a name", value)
        return dict(weights)

    @property
    def configuration(self) -> str:
        """Name of the configuration that was trained."""
        name = self._init_args.get("configuration")
        if not isinstance(name, str) or not name:
            raise self._error("init_args.configuration", "the name of a configuration", name)
        return name

    @property
    def fold(self) -> str | None:
        """The fold that was held out, `all`, or None if the file does not say."""
        fold = self._init_args.get("fold")
        if fold is not None and not isinstance(fold, str) and not _is_whole(fold):
            raise self._error("init_args.fold", "a whole number or 'all'", fold)
        return None if fold is None else str(fold)

    @property
    def trainer_name(self) -> str:
        """Name of nnU-Net's trainer class that nnunetv2 looks up to build the network."""
        return self._text(self.contents, "trainer_name", "trainer_name")

    @property
    def trainer_class_name(self) -> str:
        """Name of the class that trained it, which nnU-Net may not have."""
        return self._text(self.own, "trainer", f"{OWN_KEY}.trainer") or self.trainer_name

    @property
    def builds_own_network(self) -> bool:
        """Whether the class that trained it builds a network other than the plan's."""
        return self.own.get("builds_own_network") is True

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Axes of the patch along which prediction may mirror."""
        key = "inference_allowed_mirroring_axes"
        axes = self.contents.get(key)
        if axes is None:
            return ()
        if not isinstance(axes, (tuple, list)) or not all(_is_whole(axis) and 0 <= axis <= 2 for axis in axes):
            raise self._error(key, "axes from 0 to 2, or None", axes)
        return tuple(int(axis) for axis in axes)

    @cached_property
    def plan(self) -> Plan | None:
        """The plan that it was trained with; None if the file does not contain it.

        Raises:
            PlanError: it cannot be read.
        """
        plans = self._json("plans")
        return None if plans is None else Plan.from_json(plans, where=f"{self.where}, key 'init_args.plans'")

    @cached_property
    def description(self) -> DatasetDescription | None:
        """The dataset.json that it was trained with; None if the file does not contain it.

        Raises:
            DatasetError: it cannot be read.
        """
        value = self._json("dataset_json")
        where = f"{self.where}, key 'init_args.dataset_json'"
        return None if value is None else DatasetDescription.from_json(value, where=where)

    @property
    def settings(self) -> dict[str, Setting]:
        """Settings that it was trained with; for a checkpoint of nnunetv2 only the recipe is known."""
        budget = self.own.get("budget")
        if budget is None:
            return {"recipe": Setting("recipe", "nnunet", "default")}
        try:
            return stored_settings(budget)
        except (KeyError, TypeError, AttributeError) as error:
            raise self._error(f"{OWN_KEY}.budget", "the settings of a training", budget) from error

    @property
    def own(self) -> Mapping[str, Any]:
        """The data that only Segwright reads; empty in a file written by nnunetv2."""
        return self._mapping(self.contents, OWN_KEY) if self.contents.get(OWN_KEY) is not None else {}

    @property
    def progress(self) -> Progress:
        """What a training needs to continue."""
        for key in ("optimizer_state", "logging", "current_epoch", "_best_ema"):
            if key not in self.contents:
                raise self._error(key, "this key, which a training needs to continue", "no such key")
        best = self.contents["_best_ema"]
        if best is not None and not _is_number(best):
            raise self._error("_best_ema", "a number or None", best)
        losses = self.own.get("train_losses", ())
        if not isinstance(losses, (list, tuple)) or not all(map(_is_number, losses)):
            raise self._error(f"{OWN_KEY}.train_losses", "a list of numbers", losses)
        scaler = "grad_scaler_state"
        return Progress(
            epoch=self._count(self.contents["current_epoch"], "current_epoch"),
            step=self._count(self.own.get("step", 0), f"{OWN_KEY}.step"),
            train_losses=tuple(map(float, losses)),
            best_ema=None if best is None else float(best),
            logging=self._mapping(self.contents, "logging"),
            optimizer_state=self._mapping(self.contents, "optimizer_state"),
            grad_scaler_state=None if self.contents.get(scaler) is None else self._mapping(self.contents, scaler),
        )

    @property
    def _init_args(self) -> Mapping[str, Any]:
        return self._mapping(self.contents, "init_args") if self.contents.get("init_args") is not None else {}

    def _json(self, key: str) -> Any:
        value = self._init_args.get(key)
        try:
            return None if value is None else json.loads(json.dumps(value, default=_plain))
        except (TypeError, ValueError, RecursionError) as error:
            raise self._error(f"init_args.{key}", "plain numbers, strings, lists and objects", value) from error

    def _mapping(self, values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        if not isinstance(values.get(key), Mapping):
            raise self._error(key, "a dictionary", values.get(key))
        found: Mapping[str, Any] = values[key]
        return found

    def _text(self, values: Mapping[str, Any], key: str, name: str) -> str:
        value = values.get(key, "")
        if not isinstance(value, str):
            raise self._error(name, "a name", value)
        return value

    def _count(self, value: Any, key: str) -> int:
        if not _is_whole(value) or value < 0:
            raise self._error(key, "a whole number of 0 or more", value)
        return int(value)

    def _error(self, key: str, expected: str, got: object) -> CheckpointError:
        shown = got if got == "no such key" else shown_short(got)
        return CheckpointError(message(f"{self.where}, key '{key}'", expected=expected, got=shown, remedy=_ANOTHER))


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) < _TOO_LARGE


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, Real) and not isinstance(value, Integral))


def _plain(value: object) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(type(value).__name__)
