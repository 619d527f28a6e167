"""Options with several values (`--folds 0 1 2`), as nnU-Net users type them, rewritten for click."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["flag", "one", "many"]


@dataclass
class _Parts:
    """The command line parsed so far; `last_many`: indices in `options` of the values of the last repeated option."""

    options: list[str] = field(default_factory=list)
    positionals: list[str] = field(default_factory=list)
    last_many: list[int] = field(default_factory=list)
    positionals_before: int = 0


def expand(argv: Sequence[str], parameters: Sequence[Any]) -> list[str]:
    """Rewrite a verb's arguments so that each value has its option before it and the positionals come last.

    A repeatable option takes every value up to the next option. If positionals are then missing, it gives back its last
    values, so that `predict --model M --folds 0 1 INPUT OUTPUT` works. Negative numbers are values. `parameters` are
    click's, from whichever copy of click typer ships.

    Example:
        `4 -c 2d 3d_fullres --workers 2` becomes `-c 2d -c 3d_fullres --workers 2 -- 4`.
    """
    kinds = _kinds_of_options(parameters)
    parts = _Parts()
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if token == "--":
            parts.positionals += rest
            break
        if _is_option(token):
            _take_option(token, rest, parts, kinds)
        else:
            parts.positionals.append(token)
    _give_back(parts, sum(p.param_type_name == "argument" and p.required for p in parameters))
    return [*parts.options, "--", *parts.positionals] if parts.positionals else parts.options


def _kinds_of_options(parameters: Sequence[Any]) -> Mapping[str, Kind]:
    kinds: dict[str, Kind] = {}
    for parameter in parameters:
        if parameter.param_type_name == "option":
            kind: Kind = "flag" if parameter.is_flag or parameter.count else "many" if parameter.multiple else "one"
            kinds.update(dict.fromkeys([*parameter.opts, *parameter.secondary_opts], kind))
    return kinds


def _is_option(token: str) -> bool:
    return token.startswith("-") and token != "-" and re.fullmatch(r"-\.?\d.*", token) is None


def _take_option(token: str, rest: list[str], parts: _Parts, kinds: Mapping[str, Kind]) -> None:
    kind = kinds.get(token, "flag")
    if kind == "flag":
        parts.options.append(token)
        return
    num_values = 1 if kind == "one" else max(1, _num_values(rest))
    values, rest[:] = rest[:num_values], rest[num_values:]
    if not values:
        parts.options.append(token)
    places = []
    for value in values:
        parts.options += [token, value]
        places.append(len(parts.options) - 1)
    if kind == "many":
        parts.last_many, parts.positionals_before = places, len(parts.positionals)


def _num_values(rest: Sequence[str]) -> int:
    return next((count for count, token in enumerate(rest) if _is_option(token) or token == "--"), len(rest))


def _give_back(parts: _Parts, num_required: int) -> None:
    while len(parts.positionals) < num_required and len(parts.last_many) > 1:
        place = parts.last_many.pop()
        # Taken from the end and inserted where the option was, they keep their order.
        parts.positionals.insert(parts.positionals_before, parts.options[place])
        del parts.options[place - 1 : place + 1]
