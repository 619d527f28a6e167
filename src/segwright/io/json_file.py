"""Reading JSON with errors that name the file and the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segwright.errors import DatasetError, MissingFileError, SegwrightError, message


def read_json(path: Path, *, error: type[SegwrightError] = DatasetError) -> Any:
    """Read a JSON file, keeping the order of its keys.

    Raises:
        MissingFileError: there is no such file.
        SegwrightError: the class `error`, naming line and column, where the text is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as cause:
        raise MissingFileError(
            message(path, expected="this file", got="nothing there", remedy="Check the path.")
        ) from cause
    except json.JSONDecodeError as cause:
        raise error(
            message(
                f"{path}, line {cause.lineno}, column {cause.colno}",
                expected="valid JSON",
                got=cause.msg,
                remedy="Correct the file at this place.",
            )
        ) from cause
    except (UnicodeDecodeError, OSError) as cause:
        raise error(
            message(path, expected="a readable JSON file", got=str(cause), remedy="Write the file again.")
        ) from cause
