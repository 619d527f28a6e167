"""All attacks, family by family."""

from __future__ import annotations

from attack import checkpoints, collisions, drift, headers, names, numbers, predictions, processes, splits
from attack.engine import Attack

FAMILIES = (names, checkpoints, drift, predictions, collisions, numbers, splits, headers, processes)

# The small choice that `make test` runs: one or two of the worst of each family, each a second or two.
QUICK = frozenset(
    {
        "data_identifier-absolute-preprocess",
        "case-absolute-check",
        "file_ending-up-predict",
        "final-zeros-predict",
        "code-archive-predict",
        "nonlin-trained-continue",
        "same-again",
        "seg-check",
        "first-stride-2-train",
        "flag-seed-2-70-train",
        "val-empty-train",
        "slope-zero-check",
        "ctrl-c-0.3-train",
    }
)


def all_attacks() -> list[Attack]:
    """Every attack, in the order in which they are carried out; no two have one name."""
    attacks = [attack for family in FAMILIES for attack in family.attacks()]
    assert len({attack.name for attack in attacks}) == len(attacks), "two attacks of one name"
    return attacks
