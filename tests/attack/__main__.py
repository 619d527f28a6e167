"""Carry out the attacks and print what was found, family by family.

PYTHONPATH=tests python -m attack [--family NAME ...] [--only NAME ...] [--quick] [--list]
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from attack.corpus import QUICK, all_attacks
from attack.engine import KINDS, Attack, Finding, Result, carry_out
from attack.place import Place, build_template
from attack.runner import preload

_LINES_SHOWN = 12


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if nothing was found, else 1; 2 for a name that there is not."""
    parser = argparse.ArgumentParser(prog="attack", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", action="append", default=[])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="or a pattern, such as 'ctrl-c-*'")
    parser.add_argument("--quick", action="store_true", help="the small choice that `make test` runs")
    parser.add_argument("--list", action="store_true", help="print the names and do nothing")
    options = parser.parse_args(argv)
    attacks = chosen(all_attacks(), families=options.family, names=options.only, quick=options.quick)
    if not attacks:
        print("There is no such attack; --list names them.")
        return 2
    if options.list:
        for attack in attacks:
            print(f"{attack.family:14} {attack.name}")
        return 0
    preload()
    results = run(attacks, shows_output=bool(options.only))
    print(table(results))
    for result in results:
        if result.findings:
            print(describe(result))
    return 1 if any(result.findings for result in results) else 0


def chosen(
    attacks: Sequence[Attack], *, families: Sequence[str] = (), names: Sequence[str] = (), quick: bool = False
) -> list[Attack]:
    """The attacks of some families, of some names or patterns of names, or of the small choice."""
    return [
        attack
        for attack in attacks
        if (not families or attack.family in families)
        and (not names or any(fnmatchcase(attack.name, name) for name in names))
        and (attack.name in QUICK or not quick)
    ]


def run(attacks: Sequence[Attack], *, shows_output: bool = False) -> list[Result]:
    """Carry out attacks one after the other."""
    # removed by this process only: forks run Python's own clearing at their exit
    folder = Path(tempfile.mkdtemp(prefix="segwright-attack-"))
    try:
        template = build_template(folder / "template")
        return [_carried_out(attack, template, folder / "attack", shows_output=shows_output) for attack in attacks]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _carried_out(attack: Attack, template: Place, root: Path, *, shows_output: bool) -> Result:
    start = time.monotonic()
    try:
        result = carry_out(attack, template, root)
    except Exception as error:  # the preparation did not work: nothing was shown, which is no success
        finding = Finding("wrong", f"could not be carried out: {type(error).__name__}: {error}")
        result = Result(attack, attack.argv, None, (finding,))
    shutil.rmtree(root, ignore_errors=True)
    found = ", ".join(sorted({finding.kind for finding in result.findings})) or "ok"
    print(f"{attack.name} ({time.monotonic() - start:.1f} s): {found}", file=sys.stderr, flush=True)
    if shows_output and result.outcome is not None:
        print(result.outcome.text, file=sys.stderr, flush=True)
    return result


def table(results: Sequence[Result]) -> str:
    """One line a family: attacks, attacks with findings, findings of each kind."""
    families = list(dict.fromkeys(result.attack.family for result in results))
    rows = [["family", "attacks", "failing", *KINDS]]
    for family in (*families, "total"):
        of = [result for result in results if family in (result.attack.family, "total")]
        kinds = [finding.kind for result in of for finding in result.findings]
        failing = sum(bool(result.findings) for result in of)
        rows.append([family, str(len(of)), str(failing), *(str(kinds.count(kind)) for kind in KINDS)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def describe(result: Result) -> str:
    """What was found, the command, what it said last, and how to repeat the attack."""
    lines = [f"\n{result.attack.family}: {result.attack.name}"]
    lines += [f"  {finding.kind}: {finding.text}" for finding in result.findings]
    lines.append(f"  $ segwright {shlex.join(result.words)}")
    if result.outcome is not None:
        said = [repr(line)[1:-1][:300] for line in result.outcome.text.splitlines()]
        lines += [f"  | {line}" for line in said[-_LINES_SHOWN:]]
    lines.append(f"  repeat: PYTHONPATH=tests python -m attack --only {shlex.quote(result.attack.name)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
