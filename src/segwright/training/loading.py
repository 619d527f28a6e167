"""From the preprocessed store to batches: a map-style data set indexed by sample, and its loader."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segwright.augmentation.deep_supervision import downsample_labels
from segwright.augmentation.pipeline import (
    Augmentation,
    augment_window,
    draw_spatial,
    validation_transform,
    window_for,
)
from segwright.errors import SegwrightError, TrainingError, message
from segwright.labels import Labels
from segwright.preprocessing.store import PreprocessedStore, StoredCase
from segwright.processes import end_with_parent, signal_name
from segwright.training.chance import Moment, draw_for
from segwright.training.sampling import (
    TRAINING_STREAM,
    VALIDATION_STREAM,
    SampleIndex,
    choose_lower_corner,
    is_forced_foreground,
    read_crop,
    sample_rng,
)

_OF_A_DEAD_WORKER = "DataLoader worker (pid"  # torch raises a RuntimeError at any point of the training
PREFETCHED_BATCHES = 3  # that each loading process holds ready


@dataclass(frozen=True)
class Sampling:
    """Everything that determines the patch of a sample index.

    `patch_size` has two axes for a 2D configuration, which samples single slices (1, y, x) of its images. With
    `augmentation=None`, samples are validation patches. `labels` turn label maps into
    targets, at the `label_scales` of deep supervision.
    """

    case_ids: tuple[str, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    oversample_foreground: float
    seed: int
    augmentation: Augmentation | None
    labels: Labels
    label_scales: tuple[tuple[float, ...], ...]


class PatchDataset(Dataset[dict[str, Any]]):
    """Patches of a store, each a pure function of (seed, epoch, step, position in the batch)."""

    def __init__(self, store: PreprocessedStore, sampling: Sampling) -> None:
        self.store = store
        self.sampling = sampling

    def __getitem__(self, index: SampleIndex) -> dict[str, Any]:
        """Load one sample: data (c, *patch) float32, targets (k, *patch) of each resolution, its case id."""
        sampling = self.sampling
        stream = VALIDATION_STREAM if sampling.augmentation is None else TRAINING_STREAM
        rng = sample_rng(sampling.seed, stream, index)
        moment = Moment.VALIDATION_SAMPLE if sampling.augmentation is None else Moment.TRAINING_SAMPLE
        draw_for(sampling.seed, moment, index)  # for transforms of the user
        case_id = sampling.case_ids[int(rng.integers(len(sampling.case_ids)))]
        try:
            image, labels = self._load(case_id, index, rng)
        except SegwrightError:
            raise
        except Exception as error:
            raise TrainingError(
                f"Case '{case_id}' cannot be loaded as a training patch (epoch {index.epoch}, step {index.step}): "
                f"{type(error).__name__}: {error}. If its preprocessed files are damaged, preprocess the case again."
            ) from error
        target = sampling.labels.targets(labels)
        targets = downsample_labels(target, sampling.label_scales) if len(sampling.label_scales) > 1 else [target]
        return {"data": image, "targets": targets, "case_id": case_id}

    def _load(self, case_id: str, index: SampleIndex, rng: np.random.Generator) -> tuple[Any, Any]:
        sampling = self.sampling
        augmentation = sampling.augmentation
        flat = len(sampling.patch_size) == 2
        crop = sampling.patch_size if augmentation is None else augmentation.initial_patch_size
        case = self.store.open(case_id)
        forced = is_forced_foreground(index.position, sampling.batch_size, sampling.oversample_foreground)
        lower = choose_lower_corner(
            case.data.shape[1:],
            crop_size=(1, *crop) if flat else crop,
            patch_size=(1, *sampling.patch_size) if flat else sampling.patch_size,
            forced_foreground=forced,
            class_locations=self.store.read_properties(case_id)["class_locations"] if forced else {},
            rng=rng,
        )
        if augmentation is None:
            return validation_transform(*_read(case, lower, crop))
        # Most samples are neither rotated nor scaled and need only the centre of the enlarged crop.
        spatial = draw_spatial(augmentation, rng)
        window = window_for(augmentation, spatial)
        offset = [part.start for part in window]
        inner = (lower[0], *np.add(lower[1:], offset)) if flat else tuple(np.add(lower, offset))
        image, labels = _read(case, inner, tuple(part.stop - part.start for part in window))
        return augment_window(image, labels, augmentation, spatial, rng)


def _read(case: StoredCase, lower: Sequence[int], size: Sequence[int]) -> tuple[Any, Any]:
    flat = len(size) == 2
    crop_size = (1, *size) if flat else size
    image = read_crop(case.data, lower, crop_size, fill=0).astype(np.float32, copy=False)
    labels = read_crop(case.seg, lower, crop_size, fill=-1).astype(np.int16, copy=False)
    return (image[:, 0], labels[:, 0]) if flat else (image, labels)


class StepSampler:
    """The sample indices of every step from a given one to the end of the run, one list per batch."""

    def __init__(
        self, *, batch_size: int, steps_per_epoch: int, num_epochs: int, start_epoch: int, start_step: int = 0
    ) -> None:
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.num_epochs = num_epochs
        self.start_epoch = start_epoch
        self.start_step = start_step

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        for epoch in range(self.start_epoch, self.num_epochs):
            first = self.start_step if epoch == self.start_epoch else 0
            for step in range(first, self.steps_per_epoch):
                yield [SampleIndex(epoch, step, position) for position in range(self.batch_size)]

    def __len__(self) -> int:
        return (self.num_epochs - self.start_epoch) * self.steps_per_epoch - self.start_step


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples: data (b, c, *patch) float32, target a list of (b, 1, *patch) int16, keys the case ids."""
    resolutions = zip(*(sample["targets"] for sample in samples), strict=True)
    return {
        "data": _stack([sample["data"] for sample in samples]),
        "target": [_stack(list(maps)) for maps in resolutions],
        "keys": [sample["case_id"] for sample in samples],
    }


