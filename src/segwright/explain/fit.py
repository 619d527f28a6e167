"""Whether a training step fits the memory that there is, and the largest batch that does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from segwright.errors import SettingsError, message
from segwright.explain.step_memory import count_step_memory
from segwright.parallel import available_memory_bytes
from segwright.planning.wording import gigabytes
from segwright.training.loading import PREFETCHED_BATCHES

if TYPE_CHECKING:
    from segwright.training.trainer import Trainer

# No device has as much: a step beyond it is a mistake wherever the plan is to be trained.
MORE_THAN_ANY_DEVICE = 1000 << 30


def memory_there(device: torch.device) -> int:
    """Bytes that this process can have on a device: what is free, and on a GPU what it holds already."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return available_memory_bytes()


def memory_here() -> dict[str, int]:
    """Free bytes by type of device, of the devices whose memory of a step is known: the CPU, and CUDA's first."""
    kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    return {kind: memory_there(torch.device(kind)) for kind in kinds}


def refuse_absurd(needed: int, what: str) -> None:
    """Refuse a step that fits no device that there is. What merely exceeds this machine may be meant for another."""
    if needed > MORE_THAN_ANY_DEVICE:
        raise SettingsError(
            message(
                what,
                expected=f"a training step within {gigabytes(MORE_THAN_ANY_DEVICE)}, more than any device has",
                got=f"{gigabytes(needed)} on a GPU",
                remedy="Take a smaller batch, patch or number of features; --max-batch searches the largest batch.",
            )
        )


def largest_batch_within(limit: int, bytes_of: Callable[[int], int]) -> int:
    """Find the largest batch whose `bytes_of` are within a limit; 0 where those of a single patch are not.

    The bytes grow with the batch, from one line over to a steeper one, so the line through two small batches leads
    beyond the limit; the way back never takes more off than the bytes of a patch allow.
    """
    two, four = bytes_of(2), bytes_of(4)
    batch = max(4, 2 + 2 * (limit - two) // max(four - two, 1))
    while batch > 0 and (taken := bytes_of(batch)) > limit:
        batch -= max(1, (taken - limit) * batch // taken)
    return batch


def refuse_what_does_not_fit(trainer: Trainer) -> None:
    """Refuse a batch whose step cannot fit the device, or whose loading cannot fit the machine, before it is tried.

    A network or a loss of the user's own that cannot be computed without memory is not refused. A `train_step` of the
    user's own is not called before its time, as it may do more than compute: only what loads its batches is counted.

    Raises:
        SettingsError: naming the setting and its source, what it needs, what there is, and the largest batch that fits.
    """
    from segwright.training.trainer import Trainer

    setting, device = trainer.budget.settings["batch_size"], trainer.device
    there, machine = memory_there(device), available_memory_bytes()
    loaded = _loaded_bytes_per_patch(trainer)

    has_own_step = type(trainer).train_step is not Trainer.train_step

    def step(batch_size: int) -> int:
        held = 0 if has_own_step else count_step_memory(trainer, device=device.type, batch_size=batch_size).total
        return held + (batch_size * loaded if device.type == "cpu" else 0)

    try:
        needed = step(setting.value)
        if needed <= there and setting.value * loaded <= machine:
            return
        largest = min(largest_batch_within(there, step), machine // loaded)
    except Exception:
        if type(trainer).__module__.startswith("segwright."):
            raise
        return
    short = needed > there
    raise SettingsError(
        message(
            f"batch_size {setting.value} (from the {setting.source}) of '{trainer.configuration_name}'",
            expected=(
                f"a training step within the {gigabytes(there)} that are free on {device}"
                if short
                else f"batches to load within the {gigabytes(machine)} of memory that are free"
            ),
            got=f"about {gigabytes(needed if short else setting.value * loaded)}",
            remedy=(
                f"The largest batch that fits is {largest}: --batch-size {largest}, or set it in the plan."
                if largest
                else "Not even a batch of 1 fits: plan with a smaller --gpu-memory, or edit patch_size or features."
            )
            + " --force tries it anyway.",
        )
    )


def _loaded_bytes_per_patch(trainer: Trainer) -> int:
    """Bytes of a patch times the batches that the loaders of training and validation hold ready, roughly."""
    voxels = math.prod(trainer.configuration.patch_size)
    # float32 images; the labels of all resolutions, int16, come to less than 4 bytes a voxel
    patch = voxels * (4 * trainer.task.num_inputs + 4)
    return 2 * max(1, trainer.loader_workers * PREFETCHED_BATCHES) * patch
