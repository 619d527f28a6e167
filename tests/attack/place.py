"""Where an attack happens: a copy of a small trained workspace, beside folders that nothing may change."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack.runner import Outcome, run_forked
from tiny_datasets import TRAIN, make_3d, write_description

NAME = "Dataset001_Balls"
MODEL_NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
FEATURES = [4, 8, 8]
Snapshot = dict[str, tuple[object, ...]]


@dataclass(frozen=True)
class Place:
    """The folders of one attack. `workspace` and `out` are for the command to write to, `outside` is not."""

    root: Path

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def begun(self) -> Path:
        return self.root / "begun"

    @property
    def raw(self) -> Path:
        return self.workspace / "raw" / NAME

    @property
    def preprocessed(self) -> Path:
        return self.workspace / "preprocessed" / NAME

    @property
    def results(self) -> Path:
        return self.workspace / "results" / NAME

    @property
    def model(self) -> Path:
        return self.results / MODEL_NAME

    @property
    def fold(self) -> Path:
        return self.model / "fold_0"

    @property
    def store(self) -> Path:
        return self.preprocessed / "nnUNetPlans_3d_fullres"

    @property
    def plans(self) -> Path:
        return self.preprocessed / "nnUNetPlans.json"

    def words(self, argv: Sequence[str]) -> list[str]:
        """The words of a command, with the folders named in braces filled in."""
        names = ("workspace", "outside", "out", "raw", "model", "fold", "store", "plans", "begun")
        filled = list(argv)
        for name in names:
            filled = [word.replace(f"{{{name}}}", str(getattr(self, name))) for word in filled]
        return filled

    def run(self, *argv: str) -> Outcome:
        """Run a command that must succeed."""
        outcome = self.try_to_run(*argv)
        if outcome.code != 0:
            raise RuntimeError(f"segwright {' '.join(argv)}: exit code {outcome.code}\n{outcome.text}")
        return outcome

    def try_to_run(self, *argv: str) -> Outcome:
        """Run a command of the preparation or of a comparison."""
        return run_forked(self.words(argv), folder=self.root, environ=self.environ())

    def environ(self) -> dict[str, str]:
        """Variables that keep a command in its place."""
        return {
            "HOME": str(self.outside / "home"),
            "TMPDIR": str(self.outside / "tmp"),
            "PWD": str(self.outside / "cwd"),
            "OMP_NUM_THREADS": "1",
            "ATTACK_BEGUN": str(self.begun),
            "MPLCONFIGDIR": str(self.root / "matplotlib"),
        }

    def edit_plan(self, change: Callable[[dict[str, Any], dict[str, Any]], None], path: Path | None = None) -> None:
        """Let a function change the plan and its 3d_fullres."""
        edit_json(path or self.plans, lambda plan: change(plan, plan["configurations"]["3d_fullres"]))


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Let a function change a JSON file in place, or give another value."""
    value = json.loads(path.read_text())
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed))


def build_template(root: Path) -> Place:
    """Make the workspace that attacks start from: planned, preprocessed, trained for one epoch."""
    place = Place(root)
    for name in ("home", "tmp", "cwd", "precious/deep"):
        (place.outside / name).mkdir(parents=True)
    for name in ("precious/a.txt", "precious/deep/b.bin", "precious/case.nii.gz"):
        (place.outside / name).write_bytes(name.encode() * 100)
    make_3d(place.raw)
    write_description(place.raw, numTraining=6)
    here = ("--workspace", "{workspace}")
    place.run("plan", "1", *here, "--workers", "1")
    for path in (place.plans,):
        edit_json(path, _shrink)
    place.run("preprocess", "1", *here, "-c", "3d_fullres", "--workers", "1")
    place.run("train", "1", "3d_fullres", "0", "--epochs", "1", *here, *TRAIN)
    return place


def _shrink(plan: dict[str, Any]) -> None:
    """Make the networks so small that a training takes a second."""
    for configuration in plan["configurations"].values():
        arguments = configuration["architecture"]["arch_kwargs"]
        arguments["features_per_stage"] = FEATURES[: len(arguments["features_per_stage"])]
        arguments["n_conv_per_stage"] = [1] * len(arguments["n_conv_per_stage"])
        arguments["n_conv_per_stage_decoder"] = [1] * len(arguments["n_conv_per_stage_decoder"])


def copy_of(template: Place, root: Path) -> Place:
    """A place of its own for one attack. Times stay: a store newer than its images counts as done."""
    shutil.copytree(template.root, root, symlinks=True)
    return Place(root)


def snapshot(folders: Sequence[Path]) -> Snapshot:
    """What lies in folders, or what files hold: kind, size, time of change and content of each."""
    found: Snapshot = {}
    for folder in folders:
        paths = [folder, *(Path(top, name) for top, dirs, files in os.walk(folder) for name in (*dirs, *files))]
        for path in paths:
            if os.path.lexists(path):
                found[str(path)] = _identity(path)
    return found


def _identity(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    if path.is_symlink():
        return ("link", os.readlink(path))
    if path.is_dir():
        return ("folder", status.st_mode)
    if not path.is_file():
        return ("other", status.st_mode)
    return ("file", status.st_size, status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """Paths that are new, gone or changed."""
    words = {True: "changed", False: "removed"}
    # the account of an unexpected error lies there on purpose; that there is one is a finding of its own
    after = {path: identity for path, identity in after.items() if "/tmp/segwright-error-" not in path}
    gone = [f"{words[path in after]}: {path}" for path in before if after.get(path) != before[path]]
    return gone + [f"written: {path}" for path in after if path not in before]
