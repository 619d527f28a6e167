"""Set before torch loads its OpenMP runtime: threads that wait for a core someone else uses must not spin for it."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# `make test` tries the same examples each time, `make test-slow` searches among others
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("same")
