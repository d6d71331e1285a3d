"""What a process is told, and what it leaves: a job, and a ``result.json``."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUIET = {
    "BOT_NAME": "tests",
    "LOG_LEVEL": "INFO",
    "LOG_VERSIONS": [],  # to look them up takes long, for one line
    "TELNETCONSOLE_ENABLED": False,
    "HTTPPROXY_ENABLED": False,
    "DOWNLOAD_DELAY": 0,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
}
"""Settings of all crawls: Scrapy's defaults, but for what would disturb a test."""


@dataclass
class Job:
    """One crawl: where, what, with which settings, into which directory it writes."""

    site: str
    pages: list[int]
    directory: str
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    """For the spider and the pipelines below: see where they read ``spider.options``."""
    seed: int | None = None
    """Shuffles the order of the pages."""

    @property
    def database(self) -> Path:
        """The SQLite file, which crawls may share."""
        return Path(self.options.get("database") or Path(self.directory) / "posts.db")


def leave_result(directory: str | Path, **result: Any) -> None:
    """Leaves what came of the crawl, all of it at once, as ``result.json``; ends the log."""
    logging.shutdown()
    path = Path(directory) / "result.json"
    path.with_suffix(".new").write_text(json.dumps(result, default=str))
    path.with_suffix(".new").replace(path)
