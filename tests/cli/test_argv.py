"""Options of several values, as nnU-Net's users type them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segwright.cli.argv import expand


def option(*names: str, multiple: bool = False, is_flag: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        param_type_name="option", opts=list(names), secondary_opts=[], multiple=multiple, is_flag=is_flag, count=False
    )


def argument(required: bool = True) -> SimpleNamespace:
    return SimpleNamespace(param_type_name="argument", required=required)


PARAMETERS = [
    argument(),
    argument(),
    option("--folds", multiple=True),
    option("-c", "--configuration", multiple=True),
    option("--step-size"),
    option("--overwrite", is_flag=True),
]


@pytest.mark.parametrize(
    ("typed", "expanded"),
    [
        ("in out --folds 0 1 2", "--folds 0 --folds 1 --folds 2 -- in out"),
        ("in out --folds 0 --folds 1", "--folds 0 --folds 1 -- in out"),
        ("--folds 0 1 in out", "--folds 0 --folds 1 -- in out"),
        ("in --folds 0 1 out", "--folds 0 --folds 1 -- in out"),
        ("--folds all in out", "--folds all -- in out"),
        ("in out -c A B --overwrite", "-c A -c B --overwrite -- in out"),
        ("in out -c A -c B", "-c A -c B -- in out"),
        ("in out --step-size 0.5 --folds 3", "--step-size 0.5 --folds 3 -- in out"),
        ("in out --folds=0 --step-size=0.5", "--folds=0 --step-size=0.5 -- in out"),
        ("in out --folds -1", "--folds -1 -- in out"),
        ("in -1", "-- in -1"),
        ("-c A --folds 0 -- in out", "-c A --folds 0 -- in out"),
        ("in out --unknown", "--unknown -- in out"),
        ("in out --folds", "--folds -- in out"),
        ("--help", "--help"),
        ("", ""),
    ],
)
def test_every_value_gets_its_option(typed: str, expanded: str) -> None:
    assert expand(typed.split(), PARAMETERS) == expanded.split()


def test_an_option_keeps_at_least_one_value() -> None:
    assert expand(["--folds", "0"], PARAMETERS) == ["--folds", "0"]


@given(
    st.lists(st.sampled_from(["0", "1", "x", "-2"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["--overwrite", "--step-size 0.5", "-c A B"]), max_size=3),
)
def test_expanding_twice_changes_nothing_more(folds: list[str], others: list[str]) -> None:
    words = ["in", "out", "--folds", *folds, *(word for other in others for word in other.split())]
    once = expand(words, PARAMETERS)
    assert expand(once, PARAMETERS) == once
