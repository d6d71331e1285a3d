"""Takes the pictures of the docs: ``make pictures``.

The pages and their ledgers are real; the weeks that they show are made up.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.servers import ValkeyServer
from tests.support.browser.chromium import Page, chromium
from tests.support.fleet_history import write_history
from tests.support.ledgers import in_ledger
from tests.support.processes.dedup_command import dedup, project

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DAYS = 42


def report_page(folder: Path) -> Path:
    """A report of a fleet."""
    with ValkeyServer("--maxmemory", "256mb") as server:
        here = project(folder, VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_NAMESPACE="posts")

        async def fill(ledger: object) -> None:
            await write_history(ledger, DAYS)  # type: ignore[arg-type]

        in_ledger(server.url, "posts", fill, retention=90 * 86400)
        ended = dedup("report", "report.html", "--days", "30", directory=here)
        assert ended.code == 0, ended.err
    return here / "report.html"


def main() -> None:
    """Takes all, into a folder that is given or into that of the docs."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        address = report_page(Path(folder)).as_uri()
        page = Page(browser)
        for name, width, dark in (
            ("wide", 1280, False),
            ("wide-dark", 1280, True),
            ("narrow", 390, False),
            ("narrow-dark", 390, True),
        ):
            page.show(width, 900 if width > 500 else 844, dark=dark)
            page.open(address)
            page.picture(target / f"report-{name}.png", whole=True)


if __name__ == "__main__":
    main()
