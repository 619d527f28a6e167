"""The scores of a set of cases, and pictures of the best, the median and the worst of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segwright.dataset import Case
from segwright.errors import GeometryError, MissingFileError, SegwrightError, message
from segwright.evaluation import CaseMetrics, Summary, class_rows, extreme_cases
from segwright.io import Image, ImageReaderWriter
from segwright.labels import LabelOrRegion, Labels
from segwright.report.content import CasePicture, CaseScore, ClassScore, Role, ScoreSection
from segwright.report.slices import CaseImages
from segwright.report.views import case_views

_COLOUR_NAMES = (("r", "g", "b"), ("red", "green", "blue"))


@dataclass(frozen=True)
class CaseFiles:
    """Where the images and label maps of scored cases lie; `images` by case id."""

    images: Mapping[str, Case]
    predictions: Path
    references: Path
    file_ending: str
    reader: ImageReaderWriter
    channel_names: tuple[str, ...]


def score_section(
    summary: Summary, labels: Labels, *, title: str, cases_in_words: str, files: CaseFiles | None
) -> ScoreSection:
    """Collect the scores of a summary, with pictures if `files` are given."""
    rows = class_rows(summary, labels)
    order = [row.value for row in rows]
    return ScoreSection(
        title=title,
        cases_in_words=cases_in_words,
        mean_foreground_dice=summary.foreground_mean["Dice"],
        classes=tuple(
            ClassScore(
                name=row.name,
                mean_dice=row.mean_dice,
                median_dice=row.median_dice,
                min_dice=row.min_dice,
                max_dice=row.max_dice,
                mean_iou=row.mean_iou,
                num_cases=row.num_cases,
            )
            for row in rows
        ),
        cases=tuple(
            CaseScore(case.case_id, case.mean_foreground_dice, tuple(case.metrics[value]["Dice"] for value in order))
            for case in summary.metric_per_case
        ),
        pictures=() if files is None else _pictures(summary, labels, order, files),
    )


def _pictures(
    summary: Summary, labels: Labels, order: Sequence[LabelOrRegion], files: CaseFiles
) -> tuple[CasePicture, ...]:
    extremes = extreme_cases(summary)
    if extremes is None:
        return ()
    roles: dict[str, list[Role]] = {}
    chosen: dict[str, CaseMetrics] = {}
    named: tuple[tuple[Role, CaseMetrics], ...] = (
        ("best", extremes.best),
        ("median", extremes.median),
        ("worst", extremes.worst),
    )
    for role, case in named:
        roles.setdefault(case.case_id, []).append(role)
        chosen[case.case_id] = case
    return tuple(_picture(chosen[case_id], tuple(roles[case_id]), labels, order, files) for case_id in chosen)


def _picture(
    case: CaseMetrics, roles: tuple[Role, ...], labels: Labels, order: Sequence[LabelOrRegion], files: CaseFiles
) -> CasePicture:
    dice = tuple((labels.name_of(value), case.metrics[value]["Dice"]) for value in order)
    in_words = ", ".join(f"{name} {'n/a' if math.isnan(score) else f'{score:.3f}'}" for name, score in dice)
    picture = CasePicture(case_id=case.case_id, roles=roles, mean_foreground_dice=case.mean_foreground_dice, dice=dice)
    try:
        images = read_case(case.case_id, files)
    except SegwrightError as error:
        return replace(picture, problem=str(error))
    views = case_views(images, case_id=case.case_id, dice_in_words=f"Dice: {in_words}.")
    return replace(picture, views=views)


def read_case(case_id: str, files: CaseFiles) -> CaseImages:
    """Read the image, the reference and the prediction of a case.

    Raises:
        MissingFileError, ImageError, GeometryError: a file is missing or unreadable, or they differ in shape.
    """
    case = files.images.get(case_id)
    if case is None:
        raise MissingFileError(
            message(f"case {case_id}", expected="its image", got="none", remedy="Give the folder of the images.")
        )
    image = files.reader.read_image(case.image_paths)
    reference = files.reader.read_labels(files.references / f"{case_id}{files.file_ending}")
    prediction = files.reader.read_labels(files.predictions / f"{case_id}{files.file_ending}")
    if not image.array.shape[1:] == reference.array.shape[1:] == prediction.array.shape[1:]:
        raise GeometryError(
            message(
                f"case {case_id}",
                expected="image, reference and prediction of one shape",
                got=f"{image.array.shape[1:]}, {reference.array.shape[1:]} and {prediction.array.shape[1:]}",
                remedy="Give the images that were predicted.",
            )
        )
    return CaseImages(
        image=image.array,
        reference=reference.array[0],
        prediction=prediction.array[0],
        geometry=image.geometry,
        is_rgb=_is_rgb(image, files),
        oriented="sitk_stuff" in image.properties,
        channel_name=files.channel_names[0] if files.channel_names else "",
    )


def _is_rgb(image: Image, files: CaseFiles) -> bool:
    if image.array.shape[0] not in (3, 4):
        return False
    names = tuple(name.lower() for name in files.channel_names[:3])
    return names in _COLOUR_NAMES or files.reader.name == "NaturalImage2DIO"
