"""Makes the pictures of `scrapy dedup report`: ``python -m bench.screenshots.report``.

They go into docs/images. The page is made by the command, from a real ledger; the weeks that it
shows are made up. It needs Debian's ``chromium``, and the extra "dev".
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.screenshots.browser import shrink
from bench.screenshots.chromium import Page, chromium
from bench.screenshots.weeks import fill
from bench.servers import ValkeyServer, free_port

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DAYS = 42
WIDE, NARROW = (1280, 868), (390, 1000)
"""Widths of windows, and how much of the page is shown, in pixels."""


def make_page(folder: Path) -> Path:
    """A report about a fleet."""
    with ValkeyServer("--maxmemory", "256mb", port=free_port()) as server:
        fill(server.url, DAYS)
        command = [sys.executable, "-m", "scrapy", "dedup", "report", "report.html"]
        subprocess.run(
            [*command, "--url", server.url, "--namespace", "posts"], cwd=folder, check=True
        )
    return folder / "report.html"


def take(page: Page, address: str, to: Path, *, dark: bool, whole: bool) -> None:
    """Takes the page in a wide and in a narrow window: from the top, or ``whole``."""
    colours = "dark" if dark else "light"
    for name, (width, height) in (("wide", WIDE), ("narrow", NARROW)):
        page.show(width, height, dark=dark)
        page.open(address)
        file = to / f"report-{name}-{colours}.png"
        page.picture(file, height=None if whole else height, whole=whole)
        shrink(file, 256)


def main() -> None:
    """Makes the page, then takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=IMAGES, help="the folder (docs/images)")
    parser.add_argument("--whole", action="store_true", help="the whole page, not only its top")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="svd-report-") as folder, chromium() as browser:
        address, page = make_page(Path(folder)).as_uri(), Page(browser)
        for dark in (False, True):
            take(page, address, given.to, dark=dark, whole=given.whole)


if __name__ == "__main__":
    main()
