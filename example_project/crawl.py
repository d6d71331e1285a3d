"""The demo's crawls: real ``scrapy crawl mastodon`` processes."""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fediverse.instances import Instance

PROJECT = Path(__file__).resolve().parent
# A crawl that takes longer than this has failed. Seconds.
DEADLINE = 300
# How long a crawl that is asked to stop may take. Seconds.
STOPPING = 15


@dataclass
class Crawl:
    """One ``scrapy crawl mastodon`` process and the files that it writes."""

    run: int
    instance: Instance
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    _pages_before: int = 0

    @property
    def log(self) -> Path:
        """The file of its log."""
        return self.directory / f"run-{self.run}-{self.instance.domain}.log"

    @property
    def log_text(self) -> str:
        """What it logged; nothing if it never began."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    @property
    def stats(self) -> dict[str, Any]:
        """What it counted; nothing if it did not come to its end."""
        file = self.log.with_suffix(".json")
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    @property
    def pages(self) -> int:
        """How many pages the instance has sent since the start."""
        return self.instance.pages - self._pages_before

    @property
    def good(self) -> bool:
        """Whether it came to its end and ended well."""
        return self.process.returncode == 0 and self.stats.get("finish_reason") == "finished"

    def start(self) -> None:
        """Start the process."""
        self._pages_before = self.instance.pages
        feed = self.directory / "feeds" / "%(name)s" / "%(instance)s" / "%(time)s.jsonl"
        settings = {
            "POSTS_DATABASE": self.directory / "posts.sqlite",
            "POSTS_STATS_FILE": self.log.with_suffix(".json"),
            "VALKEY_DEDUP_DATA_DIR": self.directory / "valkey",
            "FEEDS": json.dumps({str(feed): {"format": "jsonlines"}}),
            "LOG_FILE": self.log,
            "LOG_LEVEL": "INFO",
            # The instances are on this machine: no proxy, and only so much of a pause between pages
            # that all three crawls are under way at the same time. Seconds.
            "HTTPPROXY_ENABLED": "False",
            "DOWNLOAD_DELAY": "0.05",
            **self.settings,
        }
        arguments = {"instance": self.instance.url, "pages": "all"}
        command = [sys.executable, "-m", "scrapy", "crawl", "mastodon"]
        for name, value in arguments.items():
            command += ["-a", f"{name}={value}"]
        for name, value in settings.items():
            command += ["-s", f"{name}={value}"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SCRAPY_")
        }
        # In a session of its own, Ctrl-C reaches the demo only, which then stops it once: a second
        # signal would end Scrapy on the spot, and leave the embedded Valkey behind.
        self.process = subprocess.Popen(  # noqa: S603 (the command is ours)
            command, cwd=PROJECT, env=environment, start_new_session=True
        )

    def stop(self) -> None:
        """End the process if it runs."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def crawl_all(crawls: list[Crawl]) -> None:
    """Run the crawls at once, to their end."""
    deadline = time.monotonic() + DEADLINE
    try:
        for crawl in crawls:
            crawl.start()
        for crawl in crawls:
            with contextlib.suppress(subprocess.TimeoutExpired):
                crawl.process.wait(max(0, deadline - time.monotonic()))
    finally:
        for crawl in crawls:
            crawl.stop()
