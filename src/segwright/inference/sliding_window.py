"""Logits of a whole image from a network that sees one tile at a time (nnU-Net v2)."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segwright.errors import CheckpointError, ImageError, SettingsError, message
from segwright.inference.tiling import gaussian_importance, tile_starts
from segwright.interop.weights import unwrap
from segwright.parallel import Progress

# Small tiles share a forward pass. The norms that networks use look at one sample at a time, so this changes no result.
VOXELS_PER_BATCH_ON_CPU = 2**18
VOXELS_PER_BATCH_ON_ACCELERATOR = 2**21

Slices = tuple[slice | int, ...]


@dataclass(frozen=True)
class _Padding:
    """How an image was padded: (first, last) for `torch.nn.functional.pad`, and the slices that undo it."""

    amounts: tuple[int, ...]
    undo: tuple[slice, ...]


def predict_logits(
    networks: Sequence[nn.Module],
    data: Tensor,
    *,
    patch_size: Sequence[int],
    num_outputs: int,
    step_size: float = 0.5,
    mirror_axes: Sequence[int] = (),
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Tensor:
    """Predict the logits of a preprocessed image, averaged over networks and mirrored views, tile by tile.

    Takes (c, z, y, x) of any size, gives float32 (num_outputs, z, y, x) on the CPU. A patch of two axes (y, x) is
    applied slice by slice. `mirror_axes` counts the axes of the patch; every combination of them is flipped. Networks
    are put on `device` and used without deep supervision; how they were set otherwise is restored. Half precision is
    used on CUDA alone, sums are float32.

    Raises:
        SettingsError: the step size or a mirror axis is out of its range.
        ImageError: the image is not finite.
        CheckpointError: the networks gave something that is not finite.
    """
    _check_settings(step_size, mirror_axes, patch_size)
    device = torch.device(device)
    data = data.to(torch.float32)
    _check_image(data)
    padding = _padding(data.shape[1:], patch_size)
    padded = nn.functional.pad(data, padding.amounts) if any(padding.amounts) else data
    tiles = _tiles(padded.shape[1:], patch_size, step_size)
    with torch.no_grad(), _ready(networks, device):
        logits = _accumulate(
            networks,
            padded,
            tiles,
            patch_size=tuple(patch_size),
            num_outputs=num_outputs,
            mirror_axes=mirror_axes,
            device=device,
            progress=progress,
        )
    if not torch.isfinite(logits).all():
        raise CheckpointError(
            message(
                "network output",
                expected="finite logits",
                got=f"NaN or infinity in {int((~torch.isfinite(logits)).sum())} values",
                remedy="The weights are damaged or overflow half precision; try device 'cpu' or another checkpoint.",
            )
        )
    return logits[_all_channels(padding.undo)]


def _accumulate(
    networks: Sequence[nn.Module],
    data: Tensor,
    tiles: Sequence[Slices],
    *,
    patch_size: tuple[int, ...],
    num_outputs: int,
    mirror_axes: Sequence[int],
    device: torch.device,
    progress: Progress | None,
) -> Tensor:
    importance = gaussian_importance(patch_size)
    importance_on_device = importance.to(device)
    logits = torch.zeros((num_outputs, *data.shape[1:]))
    total_importance = torch.zeros(data.shape[1:])
    batch_size = _batch_size(patch_size, device)
    for first in range(0, len(tiles), batch_size):
        some = tiles[first : first + batch_size]
        batch = torch.stack([data[_all_channels(tile)] for tile in some]).to(device)
        predicted = _mean_prediction(networks, batch, mirror_axes).float().mul_(importance_on_device).cpu()
        for tile, tile_logits in zip(some, predicted, strict=True):
            logits[_all_channels(tile)] += tile_logits
            total_importance[tile] += importance
        if progress is not None:
            progress("predict tiles", first + len(some), len(tiles))
    return logits.div_(total_importance)


def _mean_prediction(networks: Sequence[nn.Module], batch: Tensor, mirror_axes: Sequence[int]) -> Tensor:
    """Mean of the logits over networks and over all combinations of flipped axes."""
    axes = [axis + 2 for axis in mirror_axes]
    views = [view for count in range(len(axes) + 1) for view in itertools.combinations(axes, count)]
    total: Tensor | None = None
    for network, view in itertools.product(networks, views):
        predicted = _forward(network, batch.flip(view) if view else batch)
        predicted = predicted.flip(view) if view else predicted
        total = predicted if total is None else total.add_(predicted)
    assert total is not None, "at least one network predicts"
    return total.div_(len(networks) * len(views))


def _forward(network: nn.Module, batch: Tensor) -> Tensor:
    half = torch.autocast("cuda") if batch.device.type == "cuda" else contextlib.nullcontext()
    with half:
        output = network(batch)
    # Half precision is for the convolutions; sums over views and networks are made in single precision.
    return (output[0] if isinstance(output, list | tuple) else output).float()  # type: ignore[no-any-return]


@contextlib.contextmanager
def _ready(networks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Networks on the device, in evaluation mode and with one output; their modes are restored afterwards."""
    decoders = [_switchable_decoder(network) for network in networks]
    before = [
        (network.training, getattr(decoder, "deep_supervision", False))
        for network, decoder in zip(networks, decoders, strict=True)
    ]
    try:
        for network, decoder in zip(networks, decoders, strict=True):
            network.to(device).eval()
            if decoder is not None:
                decoder.deep_supervision = False
        yield
    finally:
        for network, decoder, (training, deep_supervision) in zip(networks, decoders, before, strict=True):
            network.train(training)
            if decoder is not None:
                decoder.deep_supervision = deep_supervision


