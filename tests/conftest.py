from __future__ import annotations

import os
import signal

from hypothesis import settings

pytest_plugins = ("raw_folder", "tiny_store")

# before torch loads its OpenMP runtime: threads that wait for a core someone else uses must not spin for it
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# a shell starts what runs in the background deaf to Ctrl-C, and the commands that tests interrupt would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test` tries the same examples each time, `make test-slow` searches among others
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("same")
