from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segwright import inference
from segwright.errors import CheckpointError, ImageError, SettingsError
from segwright.inference.forward import predict_logits, torch_forward
from segwright.inference.sliding_window import predict_slabs, whole_logits
from segwright.inference.tiling import gaussian_importance


def network(dims: int, seed: int = 0, outputs: int = 3) -> nn.Module:
    """A small network whose output depends on place, neighbourhood and direction within the tile."""
    torch.manual_seed(seed)
    convolution: Any = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    norm: Any = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
    return nn.Sequential(
        convolution(2, 4, 3, padding=1), norm(4), nn.LeakyReLU(), convolution(4, outputs, 3, padding=1)
    )


def plain_reference(
    networks: Sequence[nn.Module], data: Tensor, patch: tuple[int, ...], step: float, mirror_axes: Sequence[int]
) -> Tensor:
    """The definition, one voxel window at a time in double precision, for images that need no padding."""
    flat, importance = data.ndim - 1 - len(patch), torch.from_numpy(gaussian_importance(patch))
    starts = []
    for size, tile in zip(data.shape[1 + flat :], patch, strict=True):
        count = math.ceil((size - tile) / (tile * step)) + 1
        starts.append([round(i * (size - tile) / max(count - 1, 1)) for i in range(count)])
    total, weight = torch.zeros(3, *data.shape[1:], dtype=torch.float64), torch.zeros(data.shape[1:])
    for corner in itertools.product(*(range(size) for size in data.shape[1 : 1 + flat]), *starts):
        where = (*corner[:flat], *(slice(c, c + p) for c, p in zip(corner[flat:], patch, strict=True)))
        tile_data = data[(slice(None), *where)][None]
        outputs = []
        for net in networks:
            for flips in itertools.product((False, True), repeat=len(mirror_axes)):
                axes = [axis + 2 for axis, flip in zip(mirror_axes, flips, strict=True) if flip]
                outputs.append(torch.flip(net(torch.flip(tile_data, axes)), axes)[0].double())
        total[(slice(None), *where)] += torch.stack(outputs).mean(0) * importance
        weight[where] += importance
    return total / weight


@pytest.mark.parametrize(
    ("shape", "patch", "mirror_axes", "num_networks"),
    [
        ((17, 20, 9), (8, 8, 8), (), 1),
        ((8, 13, 9), (8, 8, 8), (0, 1, 2), 1),
        ((9, 8, 12), (8, 8, 8), (0, 2), 3),
        ((3, 21, 16), (8, 12), (0, 1), 2),
        ((1, 16, 16), (16, 16), (1,), 1),
    ],
)
@torch.no_grad()
def test_equals_the_plain_reference(
    shape: tuple[int, ...], patch: tuple[int, ...], mirror_axes: tuple[int, ...], num_networks: int
) -> None:
    networks = [network(len(patch), seed).eval() for seed in range(num_networks)]
    data = torch.randn(2, *shape)
    found = predict_logits(networks, data, patch_size=patch, num_outputs=3, mirror_axes=mirror_axes)
    expected = plain_reference(networks, data, patch, 0.5, mirror_axes)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_small_image_is_padded_centred_and_cut_back() -> None:
    net, data = network(3).eval(), torch.randn(2, 5, 12, 3)
    found = predict_logits([net], data, patch_size=(8, 8, 8), num_outputs=3)
    padded = torch.zeros(2, 8, 12, 8)
    padded[:, 1:6, :, 2:5] = data
    expected = predict_logits([net], padded, patch_size=(8, 8, 8), num_outputs=3)[:, 1:6, :, 2:5]
    assert found.shape == (3, 5, 12, 3)
    assert torch.equal(found, expected)


@torch.no_grad()
def test_sharing_a_forward_pass_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = network(2).eval(), torch.randn(2, 5, 20, 20)
    together = predict_logits([net], data, patch_size=(8, 8), num_outputs=3)
    monkeypatch.setattr("segwright.inference.forward.VOXELS_PER_BATCH_ON_CPU", 1)
    alone = predict_logits([net], data, patch_size=(8, 8), num_outputs=3)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


