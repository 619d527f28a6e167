"""Names that are paths, and names that command the terminal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

from attack.commands import (
    CHECK,
    CHECK_FOREIGN,
    EXPLAIN,
    FIX_FOREIGN,
    HERE,
    OVERWRITE,
    PLAN_FOREIGN,
    PREDICT,
    PREPROCESS,
    PREPROCESS_FOREIGN,
    TRAIN_0,
    foreign,
    with_case_id,
    with_description,
    with_plan,
)
from attack.engine import Attack, answered, refused
from attack.place import Place
from tiny_datasets import TRAIN

FAMILY = "names"
RED = "\x1b[31mred\x1b]0;title\x07"
TURNED = "a\u202egpj.exe"
# By what they are; each must be refused wherever it would become a path.
PATHS = {
    "absolute": "{outside}/precious",
    "up": "../../../outside/precious",
    "two parts": "sub/folder",
    "dots": "..",
    "dot": ".",
    "empty": "",
    "zero": "a\0b",
    "backslash": "..\\..\\precious",
    "drive": "C:\\precious",
    "newline": "a\nb",
    "escape": RED,
    "turned": TURNED,
    "long": "x" * 300,
}
_QUICK = {"absolute", "up"}


def attacks() -> Iterator[Attack]:
    """Every name that becomes a path, as each of the things that it must not be."""
    for what, name in PATHS.items():
        prepare = with_plan(data_identifier=name)
        for verb, argv in (("preprocess", OVERWRITE), ("train", TRAIN_0)):
            yield Attack(f"data_identifier-{what}-{verb}", FAMILY, argv, refused("data_identifier"), prepare)
        yield Attack(f"data_identifier-{what}-explain", FAMILY, EXPLAIN, answered(), prepare)
        yield Attack(f"plans_name-{what}-train", FAMILY, TRAIN_0, refused("plans_name"), _with_plans_name(name))
        yield Attack(
            f"configuration-{what}-train",
            FAMILY,
            ("train", "1", _filled(name), "0", "--epochs", "1", *HERE, *TRAIN),
            refused("configuration"),
            _with_configuration(name),
        )
        yield Attack(
            f"configuration-{what}-preprocess",
            FAMILY,
            ("preprocess", "1", "-c", _filled(name), *HERE),
            answered(),
            _with_configuration(name),
        )
        for verb, argv in (
            ("check", CHECK_FOREIGN),
            ("plan", PLAN_FOREIGN),
            ("preprocess", PREPROCESS_FOREIGN),
            ("fix", FIX_FOREIGN),
        ):
            # a corrected copy may leave the case out and be whole
            expect = refused() if verb != "fix" else answered()
            yield Attack(f"case-{what}-{verb}", FAMILY, argv, expect, with_case_id(name))
    yield from _arguments()
    yield from _file_endings()
    yield from _control_characters()
    yield from _deletions()


def _filled(name: str) -> str:
    """A word of a command line holds no zero byte."""
    return name.replace("\0", "\\0")


def _with_plans_name(name: str):  # type: ignore[no-untyped-def]
    return lambda place: place.edit_plan(
        lambda plan, _: plan.update(plans_name=name.replace("{outside}", str(place.outside)))
    )


def _with_configuration(name: str):  # type: ignore[no-untyped-def]
    def prepare(place: Place) -> None:
        hostile = _filled(name).replace("{outside}", str(place.outside))
        place.edit_plan(lambda plan, _: plan["configurations"].update({hostile: {"inherits_from": "3d_fullres"}}))

    return prepare


def _arguments() -> Iterator[Attack]:
    """The words of the command line itself."""
    for what, name in (("up", "../../../outside/precious"), ("absolute", "{outside}/precious"), ("dots", "..")):
        for verb, argv in (
            ("plans", ("train", "1", "3d_fullres", "0", "--epochs", "1", *HERE, "--plans", name, *TRAIN)),
            ("preprocess-plans", ("preprocess", "1", *HERE, "--plans", name)),
            ("plan-name", ("plan", "1", *HERE, "--plans", name, "--workers", "1")),
            ("fold", ("train", "1", "3d_fullres", name, "--epochs", "1", *HERE, *TRAIN)),
            ("folds", (*PREDICT, "--folds", name)),
            ("checkpoint", (*PREDICT, "--checkpoint", f"{name}/a.txt")),
            ("report-fold", ("report", "1", *HERE, "-f", name)),
            ("report-plans", ("report", "1", *HERE, "--plans", name, "-c", "3d_fullres")),
            ("report-configuration", ("report", "1", *HERE, "-c", name)),
            ("dataset", ("preprocess", name, *HERE)),
        ):
            yield Attack(f"argument-{verb}-{what}", FAMILY, argv, refused())
    for word in ("[bold]", "[/]", "%s{0}", "x" * 100_000, "\ud800", "-1", "--"):
        yield Attack(f"argument-dataset-{ascii(word)[:10]}", FAMILY, ("explain", word, *HERE), refused())


def _file_endings() -> Iterator[Attack]:
    """The ending of a data set's files is part of every path that is written."""
    for what, ending in (
        ("up", "/../../outside/precious/case.nii.gz"),
        ("deep", "/x.nii.gz"),
        ("escape", f"{RED}.nii.gz"),
        ("zero", "\0.nii.gz"),
        ("empty", ""),
    ):
        model = with_description(f"results/Dataset001_Balls/{_MODEL}/dataset.json", file_ending=ending)
        yield Attack(f"file_ending-{what}-predict", FAMILY, PREDICT, refused(), model)
        raw = with_description("raw/Dataset001_Balls/dataset.json", file_ending=ending)
        for verb, argv in (("check", CHECK), ("preprocess", OVERWRITE)):
            yield Attack(f"file_ending-{what}-{verb}", FAMILY, argv, refused(), raw)


