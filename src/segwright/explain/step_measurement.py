"""Measure what one training step takes, in a separate process: its memory, its time, and whether it fits at all.

The steps are the trainer's own (`Trainer.train_step`), on random data. On the CPU two peaks are measured. `peak_bytes`
is what the step holds: the allocator is set to return memory at once, so that resident memory is held memory.
`reserved_bytes` is what the process takes as training runs, with what the allocator keeps for later. They are the same
two as CUDA's allocated and reserved memory.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segwright.dataset.description import DatasetDescription
from segwright.errors import TrainingError, message
from segwright.parallel import available_memory_bytes
from segwright.planning.plan import Plan
from segwright.processes import end_with_parent, signal_name
from segwright.task import Task

if TYPE_CHECKING:
    from segwright.training.trainer import Trainer

NUM_STEPS = 2
# the machine keeps this part of the memory that is free
_SHARE_OF_MEMORY_TO_USE = 0.95
_SMALLEST_FEATURES = 4
_MALLOC_TRIM_THRESHOLD, _MALLOC_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
# sizes for mallopt: to hold what is used and nothing else; and what glibc itself comes to when large pieces are freed
_GIVES_BACK, _KEEPS = (128 << 10, 128 << 10), (32 << 20, 64 << 20)
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "could not create a memory",
    "bad_alloc",
)
_SIGNALS_OF_MEMORY = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS")


@dataclass(frozen=True)
class StepMeasurement:
    """What two training steps took. `problem` says why they do not fit; then nothing else was measured.

    `peak_bytes` is what a step holds beyond the libraries, None where the system cannot tell; `reserved_bytes` what the
    process takes for it. `libraries_bytes` is there before the network is built. `limit_bytes` was not to be exceeded
    (None: nobody could tell). `seconds_per_iteration` is the second step's, without loading and augmentation.
    """

    device: str
    batch_size: int
    problem: str | None
    peak_bytes: int | None = None
    reserved_bytes: int | None = None
    libraries_bytes: int | None = None
    limit_bytes: int | None = None
    seconds_per_iteration: float | None = None

    @property
    def fits(self) -> bool:
        """Whether the steps came to their end."""
        return self.problem is None

    def to_json(self) -> dict[str, Any]:
        """Every field, and `fits`."""
        return {**asdict(self), "fits": self.fits}


def measure_step(
    task: Task,
    *,
    device: str = "cpu",
    flags: Mapping[str, Any] | None = None,
    trainer: str | None = None,
    memory_limit_bytes: int | None = None,
    held_memory: bool = True,
) -> StepMeasurement:
    """Take training steps of a configuration in a fresh process.

    Args:
        task: what is trained.
        device: as torch names it.
        flags: settings from the command line, `batch_size` and `recipe` among them.
        trainer: `FILE.py:CLASS` of the user's own trainer class.
        memory_limit_bytes: what the process may take, its libraries included; the memory that is free by default.
        held_memory: also measure `peak_bytes` on the CPU, which takes three more steps.

    Raises:
        TrainingError: the steps failed, and not for lack of memory.
    """
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    request = {
        "plans": task.plan.raw,
        "configuration": task.configuration.name,
        "dataset_json": task.description.raw,
        "device": device,
        "flags": given,
        "trainer": trainer,
        "memory_limit_bytes": memory_limit_bytes,
        "held_memory": held_memory,
        "parent": os.getpid(),
    }
    run = subprocess.run(
        [sys.executable, "-m", "segwright.explain.step_measurement"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={"GOMP_SPINCOUNT": "1000", **os.environ},
        check=False,
    )
    batch_size = int(given.get("batch_size", task.configuration.batch_size))
    if run.returncode == 0:
        return StepMeasurement(**json.loads(run.stdout.splitlines()[-1]))
    ended_by = signal_name(run.returncode)
    if ended_by in _SIGNALS_OF_MEMORY:
        told = f"the measuring process was ended ({ended_by}), probably because it ran out of memory"
        return StepMeasurement(device, batch_size, told)
    raise TrainingError(
        message(
            f"measuring a step of '{task.configuration.name}' on {device}",
            expected="two training steps",
            got=_last_words(run) if ended_by is None else f"a measuring process that was ended by {ended_by}",
            remedy=(
                "What stops the measurement would stop the training; fix it, or measure on another device."
                if ended_by is None
                else "Somebody or something stopped it; measure again."
            ),
        )
    )


def _last_words(run: subprocess.CompletedProcess[str]) -> str:
    return run.stderr.strip().splitlines()[-1] if run.stderr.strip() else f"exit code {run.returncode}"


# ---------------------------------------------------------------------- in the measuring process


def main() -> None:
    """Read a request from stdin, answer with a measurement on stdout."""
    request = json.loads(sys.stdin.read())
    end_with_parent(request["parent"])
    description = DatasetDescription.from_json(request["dataset_json"])
    trainer = make_trainer(
        Task.of(Plan.from_json(request["plans"]), request["configuration"], description),
        flags=request["flags"],
        trainer=request["trainer"],
        device=request["device"],
    )
    measure = _measure_on_cpu if trainer.device.type == "cpu" else _measure_on_accelerator
    print(json.dumps(asdict(measure(trainer, request))))


def make_trainer(
    task: Task,
    *,
    flags: Mapping[str, Any] | None = None,
    trainer: str | None = None,
    device: str = "cpu",
) -> Trainer:
    """Make a trainer with its settings, and no network yet; the arguments are those of `measure_step`."""
    import torch

    from segwright.planning.budget import SETTING_NAMES, resolve_budget
    from segwright.training.trainer import Trainer
    from segwright.training.trainer_class import load_trainer_class

    trainer_class = Trainer if trainer is None else load_trainer_class(trainer)
    made = trainer_class(task.plan.raw, task.configuration.name, 0, task.description.raw, device=torch.device(device))
    made.budget = resolve_budget(plan=made.configuration.raw, trainer=made.user_settings(), flags=flags)
    for name in SETTING_NAMES:
        setattr(made, name, made.budget.value(name))
    return made


def _measure_on_cpu(trainer: Trainer, request: Mapping[str, Any]) -> StepMeasurement:
    gives_back = _set_allocator(*_GIVES_BACK)  # before the warm-up, whose memory would else be used again unseen
    _warm_up(trainer)
    baseline = _resident_bytes()
    free = int(available_memory_bytes() * _SHARE_OF_MEMORY_TO_USE)
    asked = request["memory_limit_bytes"]
    limit = free if asked is None else min(asked - baseline, free)
    told = StepMeasurement(
        "cpu", trainer.batch_size, problem=None, libraries_bytes=baseline, limit_bytes=max(limit, 0) + baseline
    )
    _limit_memory(limit)
    try:
        peak = _held_bytes(trainer) if gives_back and request["held_memory"] else None
        _set_allocator(*_KEEPS)
        baseline = _resident_bytes()
        _reset_peak()  # where there is no such thing, the largest ever stands for the peak
        seconds = _take_steps(trainer)
        reserved = _peak_bytes() - baseline
    except (MemoryError, RuntimeError) as error:
        return replace(told, problem=_memory_problem(error))
    return replace(told, peak_bytes=peak, reserved_bytes=reserved, seconds_per_iteration=seconds)


def _held_bytes(trainer: Trainer) -> int | None:
    """Peak of the steps while the allocator keeps nothing back; None where the system cannot tell.

    A step before it lets the libraries compile and cache what they need for this network (up to 30 MB).
    """
    _take_steps(trainer, 1)
    if not _reset_peak():
        return None
    baseline = _resident_bytes()
    _take_steps(trainer)
    return _peak_bytes() - baseline


def _measure_on_accelerator(trainer: Trainer, request: Mapping[str, Any]) -> StepMeasurement:
    """On CUDA, allocated and reserved memory are torch's own counts; elsewhere only the time is measured.

    Written by torch's documentation; not yet run on such hardware.
    """
    import torch

    device, limit = trainer.device, request["memory_limit_bytes"]
    cuda = device.type == "cuda"
    if cuda:
        total = torch.cuda.get_device_properties(device).total_memory
        limit = min(limit or total, torch.cuda.mem_get_info(device)[0])
        torch.cuda.set_per_process_memory_fraction(min(limit / total, 1.0), device)
    told = StepMeasurement(str(device), trainer.batch_size, problem=None, limit_bytes=limit)
    try:
        seconds = _take_steps(trainer)
    except (MemoryError, RuntimeError) as error:
        return replace(told, problem=_memory_problem(error))
    return replace(
        told,
        peak_bytes=torch.cuda.max_memory_allocated(device) if cuda else None,
        reserved_bytes=torch.cuda.max_memory_reserved(device) if cuda else None,
        seconds_per_iteration=seconds,
    )


def _take_steps(trainer: Trainer, count: int = NUM_STEPS) -> float:
    """Build network, optimizer and loss, take steps, let go of all, and return the seconds of the last step."""
    import torch

    trainer.initialize()
    batch = random_batch(trainer)
    trainer.network.train()
    seconds = 0.0
    for _ in range(count):
        start = time.perf_counter()
        trainer.train_step(batch)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        seconds = time.perf_counter() - start
    del trainer.network, trainer.optimizer, trainer.lr_scheduler, trainer.loss
    gc.collect()
    return seconds


def random_batch(trainer: Trainer) -> dict[str, Any]:
    """A batch as the loader makes it: data (b, c, *patch) float32, labels (b, 1, *patch) int16, one a resolution."""
    import torch

    patch = trainer.configuration.patch_size
    targets = []
    for scales in trainer._get_deep_supervision_scales():
        edges = [round(edge * scale) for edge, scale in zip(patch, scales, strict=True)]
        shape = (trainer.batch_size, 1, *edges)
        targets.append(torch.randint(trainer.labels.num_outputs, shape, dtype=torch.int16))
    return {"data": torch.randn(trainer.batch_size, trainer.task.num_inputs, *patch), "target": targets}


def _warm_up(trainer: Trainer) -> None:
    """Take a step of a tiny network, so that libraries, threads and kernels are there before anything is measured.

    Nobody knows a tiny one where the network is not nnU-Net's own; then the libraries count as part of its step.
    """
    full, batch_size = trainer.configuration, trainer.batch_size
    architecture = full.architecture
    if not architecture.is_computable:
        return
    tiny = replace(architecture, features_per_stage=(_SMALLEST_FEATURES,) * architecture.num_stages)
    patch = tuple(2 * stride for stride in architecture.total_stride)
    trainer.configuration, trainer.batch_size = replace(full, architecture=tiny, patch_size=patch), 1
    try:
        _take_steps(trainer)
    finally:
        trainer.configuration, trainer.batch_size = full, batch_size


def _memory_problem(error: Exception) -> str:
    """What to say of an error that is due to lack of memory; any other is raised again."""
    told = str(error).strip().splitlines()[0] if str(error).strip() else "out of memory"
    if not isinstance(error, MemoryError) and not any(word in str(error).lower() for word in _OUT_OF_MEMORY):
        raise error
    return told


def _limit_memory(limit: int) -> None:
    """Let allocations fail, rather than the machine, where this process takes `limit` bytes more than it has now."""
    try:
        import resource
    except ImportError:  # Windows
        return
    now = _status_bytes("VmData")
    if now is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (now + max(limit, 0), hard))


def _set_allocator(map_above: int, trim_above: int) -> bool:
    """Tell glibc's allocator from which size on it takes memory from the system piece by piece, to be returned when it
    is freed, and how much unused memory it may keep at the end of its heap; False where there is no glibc."""
    try:
        library = ctypes.CDLL("libc.so.6")
        told = library.mallopt(_MALLOC_MMAP_THRESHOLD, map_above) and library.mallopt(
            _MALLOC_TRIM_THRESHOLD, trim_above
        )
        library.malloc_trim(0)
    except (OSError, AttributeError):
        return False
    return bool(told)


def _reset_peak() -> bool:
    """Let the peak of resident memory begin again; False where the system has no such thing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident_bytes() -> int:
    return _status_bytes("VmRSS") or _largest_bytes()


def _peak_bytes() -> int:
    return _status_bytes("VmHWM") or _largest_bytes()


def _status_bytes(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)


def _largest_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


if __name__ == "__main__":
    main()
