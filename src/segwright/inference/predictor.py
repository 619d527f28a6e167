"""A trained model, ready to predict: the plan, the networks of its folds, and how they are to be used."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segwright.dataset import DatasetDescription
from segwright.errors import CheckpointError, MissingFileError, PlanError, SettingsError, message
from segwright.inference.export import logits_to_label_map
from segwright.inference.output_folder import Origin
from segwright.inference.sliding_window import predict_logits
from segwright.interop.checkpoint import NNUNET_TRAINER, Checkpoint
from segwright.interop.plan_changes import PlanChange, changes_since, refuse_changes
from segwright.interop.weights import load_state_dict, unwrap
from segwright.io import Image
from segwright.names import parse_name
from segwright.networks import build_network
from segwright.parallel import Progress, available_memory_bytes
from segwright.planning.memory import parameter_count
from segwright.planning.plan import Configuration, Plan
from segwright.preprocessing.pipeline import preprocess_case

CHECKPOINT_NAME = "checkpoint_final.pth"
_BYTES_PER_WEIGHT = 4
_NUMBERED_FOLD = re.compile(r"fold_(\d+)")


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model in memory. Build it with `Predictor.from_folder`, or from the parts that a training holds.

    `mirror_axes` are the axes of the patch that may be mirrored; empty them (`dataclasses.replace`) to predict without.
    `checkpoints` are the digests of the files that the networks were read from, if they were.
    """

    plan: Plan
    configuration: Configuration
    description: DatasetDescription
    networks: tuple[nn.Module, ...]
    mirror_axes: tuple[int, ...] = ()
    step_size: float = 0.5
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    folds: tuple[str, ...] = ()
    checkpoint_name: str = CHECKPOINT_NAME
    checkpoints: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_folder(
        cls,
        model_folder: Path,
        *,
        folds: Sequence[int | str] | None = None,
        checkpoint_name: str = CHECKPOINT_NAME,
        device: str | torch.device = "cpu",
        step_size: float = 0.5,
        mirroring: bool = True,
        accept_plan: bool = False,
    ) -> Predictor:
        """Load a model folder of Segwright or nnU-Net v2 (`Trainer__plans__configuration`).

        Without `folds` all of `fold_0`, `fold_1`, ... that hold the checkpoint are used, `fold_all` only if it is asked
        for. The configuration and the axes to mirror are read from the checkpoint; `mirroring=False` mirrors none.
        `accept_plan` predicts though plans.json was edited after the training, if the weights mean the same with it.

        Raises:
            MissingFileError: the folder, its plans.json or dataset.json, or a checkpoint is not there.
            CheckpointError, PlanError, DatasetError: one of these files is wrong.
        """
        model_folder = Path(model_folder)
        _check_folder(model_folder)
        plan = Plan.read(model_folder / "plans.json")
        description = DatasetDescription.read(model_folder / "dataset.json")
        names = _folds(model_folder, folds, checkpoint_name)
        networks: list[nn.Module] = []
        digests: list[str] = []
        first: Checkpoint | None = None
        changes: dict[str, PlanChange] = {}
        for name in names:
            checkpoint = Checkpoint.read(model_folder / f"fold_{name}" / checkpoint_name)
            first = first or checkpoint.without_tensors()
            _check_same_configuration(checkpoint, first)
            changes.update(_accepted_changes(checkpoint, plan, description, accept_plan))
            network = _network(plan.configuration(checkpoint.configuration), description)
            load_state_dict(network, checkpoint.network_weights, where=checkpoint.where)
            networks.append(network.to(device).eval())
            digests.append(checkpoint.digest)
        assert first is not None, "at least one fold, or an error before"
        return cls(
            plan=plan,
            configuration=plan.configuration(first.configuration),
            description=description,
            networks=tuple(networks),
            mirror_axes=first.mirror_axes if mirroring else (),
            step_size=step_size,
            device=torch.device(device),
            folds=names,
            checkpoint_name=checkpoint_name,
            checkpoints=tuple(digests),
            warnings=(*_warnings(first), *(f"plans.json was edited: {change}." for change in changes.values())),
        )

    @cached_property
    def origin(self) -> Origin:
        """What tells the label maps of this model and these settings from others; not the device, nor any path."""
        weights = self.checkpoints or tuple(_digest_of_weights(network) for network in self.networks)
        model = json.dumps([self.plan.raw, self.description.raw, self.configuration.name, weights])
        settings = {
            "folds": list(self.folds),
            "checkpoint": self.checkpoint_name,
            "step_size": self.step_size,
            "mirror_axes": list(self.mirror_axes),
        }
        return Origin(hashlib.sha256(model.encode()).hexdigest(), settings)

    def predict_image(self, image: Image, *, progress: Progress | None = None) -> NDArray[Any]:
        """Segment an image; the label map is (z, y, x) on the image's grid."""
        data, properties = self.preprocess(image)
        return self.predict_preprocessed(data, properties, progress=progress)

    def preprocess(self, image: Image, *, where: str = "image") -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Bring an image onto the network's grid: the array (c, z, y, x) and the properties that lead back.

        `where` names the image in errors.
        """
        case = preprocess_case(
            image, None, plan=self.plan, configuration=self.configuration, labels=self.description.labels, where=where
        )
        return case.data, case.properties

    def predict_preprocessed(
        self, data: NDArray[np.float32], properties: Mapping[str, Any], *, progress: Progress | None = None
    ) -> NDArray[Any]:
        """Segment a preprocessed array (c, z, y, x); the label map is (z, y, x) on the original grid."""
        return self.decide(self.predict_logits(data, progress=progress), properties)

    def predict_logits(self, data: NDArray[np.float32], *, progress: Progress | None = None) -> torch.Tensor:
        """Logits (k, z, y, x) of a preprocessed array, averaged over folds and mirrored views."""
        return predict_logits(
            self.networks,
            torch.from_numpy(data),
            patch_size=self.configuration.patch_size,
            num_outputs=self.description.labels.num_outputs,
            step_size=self.step_size,
            mirror_axes=self.mirror_axes,
            device=self.device,
            progress=progress,
        )

    def decide(self, logits: torch.Tensor, properties: Mapping[str, Any]) -> NDArray[Any]:
        """Label map (z, y, x) on the original grid of logits on the network's grid."""
        return logits_to_label_map(
            logits,
            properties=properties,
            plan=self.plan,
            configuration=self.configuration,
            labels=self.description.labels,
        )


