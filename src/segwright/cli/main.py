"""The command `segwright`: its verbs, and how each error becomes one message and an exit code.

0: done. 1: some cases failed, or a bug. 2: an error that the user can fix. 130: Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import re
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from segwright.cli import check, demo, evaluate, explain, plan, predict, preprocess, report, run, train
from segwright.cli.argv import expand
from segwright.cli.console import Terminal
from segwright.errors import CasesFailedError, SegwrightError
from segwright.steps.failures import describe

OK, CASES_FAILED, BUG, USER_MISTAKE, INTERRUPTED = 0, 1, 1, 2, 130
VERBS: dict[str, Callable[..., int | None]] = {
    "check": check.check,
    "plan": plan.plan,
    "explain": explain.explain,
    "preprocess": preprocess.preprocess,
    "train": train.train,
    "predict": predict.predict,
    "evaluate": evaluate.evaluate,
    "report": report.report,
    "run": run.run,
    "demo": demo.demo,
}

HELP = """Segment medical images with a U-Net that configures itself. Reads and writes nnU-Net v2's files.

Start with `segwright demo`. For your own data, `segwright run DATASET` does everything; check, plan, explain,
preprocess, train, predict, evaluate and report are its steps.

DATASET is the folder of a raw nnU-Net v2 data set, or its id or name in the workspace. The workspace holds raw/,
preprocessed/ and results/: --workspace DIR, otherwise the environment variables nnUNet_raw,
nnUNet_preprocessed and nnUNet_results if set, otherwise ./segwright.

Exit codes: 0 done, 1 some cases failed and the others are done, 2 an error that you can fix,
130 Ctrl-C.

\b
Examples:
  segwright run 4
  segwright train 4 3d_fullres 0
  segwright predict scans/ masks/ --model FOLDER
"""
USER_MODULE_PREFIX = "segwright_user_"  # of the modules that training.trainer_class makes of users' files
_USER_OS_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP),
}
_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, of whichever click typer uses


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises."""
    # Before torch loads: threads waiting for a core in use by others must not spin (10x slower).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")  # a power of two of cycles
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character gets its code, not an error
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        code = _run([word for word in words if word != "--debug"])
        if sys.stdout is not None:
            sys.stdout.flush()  # an answer that cannot be written is an error like others
        return code
    except KeyboardInterrupt:
        Terminal.open().note(f"Stopped. What is done is kept; {_how_to_go_on(words)}")
        return INTERRUPTED
    except Exception as error:
        if debug:
            Terminal.open().note(traceback.format_exc())
        return _explain(error, words)


def _run(words: Sequence[str]) -> int:
    command: Any = typer.main.get_command(_app(words[0] if words else None))
    verb = command.commands.get(words[0]) if words else None
    args = [words[0], *expand(words[1:], verb.params)] if verb is not None else list(words or ["--help"])
    try:
        with command.make_context("segwright", args) as context:
            return command.invoke(context) or OK
    except typer.Exit as ended:
        return ended.exit_code


def _app(verb: str | None) -> typer.Typer:
    """The application, with the parameters of one verb: those of all ten would take typer a quarter of a second."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )

    @app.callback(help=HELP)
    def options(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
        ] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    ) -> None:
        del version, debug  # main() has looked at them

    for name, function in VERBS.items():
        app.command(name)(function if name == verb else _without_parameters(function))
    return app


def _without_parameters(function: Callable[..., int | None]) -> Callable[[], None]:
    def listed() -> None: ...

    listed.__doc__ = function.__doc__
    return listed


def _print_version(wanted: bool) -> None:
    if wanted:
        from segwright import __version__

        Terminal.open().answer(f"segwright {__version__}")
        raise typer.Exit


def _how_to_go_on(words: Sequence[str]) -> str:
    if words[:1] != ["train"]:
        return "run the same command again to continue."
    again = [*(word for word in words if word != "--continue"), "--continue"]
    return f"continue with: segwright {shlex.join(again)}"


def _explain(error: Exception, words: Sequence[str]) -> int:
    if isinstance(error, CasesFailedError):
        _tell(describe(error))
        return CASES_FAILED
    if isinstance(error, SegwrightError):
        _tell(_without_traceback(error))
        return USER_MISTAKE
    if isinstance(error, _CLICK_ERROR):
        _tell(_usage(error, words))
        return USER_MISTAKE
    if isinstance(error, BrokenPipeError):
        _give_up_output()  # the reader of a pipe has gone
        return OK
    if isinstance(error, FileNotFoundError) and not _has_current_folder():
        _tell("The folder that this command runs in was deleted. Change to another.")
        return USER_MISTAKE
    if isinstance(error, OSError) and error.errno in _USER_OS_ERRORS:
        _tell(f"{error.filename or 'A file'}: expected to read or write it, got: {error.strerror}.")
        if error.filename is None:  # perhaps the output itself
            _give_up_output()
        return USER_MISTAKE
    if place := _place_in_trainer_file(error):
        text = f"{type(error).__name__}: {_without_traceback(error)}"
        _tell(f"{place}: {text}. The error was raised in your trainer class or in code it calls; --debug shows where.")
        return USER_MISTAKE
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        _tell(f"Out of memory: {error}. Try a smaller --batch-size or fewer --workers, or --device cpu.")
        return USER_MISTAKE
    _tell(_bug(error, words))
    return BUG


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _give_up_output() -> None:
    """Let what is left of the answer go nowhere: Python would complain again when it flushes."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: Any, words: Sequence[str]) -> str:
    text = error.format_message().rstrip(".")
    options = getattr(getattr(error, "param", None), "opts", ())
    values = [value for word, value in itertools.pairwise(words) if word in options and value not in text]
    got = f", got {values[-1]!r}" if values else ""
    context = getattr(error, "ctx", None)
    stop = "" if f"{text}{got}".endswith("?") else "."
    return f"{text}{got}{stop}" + (f" See {context.command_path} --help." if context is not None else "")


def _without_traceback(error: Exception) -> str:
    """The message of an error, without the traceback that torch adds to errors of loading processes."""
    text = str(error)
    if "Original Traceback (most recent call last):" not in text:
        return text
    return re.split(r"^(?:\w+\.)*\w*(?:Error|Exception): ", text, flags=re.MULTILINE)[-1].strip()


def _place_in_trainer_file(error: Exception) -> str | None:
    """The innermost line of the user's own trainer file in the traceback, if there is one."""
    places = [
        f"{frame.f_code.co_filename}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).startswith(USER_MODULE_PREFIX)
    ]
    return places[-1] if places else None


def _bug(error: Exception, words: Sequence[str]) -> str:
    log = Path(tempfile.gettempdir()) / f"segwright-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    trace = "".join(traceback.format_exception(error))
    text = f"This is a bug in Segwright, not a mistake of yours: {type(error).__name__}: {_without_traceback(error)}."
    try:
        log.write_text(f"segwright {shlex.join(words)}\n\n{trace}", encoding="utf-8")
    except OSError:  # no space even for that
        return f"{text} Please report it with the output of the same command with --debug."
    return f"{text} Please report it with the file {log}."


def _tell(text: str) -> None:
    Terminal.open().error(text)