def _stack(arrays: Sequence[np.ndarray[Any, Any]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def make_loader(
    dataset: PatchDataset, sampler: StepSampler, *, workers: int, pin_memory: bool
) -> DataLoader[dict[str, Any]]:
    """Build the loader of a whole run. Its batches do not depend on the number of workers."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=functools.partial(_start_worker, os.getpid()) if workers else None,
        prefetch_factor=PREFETCHED_BATCHES if workers else None,
    )


@contextmanager
def batches_of(*loaders: DataLoader[dict[str, Any]]) -> Iterator[list[Any]]:
    """Yield an iterator over each loader's batches, and end their processes after the block in any case.

    At exit, Python would send them SIGTERM, which they ignore, and wait for them forever.

    Raises:
        TrainingError: a loading process was killed.
    """
    iterators: list[Any] = []
    try:
        iterators.extend(map(iter, loaders))
        yield iterators
    except RuntimeError as error:
        if _OF_A_DEAD_WORKER not in str(error):
            raise
        raise _worker_died(iterators) from error
    finally:
        for iterator in iterators:
            if hasattr(iterator, "_shutdown_workers"):  # torch has no public API for it
                iterator._shutdown_workers()


def _worker_died(iterators: Sequence[Any]) -> TrainingError:
    processes = [process for iterator in iterators for process in getattr(iterator, "_workers", ())]
    names = sorted({name for process in processes if (name := signal_name(process.exitcode)) is not None})
    remedy = "It probably ran out of memory: use fewer --workers, or a machine with more memory"
    if names == ["SIGBUS"]:  # docker's default is 64 MB
        remedy = "It probably ran out of shared memory: use fewer --workers, or docker run --shm-size"
    return TrainingError(
        message(
            "loading processes",
            expected="processes that load batches until the training ends",
            got=f"one that was killed ({', '.join(names)})" if names else "one that ended",
            remedy=f"{remedy}; --continue resumes from the last checkpoint.",
        )
    )


def _start_worker(parent: int, _: int) -> None:
    # Only the training process handles stop requests: it finishes its step and saves; workers end with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(parent)
    torch.set_num_threads(1)
