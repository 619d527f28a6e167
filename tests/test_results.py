"""The folder of a model: names in, names out, and what has begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from segwright.errors import MissingFileError, SettingsError
from segwright.results import BEST, FINAL, LATEST, ModelFolder, parse_fold


def made(results: Path, name: str, *files: str) -> ModelFolder:
    for file in files:
        path = results / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return ModelFolder(results / name)


@pytest.mark.parametrize(
    ("trainer", "plans", "configuration"),
    [
        ("nnUNetTrainer", "nnUNetPlans", "3d_fullres"),
        ("nnUNetTrainer_100epochs", "nnUNetResEncUNetLPlans", "2d"),
        ("My_Trainer", "my__plans", "3d_lowres"),
    ],
)
def test_a_name_is_taken_apart_as_it_is_put_together(
    tmp_path: Path, trainer: str, plans: str, configuration: str
) -> None:
    model = ModelFolder.named(tmp_path, trainer=trainer, plans=plans, configuration=configuration)
    assert model.path == tmp_path / f"{trainer}__{plans}__{configuration}"
    assert (model.trainer_name, model.plans_name, model.configuration_name) == (trainer, plans, configuration)


def test_a_folder_of_another_name_is_no_model(tmp_path: Path) -> None:
    model = ModelFolder(tmp_path / "ensembles")
    assert (model.trainer_name, model.plans_name, model.configuration_name) == ("", "", "")


def test_folds_are_those_that_have_begun(tmp_path: Path) -> None:
    model = made(
        tmp_path,
        "T__P__2d",
        f"fold_10/{LATEST}",
        f"fold_all/{FINAL}",
        f"fold_2/{FINAL}",
        f"earlier_fold_2_20260101_000000_0/{FINAL}",
        f"fold_x/{FINAL}",
        "fold_03/debug.json",
        "plans.json",
    )
    (model.path / "fold_0").mkdir()
    assert [fold.fold for fold in model.folds()] == [2, 10, "all"]
    assert [fold.fold for fold in model.earlier()] == [2]
    assert model.folds_with(FINAL) == (2,)
    assert model.fold(2).is_trained
    assert not model.fold("10").is_trained
    assert not model.fold(0).has_begun


def test_checkpoints_come_in_the_order_that_a_training_goes_on_from(tmp_path: Path) -> None:
    model = made(tmp_path, "T__P__2d", *(f"fold_0/{name}" for name in (BEST, LATEST, FINAL)))
    assert [path.name for path in model.fold(0).checkpoints()] == [FINAL, LATEST, BEST]


def test_models_are_listed_by_plan_and_configuration(tmp_path: Path) -> None:
    made(tmp_path, "T__P__2d", f"fold_0/{FINAL}")
    made(tmp_path, "T__P__3d_fullres", f"fold_0/{FINAL}")
    made(tmp_path, "T__Q__2d", f"fold_0/{FINAL}")
    made(tmp_path, "T__P__3d_lowres", "plans.json")
    assert [model.configuration_name for model in ModelFolder.all_in(tmp_path, plans="P")] == ["2d", "3d_fullres"]
    assert [model.path.name for model in ModelFolder.all_in(tmp_path, plans="Q", configuration="2d")] == ["T__Q__2d"]


def test_a_folder_above_a_model_is_refused_with_the_models_name(tmp_path: Path) -> None:
    model = made(tmp_path, "T__P__2d", "plans.json")
    model.require()
    with pytest.raises(MissingFileError, match="T__P__2d"):
        ModelFolder(tmp_path).require()


@pytest.mark.parametrize(("text", "fold"), [("0", 0), ("12", 12), ("all", "all")])
def test_a_fold_is_read(text: str, fold: int | str) -> None:
    assert parse_fold(text) == fold


@pytest.mark.parametrize("text", ["", "-1", "1.0", "ALL", "../0", "²", "9" * 20])
def test_no_fold(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_fold(text)
