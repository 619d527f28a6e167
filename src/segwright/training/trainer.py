"""The trainer of nnU-Net v2, as hooks that a user's class may override; `loop` calls them in order."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from segwright.augmentation.pipeline import Augmentation, augmentation_named
from segwright.dataset import DatasetDescription, Split
from segwright.interop.checkpoint import Checkpoint, Progress
from segwright.interop.weights import load_state_dict, to_nnunet_state_dict
from segwright.networks import build_network
from segwright.planning.budget import SETTING_NAMES, Budget, Setting, resolve_budget
from segwright.planning.plan import Configuration, Plan
from segwright.preprocessing.store import PreprocessedStore
from segwright.results import BEST, FINAL, LATEST
from segwright.task import Task
from segwright.training.chance import generators_kept, seed_generators, seed_of_fold
from segwright.training.history import History
from segwright.training.loading import PatchDataset, Sampling, StepSampler, make_loader
from segwright.training.losses import DeepSupervisionLoss, DiceCELoss, deep_supervision_weights
from segwright.training.monitor import Monitor, SilentMonitor
from segwright.training.progress_plot import plot_progress
from segwright.training.schedule import IterationWarmupSchedule, make_optimizer, make_schedule
from segwright.training.state import TrainingState, load_optimizer_state, load_scaler_state

GRADIENT_NORM = 12.0
PLOT_EVERY_SECONDS = 30.0

Batch = Mapping[str, Any]


class Trainer:
    """Trains one configuration on one fold. Inherit from it to change a setting or a hook.

    Set class attributes, or attributes in `__init__` after `super().__init__(...)`, as in nnU-Net:

        class ShortTrainer(Trainer):
            num_epochs = 100

    A setting given neither on the command line nor by a class comes from the plan, otherwise from nnU-Net's defaults.
    The attributes hold the resolved values once `prepare` has run.
    """

    num_epochs: int = 1000
    num_iterations_per_epoch: int = 250
    num_val_iterations_per_epoch: int = 50
    batch_size: int
    initial_lr: float = 1e-2
    weight_decay: float = 3e-5
    oversample_foreground_percent: float = 0.33
    save_every: int = 1
    seed: int = 0
    recipe: str
    enable_deep_supervision: bool = True

    def __init__(
        self,
        plans: Mapping[str, Any],
        configuration: str,
        fold: int | str,
        dataset_json: Mapping[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's own signature
    ) -> None:
        self.plan = Plan.from_json(plans)
        self.configuration_name = configuration
        self.fold = fold
        self.description = DatasetDescription.from_json(dataset_json)
        self.task = Task.of(self.plan, configuration, self.description)
        self.configuration: Configuration = self.task.configuration
        self.labels = self.task.labels
        self.device = device
        self.monitor: Monitor = SilentMonitor()
        self.history = History()
        self.current_epoch = 0
        self.state = TrainingState(0, ())
        self.best_ema: float | None = None
        self.network: nn.Module
        self.optimizer: torch.optim.Optimizer
        self.lr_scheduler: Any
        self.loss: nn.Module
        self.grad_scaler = torch.amp.GradScaler("cuda") if device.type == "cuda" else None
        self.data_wait_seconds = 0.0  # in this epoch, spent waiting for batches
        self._last_plot = -math.inf

    # ------------------------------------------------------------------ preparation

    def prepare(
        self,
        *,
        store: PreprocessedStore,
        split: Split,
        output_folder: Path,
        flags: Mapping[str, Any] | None = None,
        resumed: Mapping[str, Setting] | None = None,
        monitor: Monitor | None = None,
        loader_workers: int = 0,
        force: bool = False,
    ) -> None:
        """Resolve the settings and build everything that a run needs.

        Args:
            store: preprocessed cases of the configuration.
            split: case ids to train and to validate on.
            output_folder: folder of the fold.
            flags: settings from the command line; None means not given.
            resumed: settings of the checkpoint to continue from, which only flags override.
            monitor: receives the events.
            loader_workers: processes that load batches; 0 loads in this process.
            force: build it even where the batch cannot fit the memory that there is.
        """
        self.store, self.split, self.output_folder = store, split, output_folder
        self.monitor = monitor or self.monitor
        self.loader_workers = loader_workers
        self.budget: Budget = resolve_budget(
            plan=self.configuration.raw,
            plan_where=f"configuration '{self.configuration_name}'",
            trainer=self.user_settings(),
            flags=flags,
            resumed=resumed,
        )
        for name in SETTING_NAMES:
            setattr(self, name, self.budget.value(name))
        self.recipe = self.budget.recipe.name
        self.task.require_trainable()
        if not force:
            from segwright.explain.fit import refuse_what_does_not_fit

            refuse_what_does_not_fit(self)
        self.initialize()

    def user_settings(self) -> dict[str, Any]:
        """Settings that the user's class sets, as class attributes or on the instance."""
        own = [cls for cls in type(self).__mro__ if cls not in Trainer.__mro__]
        layers = [vars(self), *(vars(cls) for cls in own)]
        found: dict[str, Any] = {}
        for name in (*SETTING_NAMES, "recipe"):
            layer = next((layer for layer in layers if name in layer), None)
            if layer is not None:
                found[name] = layer[name]
        return found

    def initialize(self) -> None:
        """Build network, optimizer, schedule and loss."""
        with generators_kept():
            seed_generators(self.fold_seed)
            network = self.build_network_architecture(
                self.plan,
                self.configuration,
                self.task.num_inputs,
                self.task.num_outputs,
                self.enable_deep_supervision,
            )
            self.memory_format = memory_format_on(self.device, self.configuration)
            self.network = network.to(self.device)
            self.network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
            self.optimizer, self.lr_scheduler = self.configure_optimizers()
            self.loss = self._build_loss()
            self.augmentation = self.get_training_augmentation()

    @property
    def fold_seed(self) -> int:
        """Seed of all random numbers of this fold."""
        return seed_of_fold(self.seed, self.fold)

    @staticmethod
    def build_network_architecture(
        plan: Plan,
        configuration: Configuration,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network. With deep supervision it returns a list of logits, the highest resolution first."""
        return build_network(
            configuration.architecture,
            num_input_channels=num_input_channels,
            num_outputs=num_output_channels,
            deep_supervision=enable_deep_supervision,
        )

    @property
    def builds_own_network(self) -> bool:
        """Whether a user's class builds a network other than the plan's."""
        return type(self).build_network_architecture is not Trainer.build_network_architecture

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """Build optimizer and learning-rate schedule; the schedule has `step(epoch)`."""
        recipe = self.budget.recipe
        optimizer = make_optimizer(
            self.network.parameters(), recipe, initial_lr=self.initial_lr, weight_decay=self.weight_decay
        )
        schedule = make_schedule(
            optimizer,
            recipe,
            initial_lr=self.initial_lr,
            num_epochs=self.num_epochs,
            iterations_per_epoch=self.num_iterations_per_epoch,
        )
        return optimizer, schedule

    def _build_loss(self) -> nn.Module:
        loss: nn.Module = DiceCELoss(batch_dice=self.configuration.batch_dice)
        if self.enable_deep_supervision:
            loss = DeepSupervisionLoss(loss, deep_supervision_weights(len(self._get_deep_supervision_scales())))
        return loss

    def _get_deep_supervision_scales(self) -> tuple[tuple[float, ...], ...]:
        """Scale of each output relative to the patch, the highest resolution first; the bottleneck has no output."""
        if not self.enable_deep_supervision:
            return ((1.0,) * len(self.configuration.patch_size),)
        totals = np.cumprod(np.array(self.configuration.architecture.strides), axis=0)
        return tuple(tuple(float(1 / stride) for stride in total) for total in totals[:-1])

    def get_training_augmentation(self) -> Augmentation:
        """Choose the augmentation of the training patches: the recipe's."""
        recipe = self.budget.recipe
        return augmentation_named(
            recipe.augmentation,
            self.configuration.patch_size,
            use_mask_for_norm=self.configuration.use_mask_for_norm,
            mirror_axes=None if recipe.mirroring else (),
        )

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Axes mirrored in training, along which prediction may mirror too (`inference_allowed_mirroring_axes`)."""
        return tuple(self.augmentation.mirror_axes)

    def get_dataloaders(self) -> tuple[DataLoader[dict[str, Any]], DataLoader[dict[str, Any]]]:
        """Build the loaders for the rest of the run, for training and for validation."""
        training = self._loader(
            self.split.train, self.augmentation, self.num_iterations_per_epoch, start_step=self.state.step
        )
        validation = self._loader(self.split.val, None, self.num_val_iterations_per_epoch)
        return training, validation

    def _loader(
        self, case_ids: tuple[str, ...], augmentation: Augmentation | None, steps: int, *, start_step: int = 0
    ) -> DataLoader[dict[str, Any]]:
        sampling = Sampling(
            case_ids=tuple(sorted(case_ids)),
            patch_size=self.configuration.patch_size,
            batch_size=self.batch_size,
            oversample_foreground=self.oversample_foreground_percent,
            seed=self.fold_seed,
            augmentation=augmentation,
            labels=self.labels,
            label_scales=self._get_deep_supervision_scales(),
        )
        sampler = StepSampler(
            batch_size=self.batch_size,
            steps_per_epoch=steps,
            num_epochs=self.num_epochs,
            start_epoch=self.current_epoch,
            start_step=start_step,
        )
        return make_loader(
            PatchDataset(self.store, sampling),
            sampler,
            workers=self.loader_workers,
            pin_memory=self.device.type == "cuda",
        )

    # ------------------------------------------------------------------ steps, which `loop` takes

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Take one optimizer step on a batch and return its loss."""
        data, target = self._to_device(batch)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = self.loss(self.network(data), target)
        if self.grad_scaler is None:
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
            self.optimizer.step()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        return {"loss": loss.item()}

    def validation_step(self, batch: Batch) -> dict[str, Any]:
        """Loss and counts of true positive, false positive and false negative voxels of a batch, one per class."""
        data, target = self._to_device(batch)
        with self._autocast():
            output = self.network(data)
            loss = self.loss(output, target)
        logits, labels = (output[0], target[0]) if self.enable_deep_supervision else (output, target)
        predicted = logits.argmax(1)
        counts = [_count(predicted == value, labels[:, 0] == value) for value in range(1, logits.shape[1])]
        return {"loss": loss.item(), "counts": np.array(counts)}

    def _to_device(self, batch: Batch) -> tuple[Tensor, Any]:
        data = batch["data"].to(self.device, memory_format=self.memory_format, non_blocking=True)
        targets = [labels.to(self.device, non_blocking=True) for labels in batch["target"]]
        return data, targets if self.enable_deep_supervision else targets[0]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, enabled=self.device.type == "cuda")

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Switch the network between a list of outputs and the one of highest resolution."""
        self.network.decoder.deep_supervision = enabled  # type: ignore[union-attr]

    # ------------------------------------------------------------------ hooks

    def on_train_start(self) -> None:
        """Run before the first epoch."""

    def on_epoch_start(self) -> None:
        """Run before each epoch."""
        self._epoch_start, self.data_wait_seconds = time.time(), 0.0

    def on_train_epoch_start(self) -> None:
        """Put the network into training mode and set the epoch's learning rate."""
        self.network.train()
        if not isinstance(self.lr_scheduler, IterationWarmupSchedule):
            self.lr_scheduler.step(self.current_epoch)

    def on_train_epoch_end(self) -> None:
        """Run after the training iterations of an epoch."""

    def on_validation_epoch_start(self) -> None:
        """Put the network into evaluation mode."""
        self.network.eval()

    def on_validation_epoch_end(self, outputs: list[dict[str, Any]]) -> None:
        """Compute the epoch's pseudo Dice from the counts of all validation batches, and record the epoch."""
        true_positive, false_positive, false_negative = np.sum([output["counts"] for output in outputs], axis=0).T
        with np.errstate(invalid="ignore"):
            dice = 2 * true_positive / (2 * true_positive + false_positive + false_negative)
        self.history.add_epoch(
            train_loss=float(np.mean(self.state.train_losses)),
            val_loss=float(np.mean([output["loss"] for output in outputs])),
            dice_per_class=[float(value) for value in dice],
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            start=self._epoch_start,
            end=time.time(),
        )

    def on_epoch_end(self) -> None:
        """Report the epoch, save checkpoints that are due, plot."""
        history = self.history
        ema = history.last("ema_fg_dice")
        is_best = not math.isnan(ema) and (self.best_ema is None or ema > self.best_ema)
        self.current_epoch += 1
        self.state = TrainingState(0, ())
        if is_best:
            self.best_ema = ema
            self.save_checkpoint(self.output_folder / BEST)
        if self.current_epoch % self.save_every == 0 and self.current_epoch < self.num_epochs:
            self.save_checkpoint(self.output_folder / LATEST)
        self.monitor.event("epoch", self._epoch_event())
        if time.monotonic() - self._last_plot > PLOT_EVERY_SECONDS or self.current_epoch == self.num_epochs:
            plot_progress(history, self.output_folder / "progress.png")
            self._last_plot = time.monotonic()

    def _epoch_event(self) -> dict[str, Any]:
        last = self.history.last
        return {
            "epoch": self.current_epoch - 1,
            "learning_rate": last("lrs"),
            "train_loss": last("train_losses"),
            "val_loss": last("val_losses"),
            "pseudo_dice": last("dice_per_class_or_region"),
            "mean_pseudo_dice": last("mean_fg_dice"),
            "ema_pseudo_dice": last("ema_fg_dice"),
            "seconds": last("epoch_end_timestamps") - last("epoch_start_timestamps"),
            "data_wait_seconds": self.data_wait_seconds,
        }

    def on_train_end(self) -> None:
        """Save the final checkpoint, which replaces the latest."""
        self.save_checkpoint(self.output_folder / FINAL)
        (self.output_folder / LATEST).unlink(missing_ok=True)

    # ------------------------------------------------------------------ state

    def count_step(self, loss: float, data_wait_seconds: float) -> None:
        """Note a finished training step of this epoch, and how long it waited for its batch."""
        self.state = TrainingState(self.state.step + 1, (*self.state.train_losses, loss))
        self.data_wait_seconds += data_wait_seconds

    def checkpoint(self) -> Checkpoint:
        """The whole state of the training, as it is now."""
        return Checkpoint.of_training(
            network_weights=to_nnunet_state_dict(self.network),
            progress=Progress(
                epoch=self.current_epoch,
                step=self.state.step,
                train_losses=self.state.train_losses,
                best_ema=self.best_ema,
                logging=self.history.lists,
                optimizer_state=self.optimizer.state_dict(),
                grad_scaler_state=None if self.grad_scaler is None else self.grad_scaler.state_dict(),
            ),
            plan=self.plan,
            configuration=self.configuration_name,
            fold=self.fold,
            description=self.description,
            device=self.device,
            mirror_axes=self.mirror_axes,
            own={
                "trainer": type(self).__name__,
                "builds_own_network": self.builds_own_network,
                "budget": self.budget.to_json(len(self.split.train)),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up the state that a checkpoint holds.

        Raises:
            CheckpointError: weights or optimizer state do not fit, or what it holds is no state of a training.
        """
        progress, where = checkpoint.progress, checkpoint.where
        load_state_dict(
            self.network,
            checkpoint.network_weights,
            where=f"{where}, trained by {checkpoint.trainer_class_name or 'a class without a name'}",
            network_name=f"the network of {type(self).__name__}, "
            f"{self.configuration.architecture.network_class_name} in the plan",
        )
        load_optimizer_state(self.optimizer, progress.optimizer_state, where=where)
        if self.grad_scaler is not None and progress.grad_scaler_state is not None:
            load_scaler_state(self.grad_scaler, progress.grad_scaler_state, where=where)
        self.current_epoch, self.best_ema = progress.epoch, progress.best_ema
        self.history = History(progress.logging, where=where)
        self.history.cut(self.current_epoch)
        self.state = TrainingState(progress.step, progress.train_losses)

    def save_checkpoint(self, path: Path) -> None:
        """Write a checkpoint."""
        self.checkpoint().write(path)
        self.monitor.event("checkpoint", {"path": str(path)})

    def print_to_log_file(self, *words: object) -> None:
        """Record a message in the training log and show it."""
        self.monitor.event("message", {"text": " ".join(str(word) for word in words)})


def memory_format_on(device: torch.device, configuration: Configuration) -> torch.memory_format:
    """Layout in which a device computes the configuration's feature maps."""
    # On the CPU a step of a small 3D network takes 30 % less time with channels last; not measured on other devices.
    if device.type != "cpu":
        return torch.contiguous_format
    return torch.channels_last if configuration.is_2d else torch.channels_last_3d


def _count(predicted: Tensor, reference: Tensor) -> tuple[int, int, int]:
    true_positive = int((predicted & reference).sum())
    return true_positive, int(predicted.sum()) - true_positive, int(reference.sum()) - true_positive
