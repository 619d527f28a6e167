"""What an attack is, and what counts as a finding."""

from __future__ import annotations

import re
import subprocess
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from attack.place import Place, copy_of, differences, snapshot
from attack.runner import CPU_SECONDS, WALL_SECONDS, Main, Outcome, run_forked, run_started, segwright_main

KINDS = ("traceback", "hang", "silent", "outside", "control", "memory", "survivor", "wrong")
PEAK_BYTES = 2 << 30
# What a message of the command line never holds; the last is how the failure of a case shows where Python raised it.
_TRACEBACK = re.compile(
    r"Traceback \(most recent call last\)|bug in Segwright|Exception ignored in|Fatal Python error|\.py, line \d+"
)
# Ctrl-C while Python itself starts: no line of the package was carried out yet.
_BEFORE_US = re.compile(
    r"Traceback \(most recent call last\):\n(?:(?!.*(?:src|-packages)[/\\]segwright[/\\]) .*\n)*KeyboardInterrupt\s"
)
_BAD_ADVICE = re.compile(r"weights_only\s*=\s*False|allow_pickle\s*=\s*True")
_HARMLESS = "\n\t\r"


@dataclass(frozen=True)
class Expectation:
    """Exit codes that are right, what must be said, and what must not be."""

    codes: frozenset[int]
    says: tuple[str, ...] = ()
    says_one_of: tuple[str, ...] = ()
    never_says: tuple[str, ...] = ()


def refused(*says: str) -> Expectation:
    """Exit code 2, naming what is wrong."""
    return Expectation(frozenset({2}), says)


def warned(*says: str) -> Expectation:
    """Exit code 0, but not without a word."""
    return Expectation(frozenset({0}), says)


def refused_or_warned(*says: str) -> Expectation:
    """Either, naming what is wrong."""
    return Expectation(frozenset({0, 2}), says)


def some_fail(*says: str) -> Expectation:
    """Exit code 1: the whole cases are done, the others named."""
    return Expectation(frozenset({1}), says)


def done() -> Expectation:
    """Exit code 0; the attack's check looks at the result."""
    return Expectation(frozenset({0}))


def answered() -> Expectation:
    """Any of the exit codes that are documented: nothing but its manners are looked at."""
    return Expectation(frozenset({0, 1, 2}))


def interrupted(*says: str) -> Expectation:
    """Exit code 130, or death by the signal before Python was there to notice."""
    return Expectation(frozenset({130, -2, -15, -9, 143}), says)


@dataclass(frozen=True)
class Attack:
    """One thing that a hostile or tired person might do.

    `argv` may name folders of the place in braces, such as {model}. `check` returns what is wrong with the result.
    `keeps` are paths of the workspace that must stay as they are; `raw` always must. With `drive` the program is
    started afresh and `drive` sends it signals.
    """

    name: str
    family: str
    argv: tuple[str, ...]
    expect: Expectation
    prepare: Callable[[Place], None] = lambda place: None
    check: Callable[[Place, Outcome], str | None] = lambda place, outcome: None
    drive: Callable[[Place, subprocess.Popen[bytes]], None] | None = None
    keeps: tuple[str, ...] = ()
    keeps_raw: bool = True
    peak_bytes: int = PEAK_BYTES
    cpu_seconds: int = CPU_SECONDS
    wall_seconds: float = WALL_SECONDS
    main: Main = field(default=segwright_main, repr=False)


@dataclass(frozen=True)
class Finding:
    """Something that must not be."""

    kind: str
    text: str


@dataclass(frozen=True)
class Result:
    attack: Attack
    words: tuple[str, ...]
    outcome: Outcome | None
    findings: tuple[Finding, ...]


def carry_out(attack: Attack, template: Place, root: Path) -> Result:
    """Prepare a place, run the command, and judge it."""
    place = copy_of(template, root)
    attack.prepare(place)
    words = tuple(place.words(attack.argv))
    raw = [place.raw] if attack.keeps_raw else []
    protected = [place.outside, *raw, *(place.workspace / kept for kept in attack.keeps)]
    before = snapshot(protected)
    limits = {"cpu_seconds": attack.cpu_seconds, "wall_seconds": attack.wall_seconds}
    environ = place.environ()
    if attack.drive is None:
        outcome = run_forked(words, folder=root, environ=environ, main=attack.main, **limits)
    else:
        outcome = run_started(words, folder=root, environ=environ, drive=partial(attack.drive, place), **limits)
    changed = differences(before, snapshot(protected))
    if outcome.code < 0 or outcome.code == 130:  # whoever is stopped at once cannot clear up its temporary files
        changed = [change for change in changed if f"{place.outside}/tmp/" not in change]
    return Result(attack, words, outcome, tuple(_findings(attack, place, outcome, changed)))


def _findings(attack: Attack, place: Place, outcome: Outcome, changed: list[str]) -> Iterable[Finding]:
    expect = attack.expect
    text = _BEFORE_US.sub("", outcome.text)
    if found := _TRACEBACK.search(text):
        yield Finding("traceback", found[0])
    if outcome.hung:
        yield Finding("hang", f"longer than {attack.cpu_seconds} s of computing or {attack.wall_seconds:.0f} s")
    elif outcome.code == 0 and 0 not in expect.codes:
        yield Finding("silent", "exit code 0")
    elif outcome.code not in expect.codes:
        yield Finding("wrong", f"exit code {outcome.code}, expected {sorted(expect.codes)}")
    unsaid = [word for word in expect.says if word not in outcome.text]
    if expect.says_one_of and not any(word in outcome.text for word in expect.says_one_of):
        unsaid.append(" or ".join(expect.says_one_of))
    if unsaid and not outcome.hung:
        yield Finding("silent" if outcome.code == 0 else "wrong", f"not a word of {', '.join(unsaid)}")
    said = [word for word in expect.never_says if word in outcome.text]
    if said or _BAD_ADVICE.search(outcome.text):
        yield Finding("wrong", f"it says {', '.join(said) or 'how to load the file without protection'}")
    if changed:
        yield Finding("outside", "; ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else ""))
    if controls := sorted({character for character in outcome.text if _controls_a_terminal(character)}):
        yield Finding("control", f"control characters {controls}")
    if outcome.peak_bytes > attack.peak_bytes:
        yield Finding("memory", f"{outcome.peak_bytes / 2**30:.1f} GiB, allowed {attack.peak_bytes / 2**30:.1f}")
    if outcome.survivors:
        yield Finding("survivor", "; ".join(outcome.survivors))
    if outcome.code in expect.codes and not outcome.hung and (wrong := attack.check(place, outcome)):
        yield Finding("silent" if outcome.code == 0 else "wrong", wrong)


def _controls_a_terminal(character: str) -> bool:
    """Whether a character moves the cursor, colours, hides, or turns the direction of writing."""
    category = unicodedata.category(character)
    return (category == "Cc" and character not in _HARMLESS) or unicodedata.bidirectional(character) in {
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    }
