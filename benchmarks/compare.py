"""Everything of `make bench`: kernels, memory, fingerprints and whole data sets against nnunetv2, turn by turn.

Usage: python benchmarks/compare.py --peer /path/to/nnunetv2/python --data DATA [--pairs 3]
"""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path

from kernels import compare_fingerprints, compare_kernels
from measuring import Comparison, machine, record, show, versions
from pipeline import JOBS, PROCESSES, compare_pipelines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    peer, data, pairs = arguments.peer, arguments.data, arguments.pairs
    where, which = machine(), versions(peer)
    print(json.dumps({**where, **which}))
    comparisons = chain(
        compare_kernels(peer, pairs=pairs),
        (compare_fingerprints(peer, data / job.dataset, processes=PROCESSES, pairs=pairs) for job in JOBS.values()),
        compare_pipelines(peer, data, pairs=pairs),
    )
    for missed in filter(Comparison.misses, show(record(comparisons, where, which))):
        print(f"Missed: {missed.name}")


if __name__ == "__main__":
    main()
