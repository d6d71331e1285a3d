"""The spider processes of the soak: each place has one, and gets a new one when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from bench.soak.spider import ACKNOWLEDGED, COUNT, LOG, OUTAGES, RECORD, RESULT, STORED, Job

_MEGABYTE = 1 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """What a process takes at a moment."""

    at: float
    rss: float
    """Megabytes."""
    files: int
    """Open file descriptors, sockets among them."""
    sockets: int


class Stored(NamedTuple):
    """One copy of a post."""

    at: float
    post: int
    unchecked: bool


@dataclass(frozen=True)
class Span:
    """From when to when something lasted, by ``time.monotonic``."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end - self.begin


def sample(pid: int) -> Sample | None:
    """What a process takes now; None if it has ended."""
    with suppress(OSError, ValueError, IndexError):
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        files = list(Path(f"/proc/{pid}/fd").iterdir())
        names = []
        for file in files:
            with suppress(OSError):  # it has just been closed
                names.append(str(file.readlink()))
        sockets = sum(name.startswith("socket:") for name in names)
        if resident:
            return Sample(time.monotonic(), resident * _PAGE / _MEGABYTE, len(names), sockets)
    return None


class Run:
    """A spider process, and what it leaves behind."""

    def __init__(self, name: str, policy: str, job: Job) -> None:
        self.name, self.policy, self.job = name, policy, job
        self.killed = False
        self.freezes: list[Span] = []
        self.samples: list[Sample] = []
        self.began = time.monotonic()
        self.ended = 0.0
        Path(job.directory).mkdir(parents=True)
        # In another session: Ctrl-C reaches only the soak, which ends its processes itself.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.soak.spider", json.dumps(asdict(job))],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stderr=job.path("stderr").open("wb"),
        )

    @property
    def alive(self) -> bool:
        """Whether the process runs; frozen is alive."""
        if self._process.poll() is None:
            return True
        self.ended = self.ended or time.monotonic()
        return False

    @property
    def ready(self) -> bool:
        """Whether the spider is about to open, at least: Scrapy takes its time to be imported."""
        return self.job.path(ACKNOWLEDGED).exists()

    def look(self) -> None:
        """Takes a sample."""
        if self.alive and (found := sample(self._process.pid)):
            self.samples.append(found)

    def kill(self) -> None:
        """SIGKILL, by the soak's plan."""
        if self.alive:
            self.killed = True
            self.end()

    def end(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.alive:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.alive:
            self._process.send_signal(signal.SIGCONT)

    # -- what it left ------------------------------------------------------------------------------

    @property
    def life(self) -> float:
        """Seconds."""
        return (self.ended or time.monotonic()) - self.began

    @cached_property
    def stored(self) -> list[Stored]:
        """The posts, in their order; to be asked when it has ended."""
        path = self.job.path(STORED)
        content = path.read_bytes() if path.exists() else b""
        whole = len(content) - len(content) % RECORD.size
        return [Stored(*record) for record in RECORD.iter_unpack(content[:whole])]

    @property
    def unchecked(self) -> int:
        """How many of them passed unchecked."""
        return sum(copy.unchecked for copy in self.stored)

    @property
    def unconfirmed(self) -> int:
        """How many of them Valkey had not acknowledged when the process ended."""
        path = self.job.path(ACKNOWLEDGED)
        (acknowledged,) = COUNT.unpack(path.read_bytes()) if path.exists() else (0,)
        return len(self.stored) - int(acknowledged)

    @property
    def outages(self) -> tuple[int, float]:
        """How many the plugin counted, and how many seconds they were in all.

        One that the process did not survive lasted to its end.
        """
        path = self.job.path(OUTAGES)
        lines = path.read_text().splitlines() if path.exists() else []
        notes = [tuple(map(float, line.split())) for line in lines]
        begins = [at for at, seconds in notes if not seconds]
        total = max((seconds for _, seconds in notes), default=0.0)
        unended = bool(notes) and not notes[-1][1]
        return len(begins), total + (self.ended - begins[-1] if unended else 0)

    @property
    def stats(self) -> dict[str, Any]:
        """Scrapy's stats; empty if the process was killed."""
        path = self.job.path(RESULT)
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @property
    def ending(self) -> str:
        """How it ended, in one word."""
        if self.killed:
            return "killed"
        return str(self.stats.get("finish_reason", f"exit code {self._process.returncode}"))

    @property
    def complaints(self) -> Iterator[str]:
        """The lines of its log that are warnings or worse, and what it said beside the log."""
        for name in (LOG, "stderr"):
            path = self.job.path(name)
            for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
                if name == "stderr" or any(
                    word in line for word in (" WARNING: ", " ERROR: ", " CRITICAL: ", "Traceback")
                ):
                    yield line
