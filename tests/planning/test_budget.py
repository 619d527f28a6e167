"""The budget: precedence, totals, recipes by length, refusals."""

from __future__ import annotations

import re

import pytest

from segwright.errors import SettingsError
from segwright.planning.budget import resolve_budget, stored_settings
from segwright.planning.recipes import FULL_LENGTH_ITERATIONS, NNUNET, RECIPES, SHORT, recipe_for

PLAN = {"batch_size": 2, "patch_size": [40, 56, 40]}


def test_defaults_are_nnunets() -> None:
    budget = resolve_budget(plan=PLAN)
    assert (budget.value("num_epochs"), budget.value("num_iterations_per_epoch")) == (1000, 250)
    assert budget.value("num_val_iterations_per_epoch") == 50
    assert budget.total_iterations == 250_000
    assert budget.samples == 500_000
    assert budget.recipe is NNUNET
    assert budget.value("initial_lr") == 1e-2
    assert budget.settings["batch_size"].source == "plan"
    assert budget.settings["initial_lr"].source == "recipe"


@pytest.mark.parametrize(
    ("flags", "trainer", "plan", "value", "source"),
    [
        ({"num_epochs": 5}, {"num_epochs": 6}, {"num_epochs": 7}, 5, "command line"),
        ({"num_epochs": None}, {"num_epochs": 6}, {"num_epochs": 7}, 6, "trainer class"),
        ({}, {}, {"num_epochs": 7}, 7, "plan"),
        ({}, {}, {}, 1000, "default"),
    ],
)
def test_precedence(flags: dict, trainer: dict, plan: dict, value: int, source: str) -> None:
    budget = resolve_budget(plan={**PLAN, **plan}, trainer=trainer, flags=flags)
    assert budget.value("num_epochs") == value
    assert budget.settings["num_epochs"].source == source


def test_recipe_follows_length_and_can_be_overridden() -> None:
    short = resolve_budget(plan=PLAN, flags={"num_epochs": 4})
    assert short.recipe is SHORT
    assert short.value("initial_lr") == SHORT.peak_learning_rate
    kept = resolve_budget(plan=PLAN, flags={"num_epochs": 4, "recipe": "nnunet"})
    assert kept.recipe is NNUNET
    assert kept.recipe_source == "command line"
    assert recipe_for(FULL_LENGTH_ITERATIONS) is NNUNET
    assert recipe_for(FULL_LENGTH_ITERATIONS - 1) is SHORT


def test_passes_over_training_cases() -> None:
    budget = resolve_budget(plan=PLAN, flags={"num_epochs": 2, "num_iterations_per_epoch": 10, "batch_size": 4})
    assert budget.samples == 80
    assert budget.passes_over(16) == 5
    assert budget.to_json(16)["totals"] == {
        "iterations": 20,
        "samples": 80,
        "training_cases": 16,
        "passes_over_training_cases": 5.0,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_epochs", 0),
        ("num_epochs", 1.5),
        ("num_epochs", True),
        ("num_iterations_per_epoch", "250"),
        ("batch_size", 0),
        ("initial_lr", 0),
        ("initial_lr", float("nan")),
        ("oversample_foreground_percent", 1.1),
        ("seed", -1),
        ("seed", 1 << 63),
        ("num_epochs", 10**12),
        ("num_iterations_per_epoch", 10**12),
        ("num_val_iterations_per_epoch", 10**12),
        ("save_every", 10**12),
        ("initial_lr", 10**5),
        ("initial_lr", float("inf")),
        ("weight_decay", 10**5),
    ],
)
def test_bad_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=rf"'{name}' from the trainer class.*{re.escape(repr(value))}"):
        resolve_budget(plan=PLAN, trainer={name: value})


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(SettingsError, match=r"recipe.*nnunet.*short"):
        resolve_budget(plan=PLAN, flags={"recipe": "magic"})


def test_rows_name_every_source() -> None:
    rows = resolve_budget(plan=PLAN, flags={"batch_size": 3}).rows()
    assert ("batch_size", "3", "command line") in rows
    assert rows[0][0] == "recipe"
    assert {name for name, _, _ in rows} > {"num_epochs", "num_iterations_per_epoch", "initial_lr"}
    assert set(RECIPES) == {"nnunet", "short"}


def test_a_resumed_run_keeps_its_settings_unless_flags_say_otherwise() -> None:
    first = resolve_budget(plan=PLAN, flags={"num_epochs": 4, "batch_size": 3})
    stored = stored_settings(first.to_json(10))
    again = resolve_budget(plan=PLAN, trainer={"num_epochs": 9}, flags={"batch_size": 5}, resumed=stored)
    assert again.settings["num_epochs"] == first.settings["num_epochs"]
    assert again.recipe is first.recipe
    assert again.value("batch_size") == 5


@pytest.mark.parametrize("recipe", [["nnunet"], {"name": "nnunet"}, 3, None])
def test_a_recipe_that_is_no_name_is_refused(recipe: object) -> None:
    with pytest.raises(SettingsError, match=r"recipe.*nnunet.*short"):
        resolve_budget(plan={**PLAN, "recipe": recipe})


def test_a_wrong_setting_of_a_plan_is_named_with_its_file_and_configuration() -> None:
    with pytest.raises(SettingsError, match=r"'num_epochs' from the plan \(mine\.json, configuration '2d'\)"):
        resolve_budget(plan={**PLAN, "num_epochs": "many"}, plan_where="mine.json, configuration '2d'")
    with pytest.raises(SettingsError, match=r"'num_epochs' from the command line"):
        resolve_budget(plan=PLAN, flags={"num_epochs": 0}, plan_where="mine.json")
