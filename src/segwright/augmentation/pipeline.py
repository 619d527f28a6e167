"""The training augmentation as a value, and the function that applies it to one sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from segwright.augmentation import intensity
from segwright.augmentation.geometry import geometry_for, initial_patch_size
from segwright.augmentation.spatial import SpatialParameters, source_window, transform
from segwright.errors import SettingsError, message

Range = tuple[float, float]
AugmentationName = Literal["nnunet", "light", "none"]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Every probability and range of the training augmentation; axes are (z, y, x) or (y, x).

    The defaults are nnU-Net v2's. A range is (lowest, highest), drawn from uniformly; a factor range about 1 is drawn
    from as nnU-Net does: below 1 in half of the cases and above 1 in the other half.
    """

    name: str
    patch_size: tuple[int, ...]
    initial_patch_size: tuple[int, ...]
    """Edges of the crop that `augment` takes; the patch is sampled from its centre."""
    dummy_2d: bool
    rotation_degrees: tuple[Range, ...]
    mirror_axes: tuple[int, ...]
    masked_channels: tuple[int, ...] = ()
    """Channels that were normalised inside a mask: set to 0 outside it."""
    rotation_probability: float = 0.2
    scaling_probability: float = 0.2
    scaling_range: Range = (0.7, 1.4)
    noise_probability: float = 0.1
    noise_deviation_range: Range = (0.0, 0.1)
    """nnU-Net calls this a variance, and uses it as the standard deviation."""
    blur_probability: float = 0.2
    blur_channel_probability: float = 0.5
    blur_sigma_range: Range = (0.5, 1.0)
    brightness_probability: float = 0.15
    brightness_range: Range = (0.75, 1.25)
    contrast_probability: float = 0.15
    contrast_range: Range = (0.75, 1.25)
    low_resolution_probability: float = 0.25
    low_resolution_channel_probability: float = 0.5
    low_resolution_range: Range = (0.5, 1.0)
    inverted_gamma_probability: float = 0.1
    gamma_probability: float = 0.3
    gamma_range: Range = (0.7, 1.5)
    mirror_probability: float = 0.5
    """Of each axis in `mirror_axes`, independently."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_probability") and not 0 <= value <= 1:
                raise _wrong(field.name, "a probability from 0 to 1", value)
            if field.name.endswith("_range") and not 0 <= value[0] <= value[1]:
                raise _wrong(field.name, "two numbers of at least 0, the lower one first", value)
        if any(low > high for low, high in self.rotation_degrees):
            raise _wrong("rotation_degrees", "the lower angle first", self.rotation_degrees)
        if self.scaling_range[0] == 0 or self.blur_sigma_range[0] == 0 or self.low_resolution_range[0] == 0:
            raise _wrong("scaling_range, blur_sigma_range, low_resolution_range", "numbers above 0", 0)
        num_axes = len(self.patch_size)
        if len(self.initial_patch_size) != num_axes or any(
            initial < edge for initial, edge in zip(self.initial_patch_size, self.patch_size, strict=True)
        ):
            raise _wrong("initial_patch_size", f"at least the patch, {self.patch_size}", self.initial_patch_size)
        if any(not 0 <= axis < num_axes for axis in self.mirror_axes):
            raise _wrong("mirror_axes", f"axes from 0 to {num_axes - 1}", self.mirror_axes)


def _wrong(key: str, expected: str, got: object) -> SettingsError:
    return SettingsError(message(f"augmentation, {key}", expected=expected, got=got, remedy="Correct this setting."))


def augmentation_named(
    name: str,
    patch_size: Sequence[int],
    *,
    use_mask_for_norm: Sequence[bool] = (),
    mirror_axes: Sequence[int] | None = None,
) -> Augmentation:
    """Return a preset for a patch size: "nnunet" (nnU-Net v2's own), "light" (short trainings) or "none".

    `mirror_axes` None takes the preset's: all axes for "nnunet", none for the others. Change single values with
    `dataclasses.replace`.

    Raises:
        SettingsError: there is no preset of that name.
        PlanError: the patch size is not one.
    """
    geometry = geometry_for(patch_size)
    patch = geometry.patch_size
    masked_channels = tuple(channel for channel, masked in enumerate(use_mask_for_norm) if masked)
    if name == "nnunet":
        return Augmentation(
            name=name,
            patch_size=patch,
            initial_patch_size=geometry.initial_patch_size,
            dummy_2d=geometry.dummy_2d,
            rotation_degrees=geometry.rotation_degrees,
            mirror_axes=geometry.mirror_axes if mirror_axes is None else tuple(mirror_axes),
            masked_channels=masked_channels,
        )
    if name == "light":
        return _light(patch, geometry.dummy_2d, len(geometry.rotation_degrees), masked_channels, mirror_axes or ())
    if name == "none":
        return _none(patch, geometry.dummy_2d, masked_channels, mirror_axes or ())
    raise SettingsError(
        message(
            "augmentation",
            expected=f"one of {', '.join(get_args(AugmentationName))}",
            got=repr(name),
            remedy="Choose one of these names.",
        )
    )


LIGHT_ROTATION_DEGREES = 15.0
LIGHT_SCALING: Range = (0.85, 1.15)


def _light(
    patch: tuple[int, ...],
    dummy_2d: bool,
    num_rotation_axes: int,
    masked_channels: tuple[int, ...],
    mirror_axes: Sequence[int],
) -> Augmentation:
    """Small and rare turns, no blur or low resolution: a short training can't afford what it can't learn to ignore."""
    limit = LIGHT_ROTATION_DEGREES
    return Augmentation(
        name="light",
        patch_size=patch,
        initial_patch_size=initial_patch_size(patch, limit_degrees=limit, minimum_scale=1.0, dummy_2d=dummy_2d),
        dummy_2d=dummy_2d,
        rotation_degrees=((-limit, limit),) * num_rotation_axes,
        mirror_axes=tuple(mirror_axes),
        masked_channels=masked_channels,
        rotation_probability=0.1,
        scaling_probability=0.1,
        scaling_range=LIGHT_SCALING,
        noise_probability=0.05,
        noise_deviation_range=(0.0, 0.05),
        blur_probability=0.0,
        brightness_probability=0.1,
        brightness_range=(0.9, 1.1),
        contrast_probability=0.1,
        contrast_range=(0.85, 1.15),
        low_resolution_probability=0.0,
        inverted_gamma_probability=0.0,
        gamma_probability=0.1,
        gamma_range=(0.8, 1.25),
    )


def _none(
    patch: tuple[int, ...], dummy_2d: bool, masked_channels: tuple[int, ...], mirror_axes: Sequence[int]
) -> Augmentation:
    return Augmentation(
        name="none",
        patch_size=patch,
        initial_patch_size=patch,
        dummy_2d=dummy_2d,
        rotation_degrees=(),
        mirror_axes=tuple(mirror_axes),
        masked_channels=masked_channels,
        rotation_probability=0.0,
        scaling_probability=0.0,
        noise_probability=0.0,
        blur_probability=0.0,
        brightness_probability=0.0,
        contrast_probability=0.0,
        low_resolution_probability=0.0,
        inverted_gamma_probability=0.0,
        gamma_probability=0.0,
    )


def augment(
    image: NDArray[np.float32], seg: NDArray[np.int16], augmentation: Augmentation, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Turn one enlarged crop into one training patch: a function of its arguments and the generator's state alone.

    Takes image (c, *initial_patch_size) and label maps (k, *initial_patch_size), both left as they are; -1 in a label
    map marks what lies outside the image. Returns new arrays (c, *patch_size) float32 and (k, *patch_size) int16.
    """
    whole = tuple(slice(0, edge) for edge in augmentation.initial_patch_size)
    return _apply(image, seg, augmentation, draw_spatial(augmentation, rng), rng, whole)


def draw_spatial(augmentation: Augmentation, rng: np.random.Generator) -> SpatialParameters:
    """Draw rotation, scale and mirroring of one sample."""
    angles: tuple[float, ...] = ()
    scale = 1.0
    rotates = rng.random() < augmentation.rotation_probability
    scales = rng.random() < augmentation.scaling_probability
    if rotates:
        angles = tuple(rng.uniform(low, high) for low, high in augmentation.rotation_degrees)
    if scales:
        scale = rng.uniform(*augmentation.scaling_range)
    mirrored = tuple(axis for axis in augmentation.mirror_axes if rng.random() < augmentation.mirror_probability)
    return SpatialParameters(angles, scale, mirrored)


def window_for(augmentation: Augmentation, spatial: SpatialParameters) -> tuple[slice, ...]:
    """Return the part of the enlarged crop, one slice per axis, that a sample with these parameters reads.

    It is the patch alone for the samples that are neither rotated nor scaled, most of them: a loader that draws first
    reads and decompresses no more than this, and hands it to `augment_window`.
    """
    return source_window(
        spatial, augmentation.initial_patch_size, augmentation.patch_size, dummy_2d=augmentation.dummy_2d
    )


def augment_window(
    image: NDArray[np.float32],
    seg: NDArray[np.int16],
    augmentation: Augmentation,
    spatial: SpatialParameters,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Do what `augment` does where only the window of `window_for` was read, with the parameters drawn beforehand.

    With the same generator the result is `augment`'s, but for rounding where voxels are interpolated.
    """
    return _apply(image, seg, augmentation, spatial, rng, window_for(augmentation, spatial))


def _apply(
    image: NDArray[np.float32],
    seg: NDArray[np.int16],
    augmentation: Augmentation,
    spatial: SpatialParameters,
    rng: np.random.Generator,
    window: tuple[slice, ...],
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    _require_shape(image, seg, tuple(part.stop - part.start for part in window))
    # every later step treats both directions of an axis alike, so mirroring is free here, inside the sampling
    image, seg = transform(
        np.asarray(image, np.float32),
        np.asarray(seg, np.int16),
        spatial,
        crop_size=augmentation.initial_patch_size,
        patch_size=augmentation.patch_size,
        dummy_2d=augmentation.dummy_2d,
        window=window,
    )
    _noise(image, augmentation, rng)
    _blur(image, augmentation, rng)
    _brightness(image, augmentation, rng)
    _contrast(image, augmentation, rng)
    _low_resolution(image, augmentation, rng)
    _gamma(image, augmentation, rng, inverted=True)
    _gamma(image, augmentation, rng, inverted=False)
    _mask_outside(image, seg, augmentation.masked_channels)
    return image, _without_outside(seg)


def validation_transform(
    image: NDArray[np.float32], seg: NDArray[np.int16]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Return the patch as it is, with -1 in the label maps turned to 0 (background)."""
    return np.ascontiguousarray(image, np.float32), _without_outside(np.array(seg, np.int16))


def _require_shape(image: NDArray[np.float32], seg: NDArray[np.int16], shape: tuple[int, ...]) -> None:
    for what, array in (("image", image), ("label map", seg)):
        if array.shape[1:] != shape:
            raise SettingsError(
                message(
                    f"augmentation of an {what}" if what == "image" else f"augmentation of a {what}",
                    expected=f"the crop's shape {shape} after the channel axis",
                    got=array.shape,
                    remedy="Read the crop in the augmentation's initial_patch_size.",
                )
            )


def _factor(factor_range: Range, rng: np.random.Generator) -> float:
    low, high = factor_range
    if rng.random() < 0.5 and low < 1:
        return float(rng.uniform(low, 1))
    return float(rng.uniform(max(low, 1), high))


def _noise(image: NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator) -> None:
    if rng.random() < augmentation.noise_probability:
        intensity.add_noise(image, rng.uniform(*augmentation.noise_deviation_range), rng)


def _blur(image: NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator) -> None:
    if rng.random() < augmentation.blur_probability:
        for channel in image:
            if rng.random() < augmentation.blur_channel_probability:
                intensity.blur(channel, [rng.uniform(*augmentation.blur_sigma_range) for _ in channel.shape])


def _brightness(image: NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator) -> None:
    if rng.random() < augmentation.brightness_probability:
        for channel in image:
            channel *= np.float32(_factor(augmentation.brightness_range, rng))


def _contrast(image: NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator) -> None:
    if rng.random() < augmentation.contrast_probability:
        for channel in image:
            intensity.contrast(channel, _factor(augmentation.contrast_range, rng))


def _low_resolution(image: NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator) -> None:
    if rng.random() < augmentation.low_resolution_probability:
        for channel in image:
            if rng.random() < augmentation.low_resolution_channel_probability:
                scales = [rng.uniform(*augmentation.low_resolution_range)] * channel.ndim
                if augmentation.dummy_2d:
                    scales[0] = 1.0
                intensity.simulate_low_resolution(channel, scales)


def _gamma(image: NDArray[np.float32], augmentation: Augmentation, rng: np.random.Generator, *, inverted: bool) -> None:
    probability = augmentation.inverted_gamma_probability if inverted else augmentation.gamma_probability
    if rng.random() < probability:
        for channel in image:
            intensity.gamma(channel, _factor(augmentation.gamma_range, rng), inverted=inverted)


def _mask_outside(image: NDArray[np.float32], seg: NDArray[np.int16], masked_channels: tuple[int, ...]) -> None:
    if masked_channels:
        outside = seg[0] < 0
        for channel in masked_channels:
            image[channel][outside] = 0


def _without_outside(seg: NDArray[np.int16]) -> NDArray[np.int16]:
    seg[seg == -1] = 0
    return seg