def _check_same_configuration(checkpoint: Checkpoint, first: Checkpoint) -> None:
    if checkpoint.configuration != first.configuration:
        raise CheckpointError(
            message(
                checkpoint.where,
                expected=f"configuration {first.configuration!r}, as in the first fold",
                got=repr(checkpoint.configuration),
                remedy="Keep the folds of one configuration in a model folder, or name the folds to use.",
            )
        )


def _accepted_changes(
    checkpoint: Checkpoint, plan: Plan, description: DatasetDescription, accept: bool
) -> dict[str, PlanChange]:
    """What was edited in plans.json and dataset.json since the training, by key, if it may be used so."""
    changes = changes_since(checkpoint, plan, description, checkpoint.configuration)
    harmless = all(change.is_harmless for change in changes)
    if not (accept and harmless):
        refuse_changes(
            [change for change in changes if change.changes_predictions],
            where=f"{plan.where}, or dataset.json beside it",
            made=checkpoint.where,
            remedies="Put the values back" + (", or predict with these by --accept-plan." if harmless else "."),
        )
    return {change.key: change for change in changes}


def _network(configuration: Configuration, description: DatasetDescription) -> nn.Module:
    if configuration.previous_stage is not None:
        raise SettingsError(
            message(
                f"configuration {configuration.name!r}",
                expected="a configuration that predicts from the image alone",
                got=f"one that refines the segmentations of {configuration.previous_stage!r}",
                remedy="Predict with another configuration, such as 3d_fullres.",
            )
        )
    _refuse_more_weights_than_fit(configuration, description)
    return build_network(
        configuration.architecture,
        num_input_channels=len(description.channel_names),
        num_outputs=description.labels.num_outputs,
        deep_supervision=False,
    )


def _refuse_more_weights_than_fit(configuration: Configuration, description: DatasetDescription) -> None:
    if not configuration.architecture.is_computable:
        return
    count = parameter_count(
        configuration.architecture,
        num_input_channels=len(description.channel_names),
        num_outputs=description.labels.num_outputs,
    )
    wanted, available = count * _BYTES_PER_WEIGHT, available_memory_bytes()
    if wanted > available:
        raise PlanError(
            message(
                f"plans, configuration {configuration.name!r}, key 'architecture'",
                expected=f"a network whose weights fit into the {available / 1e9:.1f} GB of free memory",
                got=f"{count:,} weights, which take {wanted / 1e9:.1f} GB",
                remedy="Use the plans.json that the model was trained with, or a machine with more memory.",
            )
        )


def _digest_of_weights(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in unwrap(network).state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _warnings(checkpoint: Checkpoint) -> tuple[str, ...]:
    if checkpoint.trainer_name == NNUNET_TRAINER:
        return ()
    return (
        f"The model was trained by {checkpoint.trainer_name!r}, which Segwright does not have. The network was built "
        "from the plan and its weights fit; anything else that this trainer changes about prediction is not done.",
    )


def _check_folder(model_folder: Path) -> None:
    if not model_folder.is_dir():
        raise MissingFileError(
            message(
                model_folder,
                expected="a model folder: Trainer__plans__configuration under results",
                got="no such folder",
                remedy="Train the model, or correct the path.",
            )
        )


def _folds(model_folder: Path, wanted: Sequence[int | str] | None, checkpoint_name: str) -> tuple[str, ...]:
    """Names of the folds to use; every one of them has the checkpoint."""
    for name in (checkpoint_name, *map(str, wanted or ())):
        parse_name(name, where=f"{model_folder}, folds and checkpoint", error=SettingsError)
    if wanted is None:
        numbers = (_NUMBERED_FOLD.fullmatch(path.name) for path in model_folder.iterdir())
        present = [int(match[1]) for match in numbers if match and _checkpoint(model_folder, match[1], checkpoint_name)]
        wanted = sorted(present)
    absent = [fold for fold in wanted if not _checkpoint(model_folder, fold, checkpoint_name)]
    if absent or not wanted:
        raise _no_checkpoint(model_folder, absent or ["*"], checkpoint_name)
    return tuple(str(fold) for fold in wanted)


def _checkpoint(model_folder: Path, fold: int | str, checkpoint_name: str) -> bool:
    return (model_folder / f"fold_{fold}" / checkpoint_name).is_file()


def _no_checkpoint(model_folder: Path, absent: Sequence[int | str], checkpoint_name: str) -> MissingFileError:
    present = sorted(str(path.relative_to(model_folder)) for path in model_folder.glob("fold_*/*.pth"))
    return MissingFileError(
        message(
            model_folder,
            expected=" and ".join(f"fold_{fold}/{checkpoint_name}" for fold in absent),
            got=", ".join(present) or "no checkpoint at all",
            remedy="Name a fold and a checkpoint that are there." if present else "Train the model first.",
        )
    )
