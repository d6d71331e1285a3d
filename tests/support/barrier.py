"""Holds processes where their crawls are about to begin, so that many begin at the same moment."""

from __future__ import annotations

import os
import time
from pathlib import Path

from scrapy.exceptions import NotConfigured

FOLDER, HERE = "BARRIER_FOLDER", f"{__name__}.Barrier"


class Barrier:
    """An extension: built before the pipelines, it lets the process go on when there is a "go"."""

    @classmethod
    def from_crawler(cls, crawler):
        folder = Path(crawler.settings[FOLDER])
        (folder / f"ready-{os.getpid()}").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
        raise NotConfigured


def waiting(folder: Path) -> int:
    """How many processes wait there, or have been let go."""
    return len(list(folder.glob("ready-*")))
