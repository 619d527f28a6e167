"""The data and the plan in words and as tables of facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segwright.dataset import DatasetDescription
from segwright.explain.explanation import Explanation
from segwright.fingerprint import Fingerprint
from segwright.planning.plan import Configuration
from segwright.report.content import DataSection, Fact, PlanSection

_UNITLESS_SPACING = 900.0  # nnU-Net gives an image without depth, or without any spacing, 999
_NORMALIZATION_IN_WORDS = {
    "CTNormalization": "clipped to the 0.5 to 99.5 percentile of the data set's foreground and scaled by its mean and "
    "standard deviation",
    "ZScoreNormalization": "each image scaled to mean 0 and standard deviation 1",
    "RescaleTo01Normalization": "each image scaled to 0 to 1",
    "RGBTo01Normalization": "divided by 255",
    "NoNormalization": "left as it is",
}


def describe_data(description: DatasetDescription, fingerprint: Fingerprint | None) -> DataSection:
    """Say what the data set holds; spacings and shapes come from its fingerprint, where there is one."""
    labels = description.labels
    classes = [labels.name_of(value) for value in labels.classes]
    channels = description.channel_names
    paragraphs = [
        f"{_count(description.num_training, 'training case')} with {_count(len(channels), 'channel')} "
        f"({_listed(channels)}) and {_count(len(classes), 'class')} to find: {_listed(classes)}."
    ]
    facts = [
        Fact("Training cases", str(description.num_training)),
        Fact("Channels", ", ".join(channels)),
        Fact("Classes", ", ".join(f"{labels.name_of(value)} ({_value(value)})" for value in labels.classes)),
    ]
    if labels.ignore_label is not None:
        paragraphs.append("Voxels with the ignore label are used neither in training nor in scoring.")
    if fingerprint is not None:
        paragraph, measured = _measured(fingerprint)
        paragraphs.append(paragraph)
        facts.extend(measured)
    facts.append(Fact("File ending", description.file_ending))
    return DataSection(paragraphs=tuple(paragraphs), facts=tuple(facts))


def credit_of(description: DatasetDescription) -> str:
    """Source and licence of the data, as far as its dataset.json gives them."""
    raw = description.raw
    licence = raw.get("licence") or raw.get("license")
    parts = [("Data", raw.get("reference")), ("Licence", licence), ("Citation", raw.get("citation"))]
    return " ".join(f"{name}: {str(value).rstrip('.')}." for name, value in parts if value)


def describe_plan(configuration: Configuration, plan_name: str, explanation: Explanation | None = None) -> PlanSection:
    """Show the decisions of a configuration with their reasons, or without an explanation what it holds."""
    if explanation is None:
        return PlanSection(paragraphs=_plan_paragraphs(configuration), facts=_plan_facts(configuration, plan_name))
    return PlanSection(
        title=f"{configuration.name} of {plan_name}",
        rows=explanation.rows,
        details=tuple(f"{paragraph.topic}: {paragraph.text}" for paragraph in explanation.paragraphs),
    )


def _plan_paragraphs(configuration: Configuration) -> tuple[str, ...]:
    network = configuration.architecture
    kind = {"plain": "plain U-Net", "residual": "residual encoder U-Net"}.get(network.kind, network.network_class_name)
    spacing = _spacing(configuration.spacing_mm)
    grid = f"resampled to {spacing}" if spacing else "used on their own pixel grid"
    what = "slices" if configuration.is_2d else "volumes"
    return (
        f"Images are {grid} and cut into patches of {_shape(configuration.patch_size)} voxels for training; "
        f"{configuration.batch_size} of them make a batch.",
        f"The network is a {kind} over {what} with {network.num_stages} resolution stages and "
        f"{network.features_per_stage[0]} to {network.features_per_stage[-1]} features.",
    )


def _plan_facts(configuration: Configuration, plan_name: str) -> tuple[Fact, ...]:
    network = configuration.architecture
    schemes = tuple(dict.fromkeys(configuration.normalization_schemes))
    return (
        Fact("Configuration", f"{configuration.name} of {plan_name}"),
        Fact("Spacing", _spacing(configuration.spacing_mm) or "none, in pixels"),
        Fact("Median image", f"{_shape(configuration.median_image_size_in_voxels)} voxels", "after resampling"),
        Fact("Patch", f"{_shape(configuration.patch_size)} voxels"),
        Fact("Batch size", str(configuration.batch_size)),
        Fact("Features per stage", ", ".join(map(str, network.features_per_stage))),
        Fact("Strides", ", ".join(_shape(stride) for stride in network.strides)),
        Fact("Intensities", "; ".join(_NORMALIZATION_IN_WORDS.get(scheme, scheme) for scheme in schemes)),
    )


def _measured(fingerprint: Fingerprint) -> tuple[str, list[Fact]]:
    spacings = np.asarray(fingerprint.spacings_mm, dtype=float)
    shapes = np.asarray(fingerprint.shapes_after_crop, dtype=float)
    median_spacing, median_shape = np.median(spacings, axis=0), np.median(shapes, axis=0)
    in_mm = _spacing(median_spacing)
    ratio = _anisotropy(median_spacing)
    paragraph = f"The median image is {_shape(median_shape)} voxels" + (f" of {in_mm}" if in_mm else "")
    paragraph += f"; its voxels are {ratio:.1f} times as long as wide." if ratio > 1.05 else "."
    facts = [Fact("Median shape", f"{_shape(median_shape)} voxels", _range(shapes, ".0f", "voxels"))]
    if in_mm:
        facts.append(Fact("Median spacing", in_mm, _range(spacings, ".3g", "mm")))
    return paragraph, facts


def _anisotropy(spacing_mm: Sequence[float] | np.ndarray[Any, Any]) -> float:
    real = [value for value in spacing_mm if value < _UNITLESS_SPACING]
    return max(real) / min(real) if len(real) > 1 else 1.0


def _range(values: np.ndarray[Any, Any], form: str, unit: str) -> str:
    low, high = values.min(axis=0), values.max(axis=0)
    if np.allclose(low, high):
        return "the same in all cases"
    return f"from {_joined(low, form)} to {_joined(high, form)} {unit}, axis by axis"


def _spacing(spacing_mm: Sequence[float] | np.ndarray[Any, Any]) -> str:
    """Spacing such as "3 × 0.5 × 0.5 mm"; empty where the images have none."""
    if max(spacing_mm) >= _UNITLESS_SPACING and all(value in (1.0, max(spacing_mm)) for value in spacing_mm):
        return ""
    if len(spacing_mm) == 2 and all(value == 1.0 for value in spacing_mm):
        return ""
    return f"{_joined(spacing_mm, '.3g')} mm"


def _shape(shape: Sequence[float] | np.ndarray[Any, Any]) -> str:
    return _joined(shape, "g")


def _joined(values: Sequence[float] | np.ndarray[Any, Any], form: str) -> str:
    return " × ".join(format(float(value), form) for value in values)


def _value(value: int | tuple[int, ...]) -> str:
    return " + ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _count(number: int, noun: str) -> str:
    plural = {"class": "classes"}.get(noun, f"{noun}s")
    return f"{number} {noun if number == 1 else plural}"


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
