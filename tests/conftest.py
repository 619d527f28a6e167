"""Set before torch loads its OpenMP runtime: threads that wait for a core someone else uses must not spin for it."""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