class TwoOutputs(nn.Module):
    """Like a U-Net: a decoder that can be switched to give a list."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network(3)
        self.decoder = nn.Module()
        self.decoder.deep_supervision = True

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        assert not self.training
        assert not self.decoder.deep_supervision
        return self.body(x)  # type: ignore[no-any-return]


def test_a_network_is_left_as_it_was() -> None:
    net = TwoOutputs().train()
    logits = predict_logits([net], torch.randn(2, 8, 8, 8), patch_size=(8, 8, 8), num_outputs=3)
    assert net.training
    assert net.decoder.deep_supervision is True
    assert not logits.requires_grad
    logits += 1  # an ordinary tensor, not one of inference mode


class GivesAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = network(3)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.body(x), torch.full((1,), torch.nan)]


def test_of_a_list_of_outputs_the_first_counts() -> None:
    net, data = GivesAList(), torch.randn(2, 8, 8, 8)
    found = predict_logits([net], data, patch_size=(8, 8, 8), num_outputs=3)
    assert torch.equal(found, predict_logits([net.body], data, patch_size=(8, 8, 8), num_outputs=3))


def test_progress_ends_at_the_number_of_tiles() -> None:
    calls: list[tuple[int, int]] = []
    predict_logits(
        [network(3)],
        torch.zeros(2, 16, 8, 8),
        patch_size=(8, 8, 8),
        num_outputs=3,
        progress=lambda _, done, total: calls.append((done, total)),
    )
    assert calls[-1] == (3, 3)


@pytest.mark.parametrize("step_size", [0, -0.5, 1.5, float("nan")])
def test_a_step_size_out_of_range_is_refused(step_size: float) -> None:
    with pytest.raises(SettingsError, match="step_size"):
        predict_logits([network(3)], torch.zeros(2, 8, 8, 8), patch_size=(8, 8, 8), num_outputs=3, step_size=step_size)


def test_a_mirror_axis_that_the_patch_lacks_is_refused() -> None:
    with pytest.raises(SettingsError, match="0 to 1"):
        predict_logits([network(2)], torch.zeros(2, 1, 8, 8), patch_size=(8, 8), num_outputs=3, mirror_axes=(0, 2))


def test_an_image_that_is_not_finite_is_refused() -> None:
    data = torch.zeros(2, 8, 8, 8)
    data[0, 0, 0, 0] = torch.inf
    with pytest.raises(ImageError, match="1 voxels"):
        predict_logits([network(3)], data, patch_size=(8, 8, 8), num_outputs=3)


def test_weights_that_give_nan_are_named() -> None:
    net = network(3)
    nn.init.constant_(net[3].bias, torch.nan)  # type: ignore[index,arg-type]
    with pytest.raises(CheckpointError):
        predict_logits([net], torch.zeros(2, 8, 8, 8), patch_size=(8, 8, 8), num_outputs=3)


@pytest.mark.parametrize(
    ("shape", "patch"), [((17, 20, 9), (8, 8, 8)), ((5, 21, 3), (8, 8, 8)), ((4, 21, 16), (8, 12))]
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slabs_along_any_axis_make_up_the_whole(shape: tuple[int, ...], patch: tuple[int, ...], axis: int) -> None:
    net, data = network(len(patch)).eval(), torch.randn(2, *shape)
    expected = predict_logits([net], data, patch_size=patch, num_outputs=3).numpy()
    with torch_forward([net], (), torch.device("cpu")) as forward:
        slabs = list(predict_slabs(forward, data.numpy(), patch_size=patch, num_outputs=3, axis=axis))
    assert [slab.start for slab in slabs] == sorted({slab.start for slab in slabs})
    assert len(slabs) > 1 or shape[axis] <= patch[axis - 3]
    np.testing.assert_allclose(whole_logits(iter(slabs), (3, *shape)), expected, rtol=0, atol=2e-5)


def test_tiling_stitching_and_export_need_no_torch() -> None:
    for name in ("tiling", "sliding_window", "export"):
        tree = ast.parse((Path(inference.__file__).parent / f"{name}.py").read_text())
        imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not {module for module in imported if module.split(".")[0] == "torch"}
