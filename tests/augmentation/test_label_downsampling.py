from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from segwright.augmentation.deep_supervision import downsample_labels


@pytest.mark.parametrize("shape", [(16, 24, 20), (13, 17, 11), (20, 32), (9, 15)])
def test_labels_are_those_of_torchs_nearest_exact(shape: tuple[int, ...]) -> None:
    seg = np.random.default_rng(0).integers(0, 9, (2, *shape)).astype(np.int16)
    scales = [0.5, 0.25, (1 / 3,) * len(shape), (1.0, *[0.5] * (len(shape) - 1))]
    for scale, out in zip(scales, downsample_labels(seg, scales), strict=True):
        factors = scale if isinstance(scale, tuple) else (scale,) * len(shape)
        size = [round(edge * factor) for edge, factor in zip(shape, factors, strict=True)]
        wanted = interpolate(torch.from_numpy(seg)[None].float(), size, mode="nearest-exact")[0]
        np.testing.assert_array_equal(out, wanted.numpy())
        assert out.dtype == np.int16
        assert out.flags.c_contiguous


def test_full_scale_returns_the_map_itself() -> None:
    seg = np.zeros((1, 4, 4), np.int16)
    assert downsample_labels(seg, [1, (1.0, 1.0)])[0] is seg
