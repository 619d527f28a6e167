"""A trained model, ready to predict: the plan, the networks of its folds, and how they are to be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
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
from segwright.inference.forward import predict_logits
from segwright.inference.output_folder import Origin
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
from segwright.results import FINAL, FoldFolder, ModelFolder, parse_fold
from segwright.task import Task

_BYTES_PER_WEIGHT = 4

NetworkBuilder = Callable[[Plan, Configuration, int, int, bool], nn.Module]
"""Builds a network of (plan, configuration, input channels, output channels, deep supervision)."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model in memory. Build it with `Predictor.from_folder`, or from the parts that a training holds.

    `mirror_axes` are the axes of the patch that may be mirrored; empty them (`dataclasses.replace`) to predict without.
    `checkpoints` are the digests of the files that the networks were read from, if they were.
    """

    task: Task
    networks: tuple[nn.Module, ...]
    mirror_axes: tuple[int, ...] = ()
    step_size: float = 0.5
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    folds: tuple[str, ...] = ()
    checkpoint_name: str = FINAL
    checkpoints: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_folder(
        cls,
        model_folder: Path,
        *,
        folds: Sequence[int | str] | None = None,
        checkpoint_name: str = FINAL,
        device: str | torch.device = "cpu",
        step_size: float = 0.5,
        mirroring: bool = True,
        accept_plan: bool = False,
        build: NetworkBuilder | None = None,
    ) -> Predictor:
        """Load a model folder of Segwright or nnU-Net v2 (`Trainer__plans__configuration`).

        Without `folds` all of `fold_0`, `fold_1`, ... that hold the checkpoint are used, `fold_all` only if it is asked
        for. The configuration and the axes to mirror are read from the checkpoint; `mirroring=False` mirrors none.
        `accept_plan` predicts though plans.json was edited after the training, if the weights mean the same with it.
        `build` is the `build_network_architecture` of the trainer class that trained the model, if it has its own.

        Raises:
            MissingFileError: the folder, its plans.json or dataset.json, or a checkpoint is not there.
            CheckpointError, PlanError, DatasetError: one of these files is wrong.
        """
        model = ModelFolder(Path(model_folder))
        model.require()
        plan, description = Plan.read(model.plans), DatasetDescription.read(model.dataset)
        chosen = _folds(model, folds, checkpoint_name)
        networks: list[nn.Module] = []
        digests: list[str] = []
        first: Checkpoint | None = None
        changes: dict[str, PlanChange] = {}
        for fold in chosen:
            checkpoint = Checkpoint.read(fold.path / checkpoint_name)
            first = first or checkpoint.without_tensors()
            _check_same_configuration(checkpoint, first)
            task = Task.of(plan, checkpoint.configuration, description)
            changes.update(_accepted_changes(checkpoint, task, accept_plan))
            network = _network(task, checkpoint, build)
            load_state_dict(
                network,
                checkpoint.network_weights,
                where=f"{checkpoint.where}, trained by {checkpoint.trainer_class_name or 'a class without a name'}",
                network_name=f"the network of the plan, {task.configuration.architecture.network_class_name}"
                if build is None
                else "the network that --trainer builds",
            )
            networks.append(network.to(device).eval())
            digests.append(checkpoint.digest)
        assert first is not None, "at least one fold, or an error before"
        return cls(
            task=task,
            networks=tuple(networks),
            mirror_axes=first.mirror_axes if mirroring else (),
            step_size=step_size,
            device=torch.device(device),
            folds=tuple(str(fold.fold) for fold in chosen),
            checkpoint_name=checkpoint_name,
            checkpoints=tuple(digests),
            warnings=(*_warnings(first), *(f"plans.json was edited: {change}." for change in changes.values())),
        )

    @property
    def plan(self) -> Plan:
        """The plan of the model."""
        return self.task.plan

    @property
    def configuration(self) -> Configuration:
        """The configuration that was trained."""
        return self.task.configuration

    @property
    def description(self) -> DatasetDescription:
        """The dataset.json of the training data."""
        return self.task.description

    @cached_property
    def origin(self) -> Origin:
        """Identifies label maps of this model and these settings; excludes the device and all paths."""
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
        case = preprocess_case(image, None, task=self.task, where=where)
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
            num_outputs=self.task.num_outputs,
            step_size=self.step_size,
            mirror_axes=self.mirror_axes,
            device=self.device,
            progress=progress,
        )

    def decide(self, logits: torch.Tensor, properties: Mapping[str, Any]) -> NDArray[Any]:
        """Label map (z, y, x) on the original grid of logits on the network's grid."""
        return logits_to_label_map(logits.numpy(), properties=properties, task=self.task)


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


def _accepted_changes(checkpoint: Checkpoint, task: Task, accept: bool) -> dict[str, PlanChange]:
    """What was edited in plans.json and dataset.json since the training, by key, if it may be used so."""
    changes = changes_since(checkpoint, task)
    harmless = all(change.is_harmless for change in changes)
    if not (accept and harmless):
        refuse_changes(
            [change for change in changes if change.changes_predictions],
            where=f"{task.plan.where}, or dataset.json beside it",
            made=checkpoint.where,
            remedies="Put the values back" + (", or predict with these by --accept-plan." if harmless else "."),
        )
    return {change.key: change for change in changes}


def _network(task: Task, checkpoint: Checkpoint, build: NetworkBuilder | None) -> nn.Module:
    task.require_predictable()
    if build is not None:
        return build(task.plan, task.configuration, task.num_inputs, task.num_outputs, False)
    if checkpoint.builds_own_network:
        name = checkpoint.trainer_class_name
        raise CheckpointError(
            message(
                checkpoint.where,
                expected=f"the trainer class '{name}', which builds its own network",
                got="no --trainer",
                remedy=f"Name the file that the class is in: --trainer FILE.py:{name}.",
            )
        )
    _refuse_more_weights_than_fit(task)
    return build_network(
        task.configuration.architecture,
        num_input_channels=task.num_inputs,
        num_outputs=task.num_outputs,
        deep_supervision=False,
    )


def _refuse_more_weights_than_fit(task: Task) -> None:
    architecture = task.configuration.architecture
    if not architecture.is_computable:
        return
    count = parameter_count(architecture, num_input_channels=task.num_inputs, num_outputs=task.num_outputs)
    wanted, available = count * _BYTES_PER_WEIGHT, available_memory_bytes()
    if wanted > available:
        raise PlanError(
            message(
                f"plans, configuration {task.configuration.name!r}, key 'architecture'",
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


def _folds(model: ModelFolder, wanted: Sequence[int | str] | None, checkpoint_name: str) -> tuple[FoldFolder, ...]:
    """The folds to use; every one of them has the checkpoint."""
    parse_name(checkpoint_name, where=f"{model.path}, checkpoint", error=SettingsError)
    if wanted is None:
        chosen = tuple(model.fold(fold) for fold in model.folds_with(checkpoint_name))
    else:
        chosen = tuple(model.fold(parse_fold(str(fold))) for fold in wanted)
    absent = [f"{fold.path.name}/{checkpoint_name}" for fold in chosen if not (fold.path / checkpoint_name).is_file()]
    if absent or not chosen:
        present = sorted(str(path.relative_to(model.path)) for path in model.path.glob("fold_*/*.pth"))
        raise MissingFileError(
            message(
                model.path,
                expected=" and ".join(absent) or f"fold_*/{checkpoint_name}",
                got=", ".join(present) or "no checkpoint at all",
                remedy="Name a fold and a checkpoint that are there." if present else "Train the model first.",
            )
        )
    return chosen
