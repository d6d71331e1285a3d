"""Writes the tables and plots of the docs from the results: ``python -m bench.publish``.

Fills the marked parts of docs/benchmarks.md and README.md, and draws docs/benchmarks/*.svg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.publish.pages import PAGES, written
from bench.publish.plots import draw_all
from bench.suite.__main__ import RESULTS
from bench.suite.results import Results


def main() -> None:
    """Writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    results = Results.load(parser.parse_args().results)
    for path in PAGES:
        path.write_text(written(path, results), "utf-8")
        print(path.name)
    for path in draw_all(results, RESULTS.parent):
        print(path.name)


if __name__ == "__main__":
    main()
