"""The command as such: help, version, exit codes, and what becomes of errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from segwright.cli import main as command
from segwright.cli.console import Terminal, in_words

VERBS = tuple(command.VERBS)


def test_help_names_every_verb(segwright) -> None:
    outcome = segwright("--help")
    assert outcome.code == 0
    assert all(f"\n  {verb} " in outcome.out for verb in VERBS)


def test_no_words_are_a_question_for_help(segwright) -> None:
    assert segwright() == segwright("--help")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_examples(segwright, verb: str) -> None:
    outcome = segwright(verb, "--help")
    assert outcome.code == 0
    assert f"\n    segwright {verb}" in outcome.out


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_loads_nothing_heavy(verb: str) -> None:
    code = (
        "import sys; from segwright.cli.main import main\n"
        f"main({[verb, '--help'] if verb else ['--help']!r})\n"
        "heavy = {'torch', 'numba', 'scipy', 'SimpleITK', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "segwright", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("segwright 0.")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "train"),
        (["train", "4"], "CONFIGURATION"),
        (["train", "4", "2d", "0", "--epochs", "many"], "many"),
        (["train", "4", "2d", "0", "--epoch", "3"], "--epochs"),
        (["predict", "a", "b"], "--model"),
        (["predict", "a", "b", "--model", "m", "--step-size", "0"], "step-size"),
    ],
)
def test_misspelt_commands_exit_with_2(segwright, words: list[str], told: str) -> None:
    outcome = segwright(*words)
    assert outcome.code == 2
    assert outcome.err.startswith("Error: ")
    assert told in outcome.err
    assert outcome.out == ""


def raising_verb(error: BaseException):
    def demo() -> int:
        raise error

    return demo


def test_a_bug_is_called_one_and_its_traceback_goes_to_a_file(segwright, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setitem(command.VERBS, "demo", raising_verb(KeyError("gone")))
    outcome = segwright("demo")
    assert outcome.code == 1
    assert "bug" in outcome.err
    assert "Traceback" not in outcome.err
    (log,) = tmp_path.glob("segwright-error-*.log")
    assert str(log) in outcome.err
    assert "KeyError: 'gone'" in log.read_text()


def test_debug_shows_the_traceback(segwright, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setitem(command.VERBS, "demo", raising_verb(KeyError("gone")))
    assert "Traceback" in segwright("demo", "--debug").err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "Stopped."),
        (OSError(28, "No space left on device", "/full/file"), 2, "/full/file"),
        (MemoryError("too much"), 2, "memory"),
        (command.CasesFailedError("2 of 9 cases failed", {"a": "torn", "b": "NaN"}), 1, "  a: torn\n  b: NaN"),
        (command.SegwrightError("plans.json: expected a patch."), 2, "Error: plans.json: expected a patch.\n"),
    ],
)
def test_errors_have_their_exit_code(segwright, monkeypatch, error: BaseException, code: int, told: str) -> None:
    monkeypatch.setitem(command.VERBS, "demo", raising_verb(error))
    outcome = segwright("demo")
    assert outcome.code == code
    assert told in outcome.err
    assert "Traceback" not in outcome.err


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal.open().json({"dice": float("nan"), 1: [float("inf"), 0.5], "x" * 200: "[bold]"})
    answer = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert answer == {"dice": None, "1": [None, 0.5], "x" * 200: "[bold]"}


def test_plain_progress_has_percent_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr("segwright.cli.console.time.monotonic", lambda: now)
    with Terminal.open().progress() as progress:
        for done in range(41):
            progress("measuring", done, 40)
            now += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert [re.findall(r"\d+", line) for line in (lines[0], lines[-1])] == [
        ["5", "40", "12", "35"],
        ["40", "40", "100", "40"],
    ]
    assert len(lines) == 8


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.7, "1 min 0 s"), (65, "1 min 5 s"), (3725, "1 h 2 min"), (90000, "1 d 1 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
