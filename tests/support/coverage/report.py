"""``python -m tests.support.coverage.report FOLDER``: what did not run; fails under 95 %."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from slipcover import Slipcover, print_coverage

from tests.support.coverage.measure import PACKAGE, TOLD

AT_LEAST = 95.0
SOURCE = Path(__file__).parents[3] / PACKAGE


def read(told: Path) -> dict[str, set[Any]]:
    """By path what any process has seen: lines, and branches as pairs of lines."""
    from slipcover.branch import decode_branch, is_branch  # it has them from Python 3.12 on

    seen: defaultdict[str, set[int]] = defaultdict(set)
    with told.open() as file:
        for process in file:
            for path, lines in json.loads(process).items():
                seen[path].update(lines)
    return {
        path: {decode_branch(line) if is_branch(line) else line for line in lines}
        for path, lines in seen.items()
    }


def report(seen: dict[str, set[Any]], source: Path) -> float:
    """Prints what of the source was not run; returns the share of lines and branches that was."""
    measured = Slipcover(branch=True, source=[str(source)])
    measured.all_seen.update(seen)
    coverage = measured.get_coverage()
    print_coverage(coverage, outfile=sys.stdout, skip_covered=True, missing_width=60)
    return float(coverage["summary"]["percent_covered"])


if __name__ == "__main__":
    covered = report(read(Path(sys.argv[1]) / TOLD), SOURCE)
    sys.stdout.write(
        f"Coverage: {covered:.1f} % of the lines and branches of {PACKAGE}; at least {AT_LEAST} %\n"
    )
    sys.exit(covered < AT_LEAST)
