"""Runs `scrapy dedup` as an operator does: in a process, piped or on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from scrapy_valkey_dedup.identity.encoding import digest
from tests.support.coverage.measure import FOLDER
from tests.support.processes import dedup_process as command_process
from tests.support.processes.forkserver import processes

ROOT = Path(__file__).parents[3]
PATIENCE = 60  # seconds

SETTINGS = """
BOT_NAME = "posts"
SPIDER_MODULES = ["posts.spiders"]
ADDONS = {"scrapy_valkey_dedup.Addon": 500}
"""
ITEMS = """
from dataclasses import dataclass

import scrapy


class Post(scrapy.Item):
    site = scrapy.Field()
    post_id = scrapy.Field()
    title = scrapy.Field()


@dataclass
class Thread:
    thread_id: int
    title: str = ""


not_an_item = 1
"""
SPIDERS = """
import scrapy


class Forum(scrapy.Spider):
    name = "forum"
    custom_settings = {"VALKEY_DEDUP_FIELDS": ["site:casefold", "post_id"]}


class News(scrapy.Spider):
    name = "news"
"""


@dataclass(frozen=True)
class Ended:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def plain(self) -> str:
        """What a terminal shows, without colours."""
        return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", self.out)

    @property
    def json(self) -> Any:
        """The one object that it has printed."""
        return json.loads(self.out)


def project(directory: Path, **settings: Any) -> Path:
    """A project with two spiders and two classes of items; returns its folder."""
    package = directory / "posts"
    (package / "spiders").mkdir(parents=True)
    (directory / "scrapy.cfg").write_text("[settings]\ndefault = posts.settings\n")
    given = "".join(f"{name} = {value!r}\n" for name, value in settings.items())
    (package / "settings.py").write_text(SETTINGS + given)
    (package / "__init__.py").write_text("")
    (package / "items.py").write_text(ITEMS)
    (package / "spiders" / "__init__.py").write_text(SPIDERS)
    return directory


@lru_cache
def _metadata() -> str:
    """A folder that tells Python the entry points of this source tree, installed or not."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    found = re.search(r'\[project\.entry-points\."scrapy\.commands"\]\n(\w+) = "(.*)"', text)
    assert found
    folder = Path(tempfile.mkdtemp(prefix="svd-metadata-"))
    info = folder / "scrapy_valkey_dedup-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scrapy-valkey-dedup\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[scrapy.commands]\n{found[1]} = {found[2]}\n")
    return str(folder)


def environment(**more: str) -> dict[str, str]:
    """The environment of a command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCRAPY_")}
    kept["PYTHONPATH"] = os.pathsep.join([_metadata(), str(ROOT)])
    return {**kept, "COLUMNS": "200", **more}


def words(*given: str) -> list[str]:
    """The command line."""
    module = "tests.support.coverage.command" if FOLDER in os.environ else "scrapy"
    return [sys.executable, "-m", module, "dedup", *given]


class Command:
    """It is under way, piped, in a process that is forked: that takes a tenth of the time."""

    def __init__(self, *given: str, directory: Path, stdin: str = "") -> None:
        self._given = given
        self._folder = Path(tempfile.mkdtemp(prefix="svd-command-"))
        (self._folder / "in").write_text(stdin, "utf-8")
        files = [str(self._folder / name) for name in ("in", "out", "err")]
        self._process = _forked(given, directory, files, environment())

    @property
    def err(self) -> str:
        """What it has said so far on standard error."""
        return self._read("err")

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        os.kill(self._process.pid, number)

    def end(self) -> Ended:
        """Waits until it has ended."""
        self._process.join(PATIENCE)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
        assert code is not None, f"{self._given} did not end: {self.err}"
        ended = Ended(code, self._read("out"), self.err)
        shutil.rmtree(self._folder)
        return ended

    def _read(self, name: str) -> str:
        file = self._folder / name
        return file.read_text("utf-8") if file.exists() else ""


def dedup(*given: str, directory: Path, stdin: str = "") -> Ended:
    """Runs it, piped, as fast as tests can."""
    return Command(*given, directory=directory, stdin=stdin).end()


def _forked(given: Sequence[str], directory: Path, files: list[str], env: Mapping[str, str]) -> Any:
    job = ([*given], str(directory), files, env)
    process = processes.Process(target=command_process.carry_out, args=job)
    process.start()
    return process


def run(*given: str, directory: Path, stdin: str = "", env: Mapping[str, str] = {}) -> Ended:
    """Runs it, piped, as a shell does, in an interpreter of its own."""
    ended = subprocess.run(
        words(*given), cwd=directory, input=stdin, env=environment(**env),
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def on_terminal(
    *given: str, directory: Path, typed: str = "", interrupted_at: str | None = None
) -> Ended:
    """Runs it on a terminal; what it writes there, of both kinds, is ``out``.

    ``interrupted_at``: a text behind which SIGINT comes.
    """
    ours, its = pty.openpty()
    process = _forked(given, directory, [os.ttyname(its)] * 3, environment(TERM="xterm"))
    os.write(ours, typed.encode())
    shown = b""
    while ours in wait([ours, process.sentinel]):
        shown += os.read(ours, 65536)
        if interrupted_at is not None and interrupted_at in shown.decode(errors="replace"):
            os.kill(process.pid, signal.SIGINT)
            interrupted_at = None
    os.close(its)
    os.close(ours)
    process.join(PATIENCE)
    return Ended(process.exitcode, shown.decode(), "")


def key_of_post(number: int) -> bytes:
    """Of the spider forum's Post with the site "x"."""
    return digest(["forum", "posts.items:Post", ["site", "post_id"]], ["x", number])
