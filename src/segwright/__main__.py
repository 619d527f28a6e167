"""`python -m segwright` is the command `segwright`."""

from __future__ import annotations

import sys

from segwright.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
