"""Prints the number of states of each scope: ``python -m tests.protocol [--slow | --huge]``."""

from __future__ import annotations

import sys

from tests.protocol.explorer import explore
from tests.protocol.model import Model
from tests.protocol.scopes import HUGE, QUICK, SLOW


def main() -> int:
    """Returns 1 if something that must hold does not."""
    how_many, reports = {"--slow": 2, "--huge": 3}.get(sys.argv[-1], 1), []
    for scope in [scope for some in (QUICK, SLOW, HUGE)[:how_many] for scope in some]:
        reports.append(explore(Model(scope)))
        print(reports[-1], flush=True)  # noqa: T201
    states, seconds = sum(r.states for r in reports), sum(r.seconds for r in reports)
    print(f"together: {states:,} states, {seconds:.0f} s")  # noqa: T201
    return any(report.violation for report in reports)


if __name__ == "__main__":
    sys.exit(main())