_MODEL = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def _control_characters() -> Iterator[Attack]:
    """Text of foreign files that a message or a table repeats."""
    texts = {"escape": RED, "turned": TURNED, "markup": "[bold]x[/] [/red]", "c1": "\x9b31mred", "return": "a\rb"}
    for what, text in texts.items():
        labels = {"background": 0, text: 1, "core": 2}
        raw = with_description("raw/Dataset001_Balls/dataset.json", labels=labels)
        channels = with_description("raw/Dataset001_Balls/dataset.json", channel_names={"0": text})
        preprocessed = with_description("preprocessed/Dataset001_Balls/dataset.json", labels=labels)
        yield Attack(f"label-{what}-check", FAMILY, CHECK, answered(), raw)
        yield Attack(f"label-{what}-plan", FAMILY, ("plan", "1", *HERE, "--workers", "1"), answered(), raw)
        yield Attack(f"label-{what}-train", FAMILY, TRAIN_0, answered(), preprocessed)
        yield Attack(f"channel-{what}-check", FAMILY, CHECK, answered(), channels)
        yield Attack(f"channel-{what}-plan", FAMILY, ("plan", "1", *HERE, "--workers", "1"), answered(), channels)
        yield Attack(f"channel-{what}-json", FAMILY, (*CHECK, "--json"), answered(), channels)
        yield Attack(f"file-{what}-check", FAMILY, CHECK, answered(), _with_files(text), keeps_raw=False)
        yield Attack(f"file-{what}-preprocess", FAMILY, PREPROCESS, answered(), _with_files(text), keeps_raw=False)
        yield Attack(f"file-{what}-predict", FAMILY, PREDICT, answered(), _with_input(text))
        for key in ("normalization_schemes", "preprocessor_name", "resampling_fn_data", "previous_stage"):
            value = [text] if key == "normalization_schemes" else text
            yield Attack(f"plan-{key}-{what}", FAMILY, EXPLAIN, answered(), with_plan(**{key: value}))
        yield Attack(f"splits-{what}", FAMILY, TRAIN_0, refused(), _with_split(text))
        yield Attack(
            f"unknown-key-{what}",
            FAMILY,
            CHECK_FOREIGN,
            answered(),
            lambda place, text=text: foreign(place, **{text: text, "name": text}),  # type: ignore[misc]
        )


def _with_files(text: str):  # type: ignore[no-untyped-def]
    def prepare(place: Place) -> None:
        images, labels = place.raw / "imagesTr", place.raw / "labelsTr"
        shutil.copy(images / "ballTr_000_0000.nii.gz", images / f"{text}_0000.nii.gz".replace("/", "_"))
        (labels / f"{text}.nii.gz".replace("/", "_")).write_bytes(b"no image")
        (images / f"alone{text}_0007.nii.gz".replace("/", "_")).write_bytes(b"")

    return prepare


