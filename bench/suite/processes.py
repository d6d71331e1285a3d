"""Starts the spider processes that are measured, each in the environment of its way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import IO

from bench.suite.environments import ROOT, interpreter
from bench.suite.spider import Job, Outcome

TIMEOUT = 180.0
_LAST_WORDS = 20


class CrawlError(Exception):
    """A spider process that did not end well; the last line of its errors."""


class Spider:
    """Such a process; leaving its context kills it if it still runs."""

    def __init__(self, job: Job, environment: str = "") -> None:
        self._errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            [interpreter(environment), "-m", "bench.suite.spider"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self._say(json.dumps(asdict(job)))

    def __enter__(self) -> Spider:  # noqa: PYI034 (Self is there from Python 3.11 on)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.kill()
        self._errors.close()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def wait_until_ready(self) -> Spider:
        """Returns when all is imported."""
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            self._process.wait()
            raise CrawlError(self.last_error())
        return self

    def go(self) -> Spider:
        """Lets it crawl."""
        self._say("go")
        return self

    def outcome(self, timeout: float = TIMEOUT) -> Outcome:
        """Waits for its end.

        Raises:
            CrawlError: it failed, or did not end in time.

        """
        try:
            output, _ = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise CrawlError(f"still at work after {timeout:.0f} s") from None
        if self._process.returncode:
            raise CrawlError(self.last_error())
        found = Outcome(**json.loads(output.strip().splitlines()[-1]))
        if not found.stored and (error := self.last_error()):
            raise CrawlError(error)
        return found

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()

    def last_error(self) -> str:
        """The last line on stderr that names an error; paths are left out."""
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        named = [line for line in lines if "Error" in line.split(":")[0] or "Exception" in line]
        text = (named or lines or [""])[-1]
        return re.sub(r" \(/\S*\)|/\S*/", "", text)

    def _say(self, line: str) -> None:
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


def crawl(job: Job, environment: str = "", timeout: float = TIMEOUT) -> Outcome:
    """Runs one spider process from its start to its end."""
    with Spider(job, environment) as spider:
        return spider.wait_until_ready().go().outcome(timeout)
