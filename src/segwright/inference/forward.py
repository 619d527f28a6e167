"""The forward pass by torch: networks on a device, averaged over their mirrored views."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segwright.errors import SettingsError, message
from segwright.inference.sliding_window import Forward, predict_slabs, whole_logits
from segwright.interop.weights import unwrap
from segwright.parallel import Progress

# Small tiles share a forward pass. The norms that networks use look at one sample at a time, so this changes no result.
VOXELS_PER_BATCH_ON_CPU = 2**18
VOXELS_PER_BATCH_ON_ACCELERATOR = 2**21


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
    _check_mirror_axes(mirror_axes, patch_size)
    device = torch.device(device)
    with torch_forward(networks, mirror_axes, device) as forward:
        slabs = predict_slabs(
            forward,
            data.to(torch.float32).numpy(),
            patch_size=patch_size,
            num_outputs=num_outputs,
            tiles_at_once=_batch_size(patch_size, device),
            step_size=step_size,
            progress=progress,
        )
        return torch.from_numpy(whole_logits(slabs, (num_outputs, *data.shape[1:])))


@contextlib.contextmanager
def torch_forward(networks: Sequence[nn.Module], mirror_axes: Sequence[int], device: torch.device) -> Iterator[Forward]:
    """Give the forward pass of networks, which are ready for it as long as this lasts."""

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            predicted = _mean_prediction(networks, torch.from_numpy(batch).to(device), mirror_axes)
        return predicted.cpu().numpy()

    with _ready(networks, device):
        yield forward


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


def _batch_size(patch_size: Sequence[int], device: torch.device) -> int:
    voxels = VOXELS_PER_BATCH_ON_CPU if device.type == "cpu" else VOXELS_PER_BATCH_ON_ACCELERATOR
    for size in patch_size:
        voxels //= size
    return max(1, voxels)


def _check_mirror_axes(mirror_axes: Sequence[int], patch_size: Sequence[int]) -> None:
    if not set(mirror_axes) <= set(range(len(patch_size))):
        raise SettingsError(
            message(
                "setting 'mirror_axes'",
                expected=f"axes of the patch, 0 to {len(patch_size) - 1}",
                got=list(mirror_axes),
                remedy="Predict without mirroring, or correct the checkpoint's inference_allowed_mirroring_axes.",
            )
        )
