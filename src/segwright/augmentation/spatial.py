"""Crop, rotate, scale and mirror in one sampling pass from the enlarged crop into the patch, image and labels alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", np.float32, np.int16)


@dataclass(frozen=True)
class SpatialParameters:
    """One sample's spatial transform, in voxels: mirror, scale, rotate about the axes in turn, centre on the crop."""

    angles_degrees: tuple[float, ...] = ()
    """About axes 0, 1 and 2, or one in-plane angle (2D patches and dummy 2D); empty: no rotation."""
    scale: float = 1.0
    """Above 1 objects become smaller."""
    mirrored_axes: tuple[int, ...] = ()

    @property
    def resamples(self) -> bool:
        """Say whether voxels must be interpolated; otherwise the centre of the crop is copied."""
        return self.scale != 1.0 or any(angle != 0.0 for angle in self.angles_degrees)


def affine_matrix(parameters: SpatialParameters, num_axes: int) -> NDArray[np.float64]:
    """Return the matrix that maps a patch position to a crop position, both relative to their centres.

    The composition is nnU-Net v2's, `R2 @ R1 @ R0 @ scale`; a mirrored axis turns its column's sign.
    """
    matrix = np.eye(num_axes) * parameters.scale
    angles = [math.radians(angle) for angle in parameters.angles_degrees]
    if num_axes == 2 and angles:
        matrix = _plane_rotation(angles[-1]) @ matrix
    if num_axes == 3 and angles:
        for axis, angle in enumerate(angles):
            matrix = _axis_rotation(axis, angle) @ matrix
    for axis in parameters.mirrored_axes:
        matrix[:, axis] *= -1
    return matrix


def _plane_rotation(angle: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def _axis_rotation(axis: int, angle: float) -> NDArray[np.float64]:
    turned = [(axis + 1) % 3, (axis + 2) % 3]
    matrix = np.eye(3)
    matrix[np.ix_(turned, turned)] = _plane_rotation(angle)
    return matrix


def source_window(
    parameters: SpatialParameters, crop_size: Sequence[int], patch_size: Sequence[int], *, dummy_2d: bool
) -> tuple[slice, ...]:
    """Return the part of the enlarged crop, one slice per axis, that the transform reads; mostly far less than all."""
    if not parameters.resamples:
        return _central_slices(crop_size, patch_size)
    if dummy_2d:
        return (slice(0, crop_size[0]), *_resampled_window(_in_plane(parameters), crop_size[1:], patch_size[1:]))
    return _resampled_window(parameters, crop_size, patch_size)


def _central_slices(crop_size: Sequence[int], patch_size: Sequence[int]) -> tuple[slice, ...]:
    starts = [crop // 2 - patch // 2 for crop, patch in zip(crop_size, patch_size, strict=True)]
    return tuple(slice(start, start + patch) for start, patch in zip(starts, patch_size, strict=True))


def _resampled_window(
    parameters: SpatialParameters, crop_size: Sequence[int], patch_size: Sequence[int]
) -> tuple[slice, ...]:
    half_patch = (np.asarray(patch_size) - 1) / 2
    reach = np.abs(affine_matrix(parameters, len(crop_size))) @ half_patch
    centre = (np.asarray(crop_size) - 1) / 2
    starts = np.maximum(np.floor(centre - reach) - 1, 0).astype(int)
    stops = np.minimum(np.ceil(centre + reach) + 2, crop_size).astype(int)
    return tuple(slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True))


def _in_plane(parameters: SpatialParameters) -> SpatialParameters:
    mirrored = tuple(axis - 1 for axis in parameters.mirrored_axes if axis > 0)
    return SpatialParameters(parameters.angles_degrees, parameters.scale, mirrored)


def transform(
    image: NDArray[np.float32],
    seg: NDArray[np.int16],
    parameters: SpatialParameters,
    *,
    crop_size: Sequence[int],
    patch_size: Sequence[int],
    dummy_2d: bool,
    window: tuple[slice, ...],
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Sample the patch from that `window` of the enlarged crop which `image` (c, ...) and `seg` (k, ...) hold.

    Images are interpolated linearly with zeros beyond the window; of the labels, -1 beyond it, the one with the largest
    interpolated share wins. Returns new arrays (c, *patch) float32 and (k, *patch) int16.
    """
    starts = [part.start for part in window]
    if not parameters.resamples:
        offset = [
            part.start - start for part, start in zip(_central_slices(crop_size, patch_size), starts, strict=True)
        ]
        inner = tuple(slice(first, first + edge) for first, edge in zip(offset, patch_size, strict=True))
        return _crop(image, inner, parameters), _crop(seg, inner, parameters)
    out_image = np.empty((image.shape[0], *patch_size), np.float32)
    out_seg = np.empty((seg.shape[0], *patch_size), np.int16)
    centre = (np.asarray(crop_size) - 1) / 2 - np.asarray(starts)
    image, seg = np.ascontiguousarray(image), np.ascontiguousarray(seg)
    if dummy_2d or len(patch_size) == 2:
        _sample_in_plane(image, seg, parameters, centre[-2:], out_image, out_seg)
    else:
        _sample_volume(image, seg, parameters, centre, out_image, out_seg)
    return out_image, out_seg


def _crop(array: NDArray[Scalar], inner: tuple[slice, ...], parameters: SpatialParameters) -> NDArray[Scalar]:
    index = (slice(None), *inner)
    cropped: NDArray[Scalar] = np.flip(array[index], tuple(axis + 1 for axis in parameters.mirrored_axes)).copy()
    return cropped


def _sample_volume(
    image: NDArray[np.float32],
    seg: NDArray[np.int16],
    parameters: SpatialParameters,
    centre: NDArray[np.float64],
    out_image: NDArray[np.float32],
    out_seg: NDArray[np.int16],
) -> None:
    from segwright.augmentation.sampling_kernels import sample_volume

    flat_image, flat_seg = image.reshape(image.shape[0], -1), seg.reshape(seg.shape[0], -1)
    sample_volume(flat_image, flat_seg, image.shape[1:], affine_matrix(parameters, 3), centre, out_image, out_seg)


def _sample_in_plane(
    image: NDArray[np.float32],
    seg: NDArray[np.int16],
    parameters: SpatialParameters,
    centre: NDArray[np.float64],
    out_image: NDArray[np.float32],
    out_seg: NDArray[np.int16],
) -> None:
    from segwright.augmentation.sampling_kernels import sample_planes

    dummy_2d = image.ndim == 4
    num_planes, plane = image.shape[1] if dummy_2d else 1, image.shape[-2:]
    in_plane = _in_plane(parameters) if dummy_2d else parameters
    sample_planes(
        image.reshape(image.shape[0], num_planes, -1),
        seg.reshape(seg.shape[0], num_planes, -1),
        plane,
        affine_matrix(in_plane, 2),
        centre,
        dummy_2d and 0 in parameters.mirrored_axes,
        out_image.reshape(image.shape[0], num_planes, *out_image.shape[-2:]),
        out_seg.reshape(seg.shape[0], num_planes, *out_seg.shape[-2:]),
    )
