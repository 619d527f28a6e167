"""Signals, dying processes, folders that vanish and disks that fill."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from attack.checkpoints import unfinished
from attack.commands import CHECK, CONTINUE, EXPLAIN, HERE, OVERWRITE, PLAN, PREDICT, PREPROCESS, REPORT, TRAIN_0
from attack.engine import Attack, Expectation, answered, done, interrupted, refused
from attack.place import Place
from attack.runner import PROGRAM, Outcome, segwright_main
from tiny_datasets import TRAIN

FAMILY = "processes"
Process = subprocess.Popen[bytes]
Drive = Callable[[Place, Process], None]
_LONG = ("--epochs", "100000", *HERE, "--device", "cpu", "--val-iterations-per-epoch", "1")
LONG_TRAINING = ("train", "1", "3d_fullres", "0", *_LONG, "--iterations-per-epoch", "3", "--workers", "0")
WITH_LOADERS = ("train", "1", "3d_fullres", "0", *_LONG, "--iterations-per-epoch", "3", "--workers", "2")
OWN = ("--trainer", "{workspace}/own.py:Own")
TWO = ("--workers", "2")
TRAINERS = """
import os, signal
import numpy as np
from segwright import Trainer

class Own(Trainer):
    num_epochs = 3
    num_iterations_per_epoch = 3
    num_val_iterations_per_epoch = 1
"""
# A step in one call of a library, that Python's own handlers of signals do not interrupt.
ENDLESS_STEP = """
    def train_step(self, batch):
        (self.output_folder.parent / "in_the_step").touch()
        np.linalg.eigvals(np.broadcast_to(np.random.default_rng(0).normal(size=(300, 300)), (100_000, 300, 300)))
        return super().train_step(batch)