def _switchable_decoder(network: nn.Module) -> Any:
    decoder = getattr(unwrap(network), "decoder", None)
    return decoder if hasattr(decoder, "deep_supervision") else None


def _tiles(image_size: Sequence[int], patch_size: Sequence[int], step_size: float) -> list[Slices]:
    """Slices of every tile in (z, y, x); for a patch of two axes the first one is the number of the slice."""
    flat_axes = len(image_size) - len(patch_size)
    starts = tile_starts(image_size[flat_axes:], patch_size, step_size=step_size)
    corners = itertools.product(*(range(size) for size in image_size[:flat_axes]), *starts)
    return [
        (
            *corner[:flat_axes],
            *(slice(start, start + size) for start, size in zip(corner[flat_axes:], patch_size, strict=True)),
        )
        for corner in corners
    ]


def _all_channels(tile: Slices) -> Slices:
    return (slice(None), *tile)


def _padding(image_size: Sequence[int], patch_size: Sequence[int]) -> _Padding:
    """Padding with zeros on both sides up to the patch, the odd voxel behind."""
    wanted = [*image_size[: len(image_size) - len(patch_size)], *patch_size]
    missing = [max(0, want - have) for want, have in zip(wanted, image_size, strict=True)]
    before = [amount // 2 for amount in missing]
    amounts = [part for first, both in zip(before, missing, strict=True) for part in (both - first, first)]
    undo = tuple(slice(first, first + size) for first, size in zip(before, image_size, strict=True))
    return _Padding(tuple(reversed(amounts)), undo)


def _batch_size(patch_size: Sequence[int], device: torch.device) -> int:
    voxels = VOXELS_PER_BATCH_ON_CPU if device.type == "cpu" else VOXELS_PER_BATCH_ON_ACCELERATOR
    for size in patch_size:
        voxels //= size
    return max(1, voxels)


def _check_settings(step_size: float, mirror_axes: Sequence[int], patch_size: Sequence[int]) -> None:
    if not 0 < step_size <= 1:
        raise SettingsError(
            message(
                "setting 'step_size'",
                expected="a share of the tile above 0 and up to 1",
                got=step_size,
                remedy="0.5 is nnU-Net's; larger is faster, smaller smoother.",
            )
        )
    if not set(mirror_axes) <= set(range(len(patch_size))):
        raise SettingsError(
            message(
                "setting 'mirror_axes'",
                expected=f"axes of the patch, 0 to {len(patch_size) - 1}",
                got=list(mirror_axes),
                remedy="Predict without mirroring, or correct the checkpoint's inference_allowed_mirroring_axes.",
            )
        )


def _check_image(data: Tensor) -> None:
    if not torch.isfinite(data).all():
        raise ImageError(
            message(
                "preprocessed image",
                expected="finite values",
                got=f"NaN or infinity in {int((~torch.isfinite(data)).sum())} voxels",
                remedy="Replace such values in the image file.",
            )
        )
