"""Recipes: named combinations of optimizer, learning rate, schedule and augmentation.

`nnunet` is the method's own and made for 250,000 iterations. `short` reaches a good model in hundreds or thousands.
`benchmarks/recipes.py` measures them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segwright.errors import SettingsError, message

FULL_LENGTH_ITERATIONS = 25_000


@dataclass(frozen=True)
class Recipe:
    """How to spend a given number of iterations.

    `warmup_fraction` is the part of the run in which the learning rate rises linearly to its peak. With `rate_per`
    "epoch" it is constant within an epoch, as in nnU-Net; with "iteration" it changes at every step.
    """

    name: str
    optimizer: Literal["sgd", "adamw"]
    peak_learning_rate: float
    weight_decay: float
    momentum: float
    warmup_fraction: float
    decay_exponent: float
    rate_per: Literal["epoch", "iteration"]
    augmentation: Literal["nnunet", "light", "none"]
    mirroring: bool
    summary: str


NNUNET = Recipe(
    name="nnunet",
    optimizer="sgd",
    peak_learning_rate=1e-2,
    weight_decay=3e-5,
    momentum=0.99,
    warmup_fraction=0.0,
    decay_exponent=0.9,
    rate_per="epoch",
    augmentation="nnunet",
    mirroring=True,
    summary="nnU-Net's own: SGD with Nesterov momentum 0.99, polynomial decay, full augmentation, mirroring",
)

SHORT = Recipe(
    name="short",
    optimizer="adamw",
    peak_learning_rate=3e-3,
    weight_decay=1e-2,
    momentum=0.9,
    warmup_fraction=0.1,
    decay_exponent=0.9,
    rate_per="iteration",
    augmentation="light",
    mirroring=False,
    summary="for short runs: AdamW, a tenth of the run as warm-up, polynomial decay, light augmentation, no mirroring",
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (NNUNET, SHORT)}


def recipe_named(name: object) -> Recipe:
    """Look up a recipe.

    Raises:
        SettingsError: if there is none of this name; the message lists those there are.
    """
    if not isinstance(name, str) or name not in RECIPES:  # a plans file may hold anything
        raise SettingsError(
            message(
                "setting 'recipe'",
                expected=f"one of {', '.join(RECIPES)}",
                got=repr(name),
                remedy="Leave it out to let the length of the run decide.",
            )
        )
    return RECIPES[name]


def recipe_for(total_iterations: int) -> Recipe:
    """Choose the recipe for a run of this many iterations: `nnunet` from 25,000 on, `short` below."""
    return NNUNET if total_iterations >= FULL_LENGTH_ITERATIONS else SHORT
