"""The processes of tests: what is imported before they are forked."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.processes.forkserver import processes


def _look(file: Path) -> None:
    file.write_text("\n".join(sys.modules))


def test_processes_find_everything_imported(tmp_path: Path) -> None:
    """All that a crawl imports, but for the reactor: each process installs its own."""
    file = tmp_path / "modules"
    process = processes.Process(target=_look, args=(file,))
    process.start()
    process.join()
    modules = set(file.read_text().splitlines())
    preloaded = (
        "tests.support.processes.preloaded",
        "tests.support.spiders.timelines",
        "scrapy.core.downloader.handlers.http11",
    )
    assert modules.issuperset(preloaded)
    assert "twisted.internet.reactor" not in modules
