"""The plan: nnU-Net v2's *Plans.json as a value. It reads, resolves and checks; what it writes is what it read."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segwright.errors import PlanError, message
from segwright.io.atomic import write_json_atomic
from segwright.names import parse_name
from segwright.planning.architecture import Architecture
from segwright.planning.configuration import Configuration, Resampling, parse_configuration
from segwright.planning.fields import Fields, as_object, is_number, read_json_object
from segwright.planning.legacy import is_legacy, upgrade

__all__ = ["Architecture", "Configuration", "Plan", "Resampling", "merge_hand_made"]

LONGEST_INHERITANCE = 100


@dataclass(frozen=True)
class Plan:
    """A plans file. Build it with `Plan.read` or `Plan.from_json`; `raw` is the file, in its own order.

    Spacings in mm and shapes are in (z, y, x) after `transpose_forward`.
    """

    raw: Mapping[str, Any]
    dataset_name: str
    plans_name: str
    transpose_forward: tuple[int, ...]
    transpose_backward: tuple[int, ...]
    image_reader_writer: str
    original_median_spacing_mm: tuple[float, ...]
    original_median_shape: tuple[float, ...]
    foreground_intensity_properties_per_channel: Mapping[str, Mapping[str, float]]
    experiment_planner_used: str
    configuration_names: tuple[str, ...]
    where: str = field(default="plans", compare=False)

    @classmethod
    def from_json(cls, value: Any, *, where: str = "plans") -> Plan:
        """Read a plan of any version of nnU-Net v2; configurations are checked when they are asked for.

        Raises:
            PlanError: naming the key that is missing or wrong.
        """
        raw = copy.deepcopy(as_object(value, where))
        fields = Fields(raw, where)
        forward, backward = _transposes(fields)
        return cls(
            raw=raw,
            dataset_name=fields.name("dataset_name"),
            plans_name=fields.name("plans_name"),
            transpose_forward=forward,
            transpose_backward=backward,
            image_reader_writer=fields.text("image_reader_writer"),
            original_median_spacing_mm=fields.positive_numbers("original_median_spacing_after_transp"),
            original_median_shape=fields.positive_numbers("original_median_shape_after_transp"),
            foreground_intensity_properties_per_channel=_intensity_properties(fields),
            experiment_planner_used=fields.text("experiment_planner_used"),
            configuration_names=_configuration_names(fields),
            where=where,
        )

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plans file.

        Raises:
            MissingFileError, PlanError: naming the file and the key.
        """
        return cls.from_json(read_json_object(path), where=str(path))

    def write(self, path: Path) -> None:
        """Write the file, every key in the order it was read or planned, at once or not at all."""
        write_json_atomic(path, self.raw)

    def configuration(self, name: str) -> Configuration:
        """Return a configuration, inheritance resolved and every value checked.

        Raises:
            PlanError: for an unknown name, a loop of inheritance, or a key that is missing or wrong.
        """
        resolved = self.resolved_entry(name)
        where = f"{self.where}, configuration '{name}'"
        if is_legacy(resolved):
            resolved = upgrade(resolved, where=where)
        configuration = parse_configuration(name, resolved, where=where)
        if configuration.previous_stage is not None:
            self._check_previous_stage(configuration.previous_stage, name, f"{where}, key 'previous_stage'")
        return configuration

    def _check_previous_stage(self, previous: str, name: str, where: str) -> None:
        self._entry(previous, where)
        if previous == name:
            raise PlanError(
                message(
                    where,
                    expected="another configuration, whose predictions are the input of this one",
                    got=repr(previous),
                    remedy="nnU-Net's is 3d_lowres.",
                )
            )

    def resolved_entry(self, name: str) -> dict[str, Any]:
        """Return the entry of a configuration with what it inherits, not checked any further.

        Raises:
            PlanError: for an unknown name, or a loop of inheritance.
        """
        where, chain, entries = self.where, [name], []
        while True:
            entries.append(dict(self._entry(chain[-1], where)))
            if "inherits_from" not in entries[-1]:
                break
            of = f"{self.where}, configuration '{chain[-1]}'"
            where = f"{of}, key 'inherits_from'"
            parent = Fields(entries[-1], of).text("inherits_from")
            if parent in chain or len(chain) == LONGEST_INHERITANCE:
                raise _endless_inheritance(where, [*chain, parent])
            chain.append(parent)
        resolved = {key: value for entry in reversed(entries) for key, value in entry.items()}
        resolved.pop("inherits_from", None)
        return copy.deepcopy(resolved)

    def with_configuration(self, name: str, entries: Mapping[str, Any]) -> Plan:
        """Return a plan in which a configuration holds `entries`: added to what it has, or as a new one at the end."""
        raw = copy.deepcopy(dict(self.raw))
        raw["configurations"][name] = {**raw["configurations"].get(name, {}), **entries}
        return Plan.from_json(raw, where=self.where)

    def _entry(self, name: str, asker: str) -> Mapping[str, Any]:
        configurations: Mapping[str, Any] = self.raw["configurations"]
        if name not in configurations:
            raise PlanError(
                message(
                    asker,
                    expected=f"a configuration of the plan: {', '.join(configurations) or '(none)'}",
                    got=repr(name),
                    remedy="Choose one of them, or add it to the plan.",
                )
            )
        return Fields(configurations, f"{self.where}, key 'configurations'").mapping(name)


def _endless_inheritance(where: str, chain: Sequence[str]) -> PlanError:
    return PlanError(
        message(
            where,
            expected=f"a chain of at most {LONGEST_INHERITANCE} configurations that ends",
            got=" -> ".join(chain),
            remedy="Take 'inherits_from' out of one of them.",
        )
    )


def merge_hand_made(new: Plan, existing: Plan) -> Plan:
    """Return a new plan with the configurations of an existing one that the new does not plan, at the end, as nnU-Net
    keeps them when it plans again."""
    raw = copy.deepcopy(dict(new.raw))
    for name, entry in existing.raw["configurations"].items():
        raw["configurations"].setdefault(name, copy.deepcopy(entry))
    return Plan.from_json(raw, where=new.where)


def _configuration_names(fields: Fields) -> tuple[str, ...]:
    where = f"{fields.where}, key 'configurations'"
    return tuple(parse_name(name, where=where, error=PlanError) for name in fields.mapping("configurations"))


def _transposes(fields: Fields) -> tuple[tuple[int, ...], tuple[int, ...]]:
    forward = fields.whole_numbers("transpose_forward", minimum=0)
    backward = fields.whole_numbers("transpose_backward", minimum=0)
    if sorted(forward) != [0, 1, 2]:
        raise fields.error(
            "transpose_forward",
            expected="an order of the axes 0, 1 and 2",
            got=str(list(forward)),
            remedy="Correct it.",
        )
    inverse = tuple(forward.index(axis) for axis in range(3))
    if backward != inverse:
        raise fields.error(
            "transpose_backward",
            expected=f"{list(inverse)}, which undoes 'transpose_forward'",
            got=str(list(backward)),
            remedy="Correct it.",
        )
    return forward, backward


def _intensity_properties(fields: Fields) -> Mapping[str, Mapping[str, float]]:
    alias = "foreground_intensity_properties_by_modality"  # an older name of the key
    key = "foreground_intensity_properties_per_channel"
    channels = fields.inner(alias if key not in fields.values and alias in fields.values else key)
    for channel in channels.values:
        properties = channels.inner(channel)
        for name, value in properties.values.items():
            if not is_number(value):  # NaN is one: nnU-Net writes it for a channel without foreground
                raise properties.error(name, expected="a number", got=repr(value), remedy="Plan the data set again.")
    return channels.values
