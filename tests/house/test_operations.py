"""docs/operations.md: its commands are understood, its names exist, its procedures work."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scrapy.settings import Settings

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.commands import DedupCommand, verb
from scrapy_valkey_dedup.commands.shared.status import metrics
from scrapy_valkey_dedup.stats import ITEMS, Stats
from tests.house.test_docs import rows_after
from tests.support.processes.dedup_command import dedup, project
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("they look at all keys")

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
FORUM = ("--spider", "forum", "--item", "posts.items.Post")
POSTS = 50


def commands(text: str) -> list[str]:
    """Each `scrapy dedup ...` that stands on lines of its own."""
    whole = text.replace("\\\n", " ")
    return re.findall(r"^ {4}(?:\w+=\S+ )?scrapy dedup (.*?)(?: +#.*| > .*)?$", whole, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page: Path) -> None:
    """Each command on a page is one that the command line takes, with all of its options."""
    command = DedupCommand()
    command.settings = Settings()
    for line in commands(page.read_text("utf-8")):
        words = [word for word in shlex.split(line) if word != "--help"]
        if words:
            command._parsed(verb(words[0]), Namespace(words=words, set=[]))


def test_the_metrics_exist() -> None:
    """Each metric that the page tells to watch is one that `status` prints."""
    source = Path(metrics.__file__).read_text("utf-8")
    rows = rows_after(PAGE, "| metric | act when |")
    names = [row[0].strip("`").partition("{")[0] for row in rows]
    assert len(names) == 7
    assert all(f'"{name}"' in source for name in [*names, "memory_limit_bytes"])


def test_the_stats_exist() -> None:
    """Each stat that the page tells to watch is counted."""
    names = [row[0].strip("`") for row in rows_after(PAGE, "| stat | act when |")]
    assert names
    assert set(names) <= {*vars(ITEMS).values(), *vars(Stats).values()}


@dataclass
class Operator:
    """Types the commands of a section, in a project with a file of posts."""

    here: Path

    def type(self, heading: str, beginning: str, *more: str) -> Any:
        """The section's one command that begins so; returns its answer."""
        section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        (line,) = [each for each in commands(section) if each.startswith(beginning)]
        line = line.replace("forum.items.Post", "posts.items.Post")
        line = line.replace("/var/backups", str(self.here)).replace("backup.dump", "posts.dump")
        ended = dedup(*shlex.split(line), *more, "--json", directory=self.here)
        assert ended.code == 0, ended.err
        return ended.json

    def known(self, *more: str) -> int:
        """How many of the file's posts are known."""
        ended = dedup("check", *FORUM, "posts.jsonl", *more, "--json", directory=self.here)
        assert ended.code == 0, ended.err
        return int(ended.json["known"])


@pytest.fixture
def operator(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Operator:
    """In a project whose posts are stored, and not yet known."""
    here = project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)
    lines = [f'{{"site": "X", "post_id": {number}}}\n' for number in range(POSTS)]
    (here / "posts.jsonl").write_text("".join(lines), "utf-8")
    return Operator(here)


def test_other_fields(operator: Operator) -> None:
    """Other rules make every post new; the import under these rules makes each known."""
    section = "Changing retention, fields or item classes"
    rules = ("-s", 'VALKEY_DEDUP_FIELDS=["post_id", "site"]')
    assert operator.type(section, "import")["remembered"] == POSTS
    (before,) = operator.type(section, "check")["posts"]
    (after,) = operator.type(section, "check", *rules)["posts"]
    assert before["key"] != after["key"]
    assert (operator.known(), operator.known(*rules)) == (POSTS, 0)
    operator.type(section, "import", *rules)
    assert (operator.known(), operator.known(*rules)) == (POSTS, POSTS)


def test_the_ledger_is_rebuilt(operator: Operator) -> None:
    """After all is lost, the import of what is stored brings it back; so does a backup."""
    section = "The ledger is lost"
    lose = ("forget", "--all", "namespace", "--yes")
    operator.type(section, "import")
    operator.type(section, "dump")
    for way in ("import", "load"):
        assert dedup(*lose, directory=operator.here).code == 0
        assert operator.known() == 0
        operator.type(section, way)
        assert operator.known() == POSTS
