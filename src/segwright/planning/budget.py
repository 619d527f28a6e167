"""The budget of a training: epochs, iterations, batch size and learning rate, and where each value came from.

An epoch is a fixed number of iterations, not a pass over the data. The order of precedence is: command line, trainer
class, plan, default. Learning rate and weight decay default to the recipe's values. A run that continues from a
checkpoint keeps its settings, unless the command line overrides them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from segwright.errors import SettingsError, message
from segwright.planning.fields import in_words, is_number, is_whole_within
from segwright.planning.recipes import Recipe, recipe_for, recipe_named

Source = Literal["command line", "trainer class", "plan", "recipe", "default"]


@dataclass(frozen=True)
class Setting:
    """A resolved value and where it came from."""

    name: str
    value: Any
    source: Source


# Epochs and iterations multiplied stay within what a loader can count; a seed is a word of the generators' key.
MOST_EPOCHS = MOST_ITERATIONS = 1_000_000
LARGEST_SEED = (1 << 63) - 1
LARGEST_RATE = 1000


@dataclass(frozen=True)
class _Rule:
    expected: str
    accepts: Callable[[Any], bool]
    remedy: str


def _whole(minimum: int, maximum: int | None, remedy: str) -> _Rule:
    return _Rule(
        f"a whole number {in_words(minimum, maximum)}", lambda value: is_whole_within(value, minimum, maximum), remedy
    )


def _number(low: float, high: float, remedy: str, *, above_low: bool = False) -> _Rule:
    return _Rule(
        f"a number {f'above {low:g} and up to' if above_low else f'from {low:g} to'} {high:g}",
        lambda value: is_number(value) and low <= value <= high and not (above_low and value == low),
        remedy,
    )


DEFAULTS: dict[str, Any] = {
    "num_epochs": 1000,
    "num_iterations_per_epoch": 250,
    "num_val_iterations_per_epoch": 50,
    "oversample_foreground_percent": 0.33,
    "save_every": 1,
    "seed": 0,
}

_RULES: dict[str, _Rule] = {
    "num_epochs": _whole(1, MOST_EPOCHS, "nnU-Net's own is 1000."),
    "num_iterations_per_epoch": _whole(1, MOST_ITERATIONS, "nnU-Net's own is 250."),
    "num_val_iterations_per_epoch": _whole(1, MOST_ITERATIONS, "nnU-Net's own is 50."),
    "batch_size": _whole(1, None, "The planner's value is in the plans file, key 'batch_size'."),
    "initial_lr": _number(0, LARGEST_RATE, "nnU-Net's own is 0.01; the short recipe's is 0.003.", above_low=True),
    "weight_decay": _number(0, LARGEST_RATE, "nnU-Net's own is 3e-5."),
    "oversample_foreground_percent": _number(0, 1, "nnU-Net's own is 0.33."),
    "save_every": _whole(1, MOST_EPOCHS, "1 saves a checkpoint after every epoch."),
    "seed": _whole(0, LARGEST_SEED, "Any of these will do; the same one repeats the run."),
}

SETTING_NAMES = tuple(_RULES)


@dataclass(frozen=True)
class Budget:
    """All settings of one training, resolved. Build it with `resolve_budget`."""

    settings: Mapping[str, Setting]
    recipe: Recipe
    recipe_source: Source

    def value(self, name: str) -> Any:
        """Resolved value of a setting."""
        return self.settings[name].value

    @property
    def total_iterations(self) -> int:
        """Training steps of the whole run: epochs times iterations an epoch."""
        return int(self.value("num_epochs") * self.value("num_iterations_per_epoch"))

    @property
    def samples(self) -> int:
        """Patches seen in the whole run: iterations times batch size."""
        return int(self.total_iterations * self.value("batch_size"))

    def passes_over(self, num_training_cases: int) -> float:
        """How often each training case is drawn on average, in the whole run."""
        return self.samples / max(num_training_cases, 1)

    def rows(self) -> list[tuple[str, str, str]]:
        """The table that is shown at the start: (setting, value, where it came from)."""
        rows = [
            (s.name, f"{s.value:g}" if isinstance(s.value, float) else str(s.value), s.source) for s in self._ordered()
        ]
        return [("recipe", f"{self.recipe.name} ({self.recipe.summary})", self.recipe_source), *rows]

    def _ordered(self) -> list[Setting]:
        return [self.settings[name] for name in SETTING_NAMES]

    def to_json(self, num_training_cases: int) -> dict[str, Any]:
        """Plain form for the checkpoint and for settings.json."""
        return {
            "recipe": {"name": self.recipe.name, "source": self.recipe_source, "summary": self.recipe.summary},
            "settings": {s.name: {"value": s.value, "source": s.source} for s in self._ordered()},
            "totals": {
                "iterations": self.total_iterations,
                "samples": self.samples,
                "training_cases": num_training_cases,
                "passes_over_training_cases": round(self.passes_over(num_training_cases), 3),
            },
        }


def resolve_budget(
    *,
    plan: Mapping[str, Any],
    trainer: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    resumed: Mapping[str, Setting] | None = None,
    plan_where: str | None = None,
) -> Budget:
    """Resolve every setting by precedence: command line (`flags`), trainer class, plan, default.

    `plan` is the resolved configuration of a plans file, which holds `batch_size` and may hold any other setting under
    its own name (`num_epochs`, `initial_lr`, ..., `recipe`). A flag that is None was not given. `resumed` holds the
    settings of the checkpoint that the run continues from, which only flags override. `plan_where` names file and
    configuration in errors.

    Raises:
        SettingsError: naming the setting, where it was set, what is allowed and what came.
    """
    layers: list[_Layer] = [
        _layer("command line", {k: v for k, v in (flags or {}).items() if v is not None}),
        dict(resumed or {}),
        _layer("trainer class", trainer or {}),
        _layer("plan", plan),
        _layer("default", DEFAULTS),
    ]
    epochs = _pick("num_epochs", layers, plan_where)
    iterations = _pick("num_iterations_per_epoch", layers, plan_where)
    recipe, recipe_source = _pick_recipe(layers, total_iterations=epochs.value * iterations.value)
    from_recipe = {"initial_lr": recipe.peak_learning_rate, "weight_decay": recipe.weight_decay}
    layers.append(_layer("recipe", from_recipe))
    return Budget({name: _pick(name, layers, plan_where) for name in SETTING_NAMES}, recipe, recipe_source)


def stored_settings(stored: Mapping[str, Any]) -> dict[str, Setting]:
    """Read back the settings that `Budget.to_json` stored with a checkpoint, the recipe among them."""
    recipe = stored["recipe"]
    settings = {name: Setting(name, entry["value"], entry["source"]) for name, entry in stored["settings"].items()}
    return {"recipe": Setting("recipe", recipe["name"], recipe["source"]), **settings}


_Layer = dict[str, Setting]


def _layer(source: Source, values: Mapping[str, Any]) -> _Layer:
    return {name: Setting(name, values[name], source) for name in (*SETTING_NAMES, "recipe") if name in values}


def _pick_recipe(layers: list[_Layer], *, total_iterations: int) -> tuple[Recipe, Source]:
    chosen = next((layer["recipe"] for layer in layers if "recipe" in layer), None)
    if chosen is None:
        return recipe_for(total_iterations), "default"
    return recipe_named(chosen.value), chosen.source


def _pick(name: str, layers: list[_Layer], plan_where: str | None) -> Setting:
    for layer in layers:
        if name in layer:
            return _checked(layer[name], plan_where)
    raise SettingsError(
        message(
            f"setting '{name}'",
            expected=_RULES[name].expected,
            got="nothing, in the command line, the trainer class or the plan",
            remedy=_RULES[name].remedy,
        )
    )


def _checked(setting: Setting, plan_where: str | None) -> Setting:
    rule = _RULES[setting.name]
    place = f" ({plan_where})" if setting.source == "plan" and plan_where is not None else ""
    if not rule.accepts(setting.value):
        raise SettingsError(
            message(
                f"setting '{setting.name}' from the {setting.source}{place}",
                expected=rule.expected,
                got=repr(setting.value),
                remedy=rule.remedy,
            )
        )
    return setting
