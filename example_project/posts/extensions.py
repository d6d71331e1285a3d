"""What programs learn of a crawl."""

import json
from datetime import datetime
from pathlib import Path

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured


class StatsFile:
    """Writes the crawl's stats as JSON to the file that the setting ``POSTS_STATS_FILE`` names.

    Dates are written in ISO 8601. Without the setting nothing is written.
    """

    def __init__(self, crawler: Crawler, path: Path) -> None:
        self._crawler = crawler
        self._path = path

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> "StatsFile":
        """Wait for the end of the crawl."""
        path = crawler.settings.get("POSTS_STATS_FILE")
        if not path:
            raise NotConfigured
        extension = cls(crawler, Path(path))
        # The last signal of a crawl: what other components count when the spider closes is in.
        crawler.signals.connect(extension.engine_stopped, signals.engine_stopped)
        return extension

    def engine_stopped(self) -> None:
        """Write the file."""
        stats = self._crawler.stats.get_stats()
        self._path.write_text(json.dumps(stats, default=_iso, indent=1), encoding="utf-8")


def _iso(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
