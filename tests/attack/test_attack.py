"""The engine counts what it must count; the small choice of attacks, and all of them, find nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from attack.__main__ import chosen, table
from attack.corpus import QUICK, all_attacks
from attack.engine import KINDS, Attack, carry_out, done, refused, warned
from attack.place import Place

TESTS = Path(__file__).parents[1]


def fine(words: list[str]) -> int:
    print("done", *words)
    return 0


def hang(words: list[str]) -> int:
    time.sleep(1000)
    return 2


def compute_for_ever(words: list[str]) -> int:
    while True:
        pass


def write_outside(words: list[str]) -> int:
    Path(words[0], "precious", "new.txt").write_text("x")
    return 2


def change_outside(words: list[str]) -> int:
    path = Path(words[0], "precious", "a.txt")
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return 2


def delete_outside(words: list[str]) -> int:
    Path(words[0], "precious", "a.txt").unlink()
    return 2


def raise_an_error(words: list[str]) -> int:
    raise RuntimeError("no")


def interrupted_by_python(words: list[str]) -> int:
    place = "/usr/lib/python3/site-packages/typer/main.py"
    print(f'Traceback (most recent call last):\n  File "{place}", line 1, in <module>\n    import x\nKeyboardInterrupt')
    return 2


def interrupted_by_us(words: list[str]) -> int:
    place = "/usr/lib/python3/site-packages/segwright/cli/main.py"
    print(f'Traceback (most recent call last):\n  File "{place}", line 1, in <module>\n    import x\nKeyboardInterrupt')
    return 2


def colour(words: list[str]) -> int:
    print("\x1b[31mred", file=sys.stderr)
    return 2


def turn(words: list[str]) -> int:
    print("a\u202egpj.exe", file=sys.stderr)
    return 2


def take_memory(words: list[str]) -> int:
    print(len(bytearray(os.urandom(1 << 20)) * 300))
    return 2


def leave_a_child(words: list[str]) -> int:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    return 2


def advise_badly(words: list[str]) -> int:
    print("load it with weights_only=False")
    return 2


def crash(words: list[str]) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 2


@pytest.fixture
def template(tmp_path: Path) -> Place:
    place = Place(tmp_path / "template")
    for name in ("home", "tmp", "cwd", "precious"):
        (place.outside / name).mkdir(parents=True)
    (place.outside / "precious" / "a.txt").write_text("a")
    place.raw.mkdir(parents=True)
    return place


def attack(main: Callable[[list[str]], int], **changes: object) -> Attack:
    plain = Attack(main.__name__, "fake", ("{outside}",), refused(), main=main, wall_seconds=20.0)
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fake", "kinds"),
    [
        (attack(fine, expect=done()), []),
        (attack(fine), ["silent"]),
        (attack(fine, expect=warned("damaged")), ["silent"]),
        (attack(fine, expect=done(), check=lambda place, outcome: "another result"), ["silent"]),
        (attack(hang, wall_seconds=0.5), ["hang"]),
        (attack(compute_for_ever, cpu_seconds=1), ["hang"]),
        (attack(write_outside), ["outside"]),
        (attack(change_outside), ["outside"]),
        (attack(delete_outside), ["outside"]),
        (attack(raise_an_error), ["traceback", "wrong"]),
        (attack(interrupted_by_python), []),
        (attack(interrupted_by_us), ["traceback"]),
        (attack(colour), ["control"]),
        (attack(turn), ["control"]),
        (attack(take_memory, peak_bytes=200 << 20), ["memory"]),
        (attack(leave_a_child), ["survivor"]),
        (attack(advise_badly), ["wrong"]),
        (attack(crash), ["wrong"]),
        (attack(colour, expect=refused("a name")), ["wrong", "control"]),
    ],
    ids=lambda value: value.name if isinstance(value, Attack) else "",
)
def test_what_must_not_be_is_counted(fake: Attack, kinds: list[str], template: Place, tmp_path: Path) -> None:
    result = carry_out(fake, template, tmp_path / "attack")
    assert [finding.kind for finding in result.findings] == kinds
    heading, _, total = (line.split() for line in table([result]).splitlines())
    counts = dict(zip(heading, total, strict=True))
    assert counts["failing"] == str(int(bool(kinds)))
    assert {kind for kind in KINDS if counts[kind] != "0"} == set(kinds)


def test_a_changed_file_of_the_workspace_that_must_stay_is_counted(template: Place, tmp_path: Path) -> None:
    def change_raw(words: list[str]) -> int:
        Path(words[0]).write_text("changed")
        return 2

    def prepare(place: Place) -> None:
        (place.raw / "image.nii.gz").write_text("image")

    fake = attack(change_raw, argv=("{raw}/image.nii.gz",), prepare=prepare)
    assert [finding.kind for finding in carry_out(fake, template, tmp_path / "attack").findings] == ["outside"]


def test_attacks_have_names_of_their_own_and_the_small_choice_is_among_them() -> None:
    attacks = all_attacks()
    assert len({attack.name for attack in attacks}) == len(attacks) > 1000
    assert {attack.name for attack in attacks} >= QUICK
    quick = chosen(attacks, quick=True)
    assert {attack.name for attack in quick} == QUICK
    assert {attack.family for attack in quick} == {attack.family for attack in attacks}


def attack_with(*options: str) -> subprocess.CompletedProcess[str]:
    # a process of its own, because this one may have threads, which a fork does not take along
    return subprocess.run(
        [sys.executable, "-m", "attack", *options],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_small_choice_finds_nothing() -> None:
    result = attack_with("--quick")
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({attack.family for attack in all_attacks()}))
def test_no_attack_of_the_family_finds_anything(family: str) -> None:
    result = attack_with("--family", family)
    assert result.returncode == 0, result.stdout