def _with_input(text: str):  # type: ignore[no-untyped-def]
    def prepare(place: Place) -> None:
        images = place.raw / "imagesTs"
        (images / f"{text}_0000.nii.gz".replace("/", "_")).write_bytes(b"no image")
        (images / f"alone{text}_0007.nii.gz".replace("/", "_")).write_bytes(b"")

    return prepare


def _with_split(text: str):  # type: ignore[no-untyped-def]
    def prepare(place: Place) -> None:
        (place.preprocessed / "splits_final.json").write_text(json.dumps([{"train": ["ballTr_000"], "val": [text]}]))

    return prepare


def _deletions() -> Iterator[Attack]:
    """Folders that are not ours, where one of ours would be made anew."""
    notes = "preprocessed/Dataset001_Balls/my_notes"

    def folder_of_notes(place: Place) -> None:
        (place.workspace / notes).mkdir()
        (place.workspace / notes / "thesis.txt").write_text("years of work")
        with_plan(data_identifier="my_notes")(place)

    def link(place: Place) -> None:
        shutil.rmtree(place.store)
        place.store.symlink_to(place.outside / "precious")

    def among_ours(place: Place) -> None:
        (place.store / "thesis.txt").write_text("years of work")

    def references(place: Place) -> None:
        with_plan(data_identifier="gt_segmentations")(place)

    yield Attack("overwrite-folder-of-notes", FAMILY, OVERWRITE, refused(), folder_of_notes, keeps=(notes,))
    yield Attack("overwrite-link-to-foreign-folder", FAMILY, OVERWRITE, answered(), link)
    yield Attack(
        "overwrite-notes-among-ours",
        FAMILY,
        OVERWRITE,
        answered(),
        among_ours,
        keeps=("preprocessed/Dataset001_Balls/nnUNetPlans_3d_fullres/thesis.txt",),
    )
    yield Attack(
        "overwrite-references",
        FAMILY,
        OVERWRITE,
        refused(),
        references,
        keeps=("preprocessed/Dataset001_Balls/gt_segmentations",),
    )
    yield Attack(
        "predict-over-the-labels",
        FAMILY,
        ("predict", "{raw}/imagesTr", "{raw}/labelsTr", "--model", "{model}", "--device", "cpu"),
        refused(),
    )
    yield Attack(
        "predict-over-the-labels-overwrite",
        FAMILY,
        ("predict", "{raw}/imagesTr", "{raw}/labelsTr", "--model", "{model}", "--device", "cpu", "--overwrite"),
        refused(),
    )
    yield Attack(
        "predict-into-the-raw-folder",
        FAMILY,
        ("predict", "{raw}/imagesTs", "{raw}", "--model", "{model}", "--device", "cpu"),
        refused(),
    )
    yield Attack(
        "predict-into-the-model",
        FAMILY,
        (*PREDICT[:2], "{model}", *PREDICT[3:]),
        refused(),
        keeps=(f"results/Dataset001_Balls/{_MODEL}",),
    )
    yield Attack(
        "evaluate-the-labels-themselves",
        FAMILY,
        ("evaluate", "{raw}/labelsTr", "{raw}/labelsTr"),
        answered(),
        keeps_raw=False,
    )
    yield Attack("report-over-an-image", FAMILY, ("report", "1", *HERE, "--output", "{raw}/dataset.json"), refused())
    yield Attack("fix-into-itself", FAMILY, (*CHECK, "--fix", "{raw}"), refused())
    yield Attack("fix-into-its-images", FAMILY, (*CHECK, "--fix", "{raw}/imagesTr/copy"), refused())
    yield Attack("fix-over-a-folder", FAMILY, (*CHECK, "--fix", "{outside}/precious"), refused())
    yield Attack(
        "raw-linked-into-preprocessed",
        FAMILY,
        OVERWRITE,
        answered(),
        lambda place: (shutil.rmtree(place.store), place.store.symlink_to(place.raw / "imagesTr"))[0],
    )
