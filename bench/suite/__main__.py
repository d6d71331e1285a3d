"""Runs the benchmarks row by row: ``python -m bench.suite``; ``--quick``, ``--only``, ``--help``.

The results go to docs/benchmarks/results.json after each row, and what is in another row stays. A
run that was interrupted goes on where it was: rows that this commit has measured in the same size
are kept, unless ``--only`` names them or ``--again`` is given. A row that fails is listed with its
error, and the rest goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from pathlib import Path

from bench.suite.environments import ROOT
from bench.suite.measures.ledger import LARGE
from bench.suite.peers import Usable, find
from bench.suite.provenance import provenance
from bench.suite.results import FAILED, MEASURED, Results, Row
from bench.suite.rows import ON_DEMAND, PEERS, ROWS, Measure
from bench.suite.sizes import FULL, QUICK, Sizes
from bench.suite.targets import judge

RESULTS = ROOT / "docs" / "benchmarks" / "results.json"
QUICK_RESULTS = ROOT / "build" / "bench-quick.json"
BUSY = 0.5


def measures() -> dict[str, Measure]:
    """How each row is measured; those that are measured on demand come last."""
    return ROWS | ON_DEMAND


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small amounts, to build/; no judging")
    parser.add_argument("--only", type=lambda text: text.split(","), help="rows, with commas")
    parser.add_argument("--again", action="store_true", help="measure all rows anew")
    parser.add_argument("--rounds", type=int, help="no more than so many, for a rehearsal")
    parser.add_argument(
        "--hundred-million", action="store_true", help=f"only a ledger of 10^8 posts: {LARGE}"
    )
    parser.add_argument("--results", type=Path, help="another file")
    given = parser.parse_args()
    if given.hundred_million:
        given.only = [*(given.only or ()), LARGE]
    for name in given.only or ():
        if name not in measures():
            parser.error(f"--only {name}: there are {', '.join(measures())}")
    return given


def main() -> int:
    """Measures; the exit status is 1 if a row failed or a figure is missing."""
    given = options()
    sizes = QUICK if given.quick else FULL
    if given.rounds:
        sizes = sizes.with_rounds(given.rounds)
    path = given.results or (QUICK_RESULTS if given.quick else RESULTS)
    results = Results.load(path)
    began = time.monotonic()
    if os.getloadavg()[0] > BUSY:
        print(f"The machine is busy (load {os.getloadavg()[0]:.1f}): go by processor time.")
    run = provenance("", sizes.name)
    peers = Row(PEERS)
    usable = list(find(peers))
    peers.run = run | {"command": "python -m bench.suite", "seconds": _since(began)}
    results.rows[PEERS] = peers
    for text in peers.notes:
        print(f"cannot run: {text}")
    for number, name in enumerate(measures(), 1):
        if _is_due(name, results, run, given):
            print(f"[{number}/{len(measures())}] {name}", flush=True)
            results.rows[name] = measured(name, sizes, usable)
            results.save(path)
    print(f"{_since(began):.0f} s in all; {path}")
    return report(results, quick=given.quick)


def _is_due(name: str, results: Results, run: dict[str, object], given: argparse.Namespace) -> bool:
    if given.only:
        return name in given.only
    if name in ON_DEMAND:
        return False
    row = results.rows.get(name)
    if given.again or given.quick or row is None or row.error:
        return True
    same = ("commit", "changed", "size")
    return run["changed"] is True or any(row.run[key] != run[key] for key in same)


def measured(name: str, sizes: Sizes, usable: list[Usable]) -> Row:
    """A row; a failure is in it."""
    row = Row(name)
    row.run = provenance(f"python -m bench.suite --only {name}", sizes.name)
    began = time.monotonic()
    try:
        for step in measures()[name](row, sizes, usable):
            print(f"  {_since(began):4.0f} s  {step}", flush=True)
    except Exception as error:  # noqa: BLE001 (whatever it is, the other rows go on)
        traceback.print_exc()
        row.error = f"{type(error).__name__}: {error}".splitlines()[0].replace(str(ROOT), ".")
    row.run["seconds"] = _since(began)
    print(f"  {FAILED if row.error else MEASURED} in {row.run['seconds']:.0f} s", flush=True)
    return row


def report(results: Results, *, quick: bool) -> int:
    """Prints the targets; returns the exit status."""
    faults = [f"{row.name} failed: {row.error}" for row in results.rows.values() if row.error]
    faults += [f"{name} is missing" for name in ROWS if name not in results.rows]
    for verdict in judge(results):
        if verdict.value is None:
            faults.append(f"no figure for: {verdict.target.what}")
        if not quick:
            print(verdict.line)
    for fault in faults:
        print(f"fault: {fault}")
    return 1 if faults else 0


def _since(moment: float) -> float:
    return round(time.monotonic() - moment, 1)


if __name__ == "__main__":
    sys.exit(main())
