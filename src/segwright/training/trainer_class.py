"""Find the user's own trainer class."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from segwright.errors import TrainerError, message
from segwright.training.trainer import Trainer


def load_trainer_class(spec: str) -> type[Trainer]:
    """Load a class that inherits `Trainer`, from `FILE.py:CLASS` or `package.module:CLASS`.

    Raises:
        TrainerError: if file, module or class does not exist, cannot be imported, or is not a trainer.
    """
    place, separator, class_name = spec.rpartition(":")
    if not separator or not place or not class_name:
        raise TrainerError(
            message(
                "option --trainer",
                expected="FILE.py:CLASS or package.module:CLASS",
                got=repr(spec),
                remedy="Write, for example, --trainer my_trainer.py:MyTrainer.",
            )
        )
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, Trainer):
        known = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, Trainer)]
        raise TrainerError(
            message(
                f"option --trainer, {place}",
                expected=f"a class '{class_name}' that inherits segwright.Trainer",
                got="no such class" if found is None else f"{found!r}",
                remedy=f"Trainers in this file: {', '.join(n for n in known if n != 'Trainer') or 'none'}.",
            )
        )
    return found


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TrainerError(
            message(
                f"option --trainer, {path}",
                expected="a Python file",
                got="no such file",
                remedy="Give a path relative to the current folder, or an absolute one.",
            )
        )
    name = f"segwright_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TrainerError(f"{path}: expected a Python file, got one that Python cannot load.")
    module = importlib.util.module_from_spec(spec)
    # Loader workers that are not forked import the class by this name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _import_failed(str(path), error) from error
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise _import_failed(name, error) from error


def _import_failed(place: str, error: Exception) -> TrainerError:
    line = getattr(error, "lineno", None)
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == place:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    where = f"{place}, line {line}" if line else place
    return TrainerError(
        message(
            f"option --trainer, {where}",
            expected="a file that Python can import",
            got=f"{type(error).__name__}: {error}",
            remedy="Fix the file; `python FILE.py` shows the same error.",
        )
    )
