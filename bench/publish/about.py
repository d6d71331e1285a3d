"""The tables of docs/benchmarks.md about the run: peers, machine, notes, profile."""

from __future__ import annotations

from collections.abc import Callable

from bench.publish.blocks import table
from bench.publish.tables import bold
from bench.publish.words import number
from bench.suite.measures import profile
from bench.suite.peers import WORKS
from bench.suite.results import Results
from bench.suite.rows import ON_DEMAND, PEERS, ROWS
from bench.suite.ways import OURS, PLAIN


def notes(*rows: str) -> Callable[[Results], str]:
    """What was odd in some rows."""

    def write(results: Results) -> str:
        listed = {
            text for name in rows if name in results.rows for text in results.rows[name].notes
        }
        return "\n".join(f"- {text}" for text in sorted(listed)) or "Nothing."

    return write


def peers(results: Results) -> str:
    """Which peers run, and on which Scrapy."""
    rows = [
        [bold(each.way), each.case, "runs" if each.median else "does not run"]
        for each in results.figures(PEERS, WORKS)
    ]
    return table(["way", "tried", ""], rows)


def shares(results: Results) -> str:
    """Where the processor time of a crawl goes, under a profiler."""
    parts = list(dict.fromkeys(each.case for each in results.figures("profile", profile.COST)))
    rows = []
    for part in parts:
        plain, ours = (
            results.median("profile", profile.COST, part, name) for name in (PLAIN.name, OURS.name)
        )
        rows.append([part, number((ours or 0) - (plain or 0)), number(plain), number(ours)])
    return table(["us a post, under cProfile", "more", PLAIN.name, bold(OURS.name)], rows)


def provenance(results: Results) -> str:
    """Where each row is from."""
    rows = []
    for name in (PEERS, *ROWS, *ON_DEMAND):
        if (row := results.rows.get(name)) is None:
            continue
        run = row.run
        commit = f"`{run['commit']}`{', changed' if run['changed'] else ''}"
        state = f"failed: {row.error}" if row.error else f"{run['seconds']:.0f} s"
        state += "" if run["size"] == "full" else f", {run['size']} amounts"
        rows.append([name, f"`{run['command']}`", run["date"], commit, f"{run['load']:g}", state])
    return table(["row", "command", "date", "commit", "load before", "took"], rows)


def machine(results: Results) -> str:
    """The machines and the versions of all rows."""
    lines = []
    for row in results.rows.values():
        where, versions = row.run["machine"], row.run["versions"]
        lines.append(
            f"{where['processor']}, {where['cores']} cores, {where['memory, GB']} GB, "
            f"{where['system']}. "
            + ", ".join(f"{name} {version}" for name, version in versions.items())
            + "."
        )
    return "\n\n".join(dict.fromkeys(lines))