"""
KILLED_WHILE_SAVING = """
    def on_epoch_end(self):
        import torch
        whole = torch.save
        def save_and_die(value, path, *more, **options):
            whole(value, path, *more, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.current_epoch == 1:
            torch.save = save_and_die
        super().on_epoch_end()
"""
RAISES = """
    def train_step(self, batch):
        raise SystemExit("no")
"""


def attacks() -> Iterator[Attack]:
    """Each verb interrupted at many moments; parents and children killed; the ground taken away."""
    yield from _interrupts()
    yield from _deaths()
    yield from _vanishing()
    yield from _full_disks()
    yield from _surroundings()


# ---------------------------------------------------------------------------------------------- signals


def _after(seconds: float, number: int, *, times: int = 1) -> Drive:
    """Wait for the first line of the program, and then a while."""

    def drive(place: Place, process: Process) -> None:
        time.sleep(seconds)
        _signals(*[(number, 0.2)] * times)(place, process)

    return _once("{begun}", drive)


def _once(path: str, then: Drive, *, seconds: float = 60.0) -> Drive:
    """Wait for a file or folder of the place, then do something."""

    def drive(place: Place, process: Process) -> None:
        (pattern,) = place.words([path])
        end = time.monotonic() + seconds
        while time.monotonic() < end and process_is_there(process):
            if any(Path("/").glob(pattern.lstrip("/"))):
                then(place, process)
                return
            time.sleep(0.01)
        raise RuntimeError(f"{pattern} did not appear")

    return drive


def process_is_there(process: Process) -> bool:
    """Whether a child runs; it is waited for elsewhere."""
    state = Path("/proc", str(process.pid), "stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def _signals(*steps: tuple[int, float]) -> Drive:
    """Send signals, each followed by a pause in seconds."""

    def drive(place: Place, process: Process) -> None:
        for number, pause in steps:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            time.sleep(pause)

    return drive


LOG = "{fold}/training_log.jsonl"
STEP = "{workspace}/results/*/*/in_the_step"


def _interrupts() -> Iterator[Attack]:
    ended = Expectation(frozenset({0, 130, -2, 2}))
    for delay in (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0):
        drive = _after(delay, signal.SIGINT)
        yield Attack(f"ctrl-c-{delay}-train", FAMILY, LONG_TRAINING, interrupted(), drive=drive)
        yield Attack(f"ctrl-c-{delay}-check", FAMILY, (*CHECK[:-2], *TWO), ended, drive=drive)
        yield Attack(f"ctrl-c-{delay}-predict", FAMILY, PREDICT, ended, drive=drive)
        if delay <= 0.3:
            yield Attack(f"ctrl-c-{delay}-explain", FAMILY, EXPLAIN, ended, drive=drive)
            yield Attack(f"ctrl-c-{delay}-help", FAMILY, ("--help",), ended, drive=drive)
        else:
            argv = (*OVERWRITE[:-3], "--overwrite", *TWO)
            yield Attack(f"ctrl-c-{delay}-preprocess", FAMILY, argv, ended, drive=drive)
    for delay in (0.1, 0.6, 3.0):
        drive = _after(delay, signal.SIGINT, times=3)
        yield Attack(f"ctrl-c-{delay}-thrice-train", FAMILY, LONG_TRAINING, interrupted(), drive=drive)
        yield Attack(f"ctrl-c-{delay}-thrice-preprocess", FAMILY, (*OVERWRITE[:-3], *TWO), ended, drive=drive)
    started = _once(LOG, _signals((signal.SIGTERM, 0)))
    fresh = {"prepare": _fresh, "check": _continues}
    yield Attack("sigterm-train", FAMILY, LONG_TRAINING, interrupted(), drive=started, **fresh)
    yield Attack("sigterm-train-with-loaders", FAMILY, WITH_LOADERS, interrupted(), drive=started, **fresh)
    yield Attack(
        "sighup-train", FAMILY, WITH_LOADERS, answered_or_dead(), _fresh, drive=_once(LOG, _signals((signal.SIGHUP, 0)))
    )
    endless = partial(_with_trainer, body=ENDLESS_STEP)
    twice = _once(STEP, _signals((signal.SIGINT, 0.5), (signal.SIGINT, 0)))
    argv = (*TRAIN_0, *OWN)
    yield Attack("ctrl-c-twice-in-endless-step", FAMILY, argv, interrupted(), endless, drive=twice, wall_seconds=60)
    argv = (*TRAIN_0, *OWN, *TWO)
    term_and_kill = _once(STEP, _signals((signal.SIGTERM, 1.0), (signal.SIGKILL, 0)))
    kill = _once(STEP, _signals((signal.SIGKILL, 0)))
    yield Attack("ctrl-c-twice-with-loaders", FAMILY, argv, interrupted(), endless, drive=twice, wall_seconds=60)
    yield Attack("sigterm-sigkill-in-endless-step", FAMILY, argv, interrupted(), endless, drive=term_and_kill)
    yield Attack("sigkill-in-endless-step", FAMILY, argv, Expectation(frozenset({-9})), endless, drive=kill)


def answered_or_dead() -> Expectation:
    return Expectation(frozenset({0, 1, 2, 130, 143, 129, -1}))


def _fresh(place: Place) -> None:
    shutil.rmtree(place.results)


def _with_trainer(place: Place, *, body: str) -> None:
    (place.workspace / "own.py").write_text(TRAINERS + body)


def _continues(place: Place, outcome: Outcome) -> str | None:
    """What was stopped goes on."""
    words = ("train", "1", "3d_fullres", "0", "--continue", "--epochs", "1", *HERE, *TRAIN)
    again = place.try_to_run(*words)
    return None if again.code in (0, 2) and "Traceback" not in again.text else f"it does not go on: {again.text[-500:]}"


# ---------------------------------------------------------------------------------------------- deaths


def _deaths() -> Iterator[Attack]:
    says = ("--continue",)
    one = _once(LOG, _kill_children("pt_data_worker"))
    yield Attack("loader-killed", FAMILY, WITH_LOADERS, refused(*says), _fresh, drive=one)
    dead = Expectation(frozenset({-9}))
    for verb, argv in (
        ("train", WITH_LOADERS),
        ("preprocess", (*OVERWRITE[:-3], "--overwrite", *TWO)),
        ("check", (*CHECK[:-2], *TWO)),
        ("plan", (*PLAN[:-2], *TWO)),
    ):
        for delay in (1.0, 2.0, 4.0):
            expect = Expectation(frozenset({-9, 0}))
            drive = _after(delay, signal.SIGKILL)
            yield Attack(f"sigkill-{delay}-{verb}", FAMILY, argv, expect, drive=drive)
    saving = partial(_with_trainer, body=KILLED_WHILE_SAVING)
    yield Attack(
        "sigkill-while-saving",
        FAMILY,
        (*TRAIN_0[:4], *HERE, *OWN, "--workers", "0", "--device", "cpu"),
        dead,
        saving,
        drive=lambda place, process: None,
        check=_swept_when_it_goes_on,
    )
    leftovers = {"prepare": _leftovers, "check": _no_leftovers}
    for verb, argv in (
        ("train", TRAIN_0),
        ("continue", CONTINUE),
        ("preprocess", OVERWRITE),
        ("predict", PREDICT),
        ("plan", PLAN),
    ):
        yield Attack(f"leftovers-{verb}", FAMILY, argv, done(), **leftovers)
    yield Attack(
        "trainer-raises-system-exit", FAMILY, (*TRAIN_0, *OWN), answered(), partial(_with_trainer, body=RAISES)
    )


def _kill_children(name: str) -> Drive:
    def drive(place: Place, process: Process) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = [child for child in _children(process.pid) if name in _name_of(child)]
            if found:
                time.sleep(0.5)
                for child in found:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                return
            time.sleep(0.02)
        raise RuntimeError(f"no process {name}")

    return drive


def _children(process_id: int) -> list[int]:
    text = Path("/proc", str(process_id), "task", str(process_id), "children").read_text()
    return [int(child) for child in text.split()]


def _name_of(process_id: int) -> str:
    with contextlib.suppress(OSError):
        return Path("/proc", str(process_id), "comm").read_text()
    return ""


def _swept_when_it_goes_on(place: Place, outcome: Outcome) -> str | None:
    (place.workspace / "own.py").write_text(TRAINERS)
    again = place.try_to_run(*TRAIN_0[:4], *HERE, *OWN, "--workers", "0", "--device", "cpu", "--continue")
    if again.code != 0:
        return f"it does not go on: {again.text[-500:]}"
    left = [path for path in place.results.rglob(".segwright-*") if path.is_dir()]
    return f"left behind: {left[0]}" if left else None


def _leftovers(place: Place) -> None:
    """What killed processes leave beside the files that they were writing, long ago."""
    for folder in (place.fold, place.model, place.preprocessed, place.store, place.out, place.results):
        folder.mkdir(exist_ok=True)
        left = folder / ".segwright-k1ll3d_x"
        left.mkdir()
        (left / "checkpoint_latest.pth").write_bytes(b"half" * 1000)
        for path in (left / "checkpoint_latest.pth", left):
            os.utime(path, (1.6e9, 1.6e9))


def _no_leftovers(place: Place, outcome: Outcome) -> str | None:
    """Those beside files that the command writes are gone."""
    left = [place.workspace, place.out]
    found = [path for folder in left for path in folder.rglob(".segwright-*") if path.is_dir()]
    # a verb sweeps where it works, so some may stay elsewhere, but not all
    return f"all of {len(found)} left behind, such as {found[0]}" if len(found) >= 6 else None


# ---------------------------------------------------------------------------------------------- the ground


def _vanishing() -> Iterator[Attack]:
    def remove(name: str) -> Drive:
        return lambda place, process: shutil.rmtree(Path(place.words([name])[0]), ignore_errors=True)

    training = ("train", "1", "3d_fullres", "0", *_LONG[2:], "--epochs", "30", "--iterations-per-epoch", "3")
    lost = Expectation(frozenset({1, 2}))
    for what, name in {"fold": "{fold}", "results": "{workspace}/results", "model": "{model}"}.items():
        for workers in ("0", "2"):
            argv = (*training, "--workers", workers)
            drive = _once(LOG, remove(name))
            yield Attack(f"{what}-removed-while-training-{workers}", FAMILY, argv, lost, _fresh, drive=drive)
    argv = (*training, "--workers", "2")
    drive = _once(LOG, remove("{store}"))
    yield Attack("store-removed-while-training", FAMILY, argv, lost, _fresh, drive=drive)
    drive = _once(LOG, remove("{workspace}/preprocessed"))
    yield Attack("preprocessed-removed-while-training", FAMILY, argv, lost, _fresh, drive=drive)
    yield Attack("same-fold-twice", FAMILY, LONG_TRAINING, interrupted(), _fresh, drive=_once(LOG, _train_beside))
    yield Attack(
        "trained-while-preprocessed-anew", FAMILY, argv, answered(), _fresh, drive=_once(LOG, _preprocess_beside)
    )


def _train_beside(place: Place, process: Process) -> None:
    """The same training once more, which must be refused, and then Ctrl-C to the first."""
    second = _run_beside(place, (*TRAIN_0, "--continue"))
    os.kill(process.pid, signal.SIGINT)
    if second.returncode != 2:
        raise RuntimeError(f"the second training: exit code {second.returncode}")


def _preprocess_beside(place: Place, process: Process) -> None:
    _run_beside(place, OVERWRITE)


def _run_beside(place: Place, argv: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, **place.environ()}
    return subprocess.run([*PROGRAM, *place.words(argv)], env=environ, capture_output=True, timeout=100, check=False)


# ---------------------------------------------------------------------------------------------- disks


def _with_largest_file(size: int, words: list[str]) -> int:
    """Run with a limit on the size of files, which ends writing as a full disk does, without a disk to fill."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return segwright_main(words)


def _full_disks() -> Iterator[Attack]:
    failed = Expectation(frozenset({1, 2}))
    for size in (5000, 30_000):  # what is said must be written as well
        main = partial(_with_largest_file, size)
        for verb, argv in (("train", TRAIN_0), ("preprocess", OVERWRITE), ("plan", PLAN), ("predict", PREDICT)):
            enough = (verb, size) in {("plan", 30_000), ("predict", 30_000)}
            yield Attack(
                f"largest-file-{size}-{verb}",
                FAMILY,
                argv,
                done() if enough else failed,
                main=main,
                check=_still_predicts,
            )
        unlike = answered() if size >= 5000 else failed
        yield Attack(f"largest-file-{size}-continue", FAMILY, CONTINUE, failed, unfinished, main=main)
        yield Attack(f"largest-file-{size}-report", FAMILY, REPORT, unlike if size < 5000 else failed, main=main)


def _still_predicts(place: Place, outcome: Outcome) -> str | None:
    """A training that could not begin left the one before where it was, or aside."""
    finals = list(place.results.rglob("checkpoint_final.pth"))
    return None if finals else "the trained model is gone"


# ---------------------------------------------------------------------------------------------- surroundings


def _without_folder(words: list[str]) -> int:
    """Run in a folder that is gone."""
    folder = Path(os.environ["TMPDIR"], "gone")
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()
    return segwright_main(words)


def _with_variables(variables: dict[str, str], words: list[str]) -> int:
    import tempfile

    os.environ.update(variables)
    tempfile.tempdir = None
    return segwright_main(words)


def _with_closed_output(words: list[str]) -> int:
    """Run with an output that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return segwright_main(words)


def _with_full_output(words: list[str]) -> int:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    return segwright_main(words)


def _surroundings() -> Iterator[Attack]:
    yield Attack("folder-gone-check", FAMILY, CHECK, answered(), main=_without_folder)
    yield Attack("folder-gone-check-here", FAMILY, ("check", "1"), refused(), main=_without_folder)
    yield Attack("folder-gone-relative", FAMILY, ("check", "x", "--workspace", "y"), refused(), main=_without_folder)
    for what, variables in {
        "no-temporary-folder": {"TMPDIR": "/nonexistent"},
        "long-temporary-folder": {"TMPDIR": "/tmp/" + "x" * 200},
        "no-home": {"HOME": "/nonexistent"},
        "raw-variable-wrong": {"nnUNet_raw": "/nonexistent", "nnUNet_results": "\x1b[31m"},
        "narrow": {"COLUMNS": "1", "LINES": "1"},
        "coloured": {"NO_COLOR": "", "TERM": "dumb"},
        "threads-wrong": {"OMP_NUM_THREADS": "many"},
    }.items():
        main = partial(_with_variables, variables)
        yield Attack(f"{what}-preprocess", FAMILY, (*OVERWRITE[:-3], "--overwrite", *TWO), answered(), main=main)
        yield Attack(f"{what}-check", FAMILY, (*CHECK[:-2], *TWO), answered(), main=main)
    for verb, argv in (("check", CHECK), ("json", (*CHECK, "--json")), ("help", ("--help",)), ("report", REPORT)):
        yield Attack(f"nobody-reads-{verb}", FAMILY, argv, answered(), main=_with_closed_output)
        yield Attack(f"output-full-{verb}", FAMILY, argv, Expectation(frozenset({1, 2})), main=_with_full_output)
    future = Attack("files-of-the-future", FAMILY, PREPROCESS, done(), _of_the_future, keeps_raw=False)
    yield future


def _of_the_future(place: Place) -> None:
    for path in (place.raw / "imagesTr").iterdir():
        os.utime(path, (4e9, 4e9))
