"""Runs the crawls of :mod:`tests.support.spiders.requests`, and reads what they left."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.ledgers import claims, heartbeats
from tests.support.patience import LOOP, PATIENCE
from tests.support.processes.forkserver import processes
from tests.support.servers.web import Web
from tests.support.spiders import requests as request_process
from tests.support.spiders.requests import Job, Reader

PLAIN = "plain"
MODES: dict[str, dict[str, Any]] = {
    "alone": {},
    "job": {"VALKEY_DEDUP_JOB": "a-job"},
    "stored": {"VALKEY_DEDUP_REQUESTS": "stored"},
    "off": {"VALKEY_DEDUP_REQUESTS": "off"},
}
"""The ways in which the plugin filters requests."""
_numbers = count()


@dataclass
class Run:
    """One crawl, running or ended."""

    job: Job
    web: Web
    namespace: str
    process: Any
    before: Counter[str]
    """What the site had served when it began."""
    served: Counter[str] = field(default_factory=Counter)
    """What the site has served in the meantime, by path."""

    def wait(self, *, fails: bool = False) -> Run:
        """Waits for its end. ``fails``: whether it is a crawl that cannot start."""
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f"the crawl does not end:\n{self.log[-3000:]}")
        assert self.result["failed"] == fails, self.log[-3000:]
        self.served = self.web.served - self.before
        return self

    def signal(self, number: int) -> None:
        """Sends the process a signal."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.process.kill()
        self.process.join(PATIENCE)

    @property
    def result(self) -> dict[str, Any]:
        """What the spider has noted."""
        path = Path(self.job.directory, "result.json")
        assert path.exists(), f"exit code {self.process.exitcode}:\n{self.log[-3000:]}"
        return dict(json.loads(path.read_text()))

    @property
    def stats(self) -> dict[str, Any]:
        """Scrapy's stats."""
        return dict(self.result["stats"])

    @property
    def log(self) -> str:
        """What it has logged so far."""
        path = Path(self.job.directory, "log")
        return path.read_text() if path.exists() else ""

    @property
    def posts(self) -> Counter[str]:
        """What it has stored so far, and how often."""
        path = Path(self.job.directory, "posts")
        return Counter(path.read_text().splitlines() if path.exists() else [])

    def calls(self, kind: str) -> Counter[str]:
        """The callbacks, errbacks, errors or dropped requests."""
        return Counter(self.result[kind])


class Runs:
    """Starts crawls, each in its own directory."""

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = directory
        self._runs: list[Run] = []

    def start(
        self,
        spider: type[Reader],
        mode: str,
        web: Web | None = None,
        namespace: str | None = None,
        **changes: Any,
    ) -> Run:
        """Starts a crawl: of a fresh site, with a fresh ledger, unless they are given.

        Upper-case changes are settings, lower-case ones are options of the spider.
        """
        settings = {name: value for name, value in changes.items() if name.isupper()}
        options = {name: value for name, value in changes.items() if not name.isupper()}
        number = next(_numbers)
        namespace = namespace or f"requests-{number}"
        if mode != PLAIN:
            settings = {
                "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
                "ASYNCIO_EVENT_LOOP": LOOP,
                "VALKEY_DEDUP_URL": self._url,
                "VALKEY_DEDUP_NAMESPACE": namespace,
                "VALKEY_DEDUP_FIELDS": {"*": {"fields": ["post_id"], "kind": "Post"}},
                **MODES[mode],
                **settings,
            }
        web = web or Web(spider.pages, keep_alive=False)
        directory = self._directory / f"{number}-{spider.name}-{mode}"
        directory.mkdir(parents=True)
        name = f"{spider.__module__}.{spider.__qualname__}"
        job = Job(name, web.url, str(directory), settings, options)
        process = processes.Process(target=request_process.crawl, args=(job,))
        self._runs.append(Run(job, web, namespace, process, web.served.copy()))
        process.start()
        return self._runs[-1]

    def again(self, run: Run, spider: type[Reader], mode: str, **changes: Any) -> Run:
        """Starts another crawl of the same site with the same ledger."""
        return self.start(spider, mode, run.web, run.namespace, **changes)

    def left(self, run: Run) -> tuple[dict[bytes, bytes], int]:
        """The claims and the number of heartbeats that are in a run's ledger."""
        return claims(self._url, run.namespace), heartbeats(self._url, run.namespace)

    def close(self) -> None:
        """Ends what is left running."""
        for run in self._runs:
            if run.process.is_alive():
                run.process.kill()
            run.process.join()
        for web in {id(run.web): run.web for run in self._runs}.values():
            web.close()


NOTHING: tuple[dict[bytes, bytes], int] = ({}, 0)
"""What a run that ended well leaves of claims and heartbeats."""
