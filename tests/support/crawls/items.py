"""Runs real crawls in real processes against a real site on loopback, and reads what they left."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE, wait_until
from tests.support.processes.forkserver import processes
from tests.support.spiders.items import crawl
from tests.support.spiders.jobs import Job
from tests.support.spiders.storages import create_table


@dataclass
class Crawl:
    """A crawl in a process."""

    job: Job
    process: Any

    @property
    def log(self) -> str:
        """What it has logged so far."""
        path = Path(self.job.directory) / "log"
        return path.read_text() if path.exists() else ""

    def wait_for(self, text: str) -> None:
        """Waits until it has logged something; fails at once if it ends without."""

        def is_logged() -> bool:
            lives = self.process.is_alive()  # asked first: the log of an ended crawl is whole
            if text in self.log:
                return True
            assert lives, f"ended without {text!r}:\n{self.log[-3000:]}"
            return False

        wait_until(is_logged)

    def wait(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """Waits for its end; returns its stats."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f"the crawl did not end within {seconds} s:\n{self.log[-3000:]}")
        result = Path(self.job.directory) / "result.json"
        assert result.exists(), f"exit code {self.process.exitcode}:\n{self.log[-3000:]}"
        return dict(json.loads(result.read_text())["stats"])

    def signal(self, number: int) -> None:
        """Sends the process a signal."""
        os.kill(self.process.pid, number)

    def kill(self) -> bool:
        """SIGKILL, and waits until it is gone. False if it had ended before."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join(PATIENCE)
        return bool(self.process.exitcode == -signal.SIGKILL)


def start(job: Job) -> Crawl:
    """Starts a crawl."""
    Path(job.directory).mkdir(parents=True, exist_ok=True)
    process = processes.Process(target=crawl, args=(job,))
    process.start()
    return Crawl(job, process)


def stored(job: Job, table: str = "posts") -> Counter[str]:
    """How often each post's id stands in a table."""
    with sqlite3.connect(job.database, timeout=30) as connection:
        create_table(connection, job.database, table)
        return Counter(row[0] for row in connection.execute(f"SELECT id FROM {table}"))
