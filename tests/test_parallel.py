from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from process_tree import descendants, wait_until_gone
from segwright import parallel
from segwright.errors import DatasetError, SettingsError
from segwright.parallel import CaseFailure, run_cases


def scale(value: int, *, factor: int) -> int:
    return value * factor


def misbehave(value: int) -> object:
    if value == 3:
        raise DatasetError("case 3 is wrong")
    if value == 4:
        raise ValueError("unforeseen")
    if value == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if value == 6:
        return lambda: None
    if value == 7:
        os._exit(9)
    if value == 8:
        os.kill(os.getpid(), signal.SIGSEGV)
    return value


def thread_settings(_: int) -> tuple[str, str]:
    return os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]


def process_id(_: int) -> int:
    return os.getpid()


def sleep_long(value: int) -> int:
    time.sleep(600 if value else 0)
    return value


class UnsendableError(Exception):
    def __reduce__(self) -> str:
        raise TypeError("not to be sent")


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def run_script(
    path: Path, text: str, *, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script in its own folder."""
    path.write_text(textwrap.dedent(text))
    command = [sys.executable, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=path.parent, env=environment)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_item_gets_its_result_and_progress_counts_them(workers: int) -> None:
    seen: list[tuple[str, int, int]] = []
    function = functools.partial(scale, factor=3)
    results = dict(
        run_cases(
            function, range(20), workers=workers, case_id=str, what="scaling", progress=lambda *at: seen.append(at)
        )
    )
    assert results == {value: 3 * value for value in range(20)}
    assert seen == [("scaling", done, 20) for done in range(21)]


def test_more_workers_than_any_use_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="100000"):
        list(run_cases(functools.partial(scale, factor=2), [1], workers=100_000, case_id=str, what="scaling"))
    monkeypatch.setattr(parallel, "available_cores", lambda: 64)
    assert list(run_cases(functools.partial(scale, factor=2), [1], workers=500, case_id=str, what="scaling")) == [
        (1, 2)
    ]


def test_nothing_to_do_yields_nothing() -> None:
    assert list(run_cases(process_id, [], workers=4, case_id=str, what="nothing")) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_case_does_not_stop_the_others(workers: int) -> None:
    results = dict(run_cases(misbehave, range(5), workers=workers, case_id=lambda i: f"case_{i}", what="cases"))
    assert [results[value] for value in range(3)] == [0, 1, 2]
    assert results[3] == CaseFailure("case_3", "DatasetError", "case 3 is wrong", expected=True)
    unforeseen = results[4]
    assert isinstance(unforeseen, CaseFailure)
    assert not unforeseen.expected
    assert unforeseen.message.startswith("ValueError: unforeseen (test_parallel.py, line ")


def test_a_killed_worker_fails_its_own_case_only() -> None:
    results = dict(run_cases(misbehave, range(10), workers=2, case_id=lambda i: f"case_{i}", what="cases"))
    assert [results[value] for value in (0, 1, 2, 9)] == [0, 1, 2, 9]
    failures = {value: failure for value, failure in results.items() if isinstance(failure, CaseFailure)}
    assert sorted(failures) == [3, 4, 5, 6, 7, 8]
    assert {value: failure.case_id for value, failure in failures.items()} == {v: f"case_{v}" for v in failures}
    assert "SIGKILL" in failures[5].message
    assert failures[5].expected
    assert "pickle" in failures[6].message.lower()
    assert " 9" in failures[7].message
    assert "SIGSEGV" in failures[8].message


def environment_variable(name: str) -> str | None:
    return os.environ.get(name)


def test_workers_have_the_environment_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["SEGWRIGHT_A", "SEGWRIGHT_B"]
    before = dict(os.environ)
    for values in ({"SEGWRIGHT_A": "1"}, {"SEGWRIGHT_B": "2"}):
        with monkeypatch.context() as changed:
            for name, value in values.items():
                changed.setenv(name, value)
            seen = dict(run_cases(environment_variable, names, workers=2, case_id=str, what="names"))
        assert seen == {name: values.get(name) for name in names}
    assert dict(os.environ) == before


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_what_workers_need_is_imported_once_for_all(tmp_path: Path) -> None:
    (tmp_path / "slow_library.py").write_text("print('imported', flush=True)\n")
    run = run_script(
        tmp_path / "script.py",
        """
        from segwright import parallel

        def uses_it(value):
            import slow_library
            return value

        if __name__ == "__main__":
            parallel.available_cores = lambda: 2
            parallel.prepare_workers(["slow_library"])
            results = parallel.run_cases(uses_it, [1, 2, 3], workers=2, case_id=str, what="sums")
            print(sum(result for _, result in results))
        """,
    )
    assert run.stdout.splitlines() == ["imported", "6"]
    assert run.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_ctrl_c_is_held_back_from_what_workers_are_forked_from(tmp_path: Path) -> None:
    """Else one pressed while it imports prints a traceback."""
    run = run_script(
        tmp_path / "script.py",
        """
        from multiprocessing import forkserver
        from pathlib import Path
        from segwright import parallel

        parallel.available_cores = lambda: 2
        parallel.prepare_workers([])
        status = Path(f"/proc/{forkserver._forkserver._forkserver_pid}/status").read_text()
        print(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")))
        """,
    )
    assert int(run.stdout, 16) & 1 << (signal.SIGINT - 1)
    assert run.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_a_second_ctrl_c_while_it_ends_prints_no_traceback(tmp_path: Path) -> None:
    run = run_script(
        tmp_path / "script.py",
        """
        import os, signal
        from multiprocessing import forkserver
        from segwright import parallel

        parallel.available_cores = lambda: 2
        parallel.prepare_workers([])
        server = forkserver._forkserver
        end = server._stop
        server._stop = lambda: (os.kill(os.getpid(), signal.SIGINT), end())
        """,
    )
    assert run.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
@pytest.mark.parametrize(("deaths", "expected"), [(1, "6"), (99, "no worker")])
def test_what_workers_are_forked_from_may_die_while_it_imports(tmp_path: Path, deaths: int, expected: str) -> None:
    (tmp_path / "deaths").write_text("d" * deaths)
    (tmp_path / "deadly_library.py").write_text(
        textwrap.dedent(
            """
            import os, pathlib, signal, time
            time.sleep(0.5)  # so that a worker is asked for meanwhile
            left = pathlib.Path("deaths").read_text()
            if left:
                pathlib.Path("deaths").write_text(left[1:])
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    run = run_script(
        tmp_path / "script.py",
        """
        from segwright import parallel
        from segwright.errors import SettingsError

        def itself(value):
            return value

        if __name__ == "__main__":
            parallel.available_cores = lambda: 2
            parallel._modules_of = lambda function: ["deadly_library"]
            try:
                results = parallel.run_cases(itself, [1, 2, 3], workers=2, case_id=str, what="sums")
                print(sum(result for _, result in results))
            except SettingsError as error:
                print("no worker" if "worker processes:" in str(error) else error)
        """,
    )
    assert run.stdout == f"{expected}\n"
    assert run.stderr == ""


def test_workers_start_where_the_path_of_the_temporary_folder_is_too_long_for_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 60) / ("b" * 60)
    folder.mkdir(parents=True)
    environment = {**os.environ, "TMPDIR": str(folder)}
    run = run_script(
        tmp_path / "script.py",
        """
        from math import sqrt
        from segwright.parallel import prepare_workers, run_cases

        if __name__ == "__main__":
            prepare_workers([])
            print([result for _, result in run_cases(sqrt, [4, 4, 4], workers=2, case_id=str, what="roots")])
        """,
        environment=environment,
    )
    assert run.stdout == "[2.0, 2.0, 2.0]\n"
    assert run.stderr == ""
    assert list(folder.iterdir()) == []


def test_every_worker_may_die_on_every_case() -> None:
    results = dict(run_cases(misbehave, [5] * 5, workers=2, case_id=str, what="cases"))
    assert isinstance(results[5], CaseFailure)
    outcomes = [result for _, result in run_cases(misbehave, [5, 5, 5, 1], workers=2, case_id=str, what="cases")]
    assert sum(isinstance(outcome, CaseFailure) for outcome in outcomes) == 3
    assert 1 in outcomes


def test_an_item_that_cannot_be_sent_is_a_failure_of_its_case() -> None:
    items: list[object] = [1, UnsendableError(), 2]
    results = list(run_cases(str, items, workers=2, case_id=lambda item: type(item).__name__, what="cases"))
    assert sorted(str(r) for _, r in results if not isinstance(r, CaseFailure)) == ["1", "2"]
    (failure,) = [r for _, r in results if isinstance(r, CaseFailure)]
    assert failure.case_id == "UnsendableError"
    assert not failure.expected


def test_workers_are_few_live_long_and_use_one_thread_each() -> None:
    processes = {result for _, result in run_cases(process_id, range(40), workers=2, case_id=str, what="ids")}
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes
    settings = {result for _, result in run_cases(thread_settings, range(4), workers=2, case_id=str, what="ids")}
    assert settings == {("1", "1")}


def test_leaving_early_ends_the_workers() -> None:
    iteration = run_cases(sleep_long, [0, 1, 1], workers=2, case_id=str, what="cases")
    assert next(iteration) == (0, 0)
    assert multiprocessing.active_children()
    iteration.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_ctrl_c_ends_everything_without_a_traceback_from_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, time
            from segwright.parallel import run_cases

            def wait_for_it(value):
                os.write(1, f"started {os.getpid()}\\n".encode())  # in one go: two processes write here
                time.sleep(600)

            if __name__ == "__main__":
                try:
                    list(run_cases(wait_for_it, range(4), workers=2, case_id=str, what="waiting"))
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
            """
        )
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        started = [process.stdout.readline().split() for _ in range(2)]
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""
    assert not any(is_there(int(pid)) for _, pid in started)


def test_a_script_without_a_main_guard_is_told_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from segwright.parallel import run_cases\nlist(run_cases(str, range(4), workers=2, case_id=str, what='x'))\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "SettingsError: worker processes: " in run.stderr
    assert issubclass(SettingsError, ValueError)


@pytest.mark.parametrize(("name", "times"), [("segwright", 1), ("script.py", 3)])
def test_workers_do_not_run_the_launcher_of_the_command_line(tmp_path: Path, name: str, times: int) -> None:
    script = tmp_path / name
    script.write_text(
        textwrap.dedent(
            """
            import os
            from math import sqrt
            from segwright.parallel import run_cases

            os.write(1, b"imported\\n")  # in one go: two processes write here
            if __name__ == "__main__":
                print([result for _, result in run_cases(sqrt, [4, 4, 4, 4], workers=2, case_id=str, what="roots")])
            """
        )
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["imported"] * times + ["[2.0, 2.0, 2.0, 2.0]"]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_limits_of_control_groups_version_2_count_from_every_level(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/job/step\n")
    write(tmp_path / "sys/fs/cgroup/job/cpu.max", "150000 100000\n")
    write(tmp_path / "sys/fs/cgroup/job/step/cpu.max", "max 100000\n")
    write(tmp_path / "sys/fs/cgroup/job/memory.max", "1000\n")
    write(tmp_path / "sys/fs/cgroup/job/memory.current", "700\n")
    write(tmp_path / "sys/fs/cgroup/job/memory.stat", "anon 600\ninactive_file 100\n")
    write(tmp_path / "sys/fs/cgroup/job/step/memory.max", "max\n")
    write(tmp_path / "sys/fs/cgroup/job/step/memory.current", "650\n")
    assert parallel._cgroup_cores(tmp_path) == 1.5
    assert parallel._cgroup_memory_bytes(tmp_path) == 400


def test_limits_of_control_groups_version_1(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n")
    write(tmp_path / "sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n")
    assert parallel._cgroup_cores(tmp_path) == 3
    assert parallel._cgroup_memory_bytes(tmp_path) == 4000


def test_no_control_groups_means_no_limit(tmp_path: Path) -> None:
    assert parallel._cgroup_cores(tmp_path) == parallel._NO_LIMIT
    assert parallel._cgroup_memory_bytes(tmp_path) == parallel._NO_LIMIT


def test_workers_follow_tasks_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "available_cores", lambda: 8)
    monkeypatch.setattr(parallel, "available_memory_bytes", lambda: 10 << 30)
    assert parallel.workers_for(100, 1 << 30) == 8
    assert parallel.workers_for(3, 1 << 30) == 3
    assert parallel.workers_for(100, 4 << 30) == 2
    assert parallel.workers_for(100, 100 << 30) == 1
    assert parallel.workers_for(0, 1) == 1


def test_this_machine_has_cores_and_memory() -> None:
    assert parallel.available_cores() >= 1
    assert parallel.available_memory_bytes() > 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_no_worker_outlives_a_killed_parent(tmp_path: Path, method: str) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, time
            from segwright import parallel

            def work_for_ever(value):
                os.write(1, b"works\\n")
                while True:
                    time.sleep(600)

            if __name__ == "__main__":
                parallel.available_cores = lambda: 2
                parallel._can_fork = lambda: {method == "forkserver"}
                list(parallel.run_cases(work_for_ever, range(4), workers=2, case_id=str, what="work"))
            """
        )
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == b"works\n"
        workers = descendants(process.pid)
        assert len(workers) >= 2
        process.kill()
        process.wait()
        assert wait_until_gone(workers) == set()
