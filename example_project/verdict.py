"""Compares what is stored with what the instances show."""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verdict:
    """How many posts are stored, and how many of them too often or not at all."""

    stored: int
    twice: int  # rows beyond the first of a uri
    missing: int  # uris that an instance shows, sent or not, and that no row has

    @property
    def good(self) -> bool:
        """Whether each post that is shown is stored exactly once."""
        return self.twice == 0 and self.missing == 0

    def __str__(self) -> str:
        return f"{self.stored} stored, {self.twice} twice, {self.missing} missing"


def judge(shown: Collection[str], stored: Iterable[str]) -> Verdict:
    """Compare the uris that the instances show with those of the stored rows."""
    rows = list(stored)
    uris = set(rows)
    return Verdict(len(rows), len(rows) - len(uris), len(set(shown) - uris))


def stored_in_database(database: Path) -> list[str]:
    """Return the uri of each row."""
    return [uri for (uri,) in _query(database, "SELECT uri FROM posts")]


def stored_in_feeds(directory: Path) -> list[str]:
    """Return the uri of each line of each JSON Lines file below a directory."""
    return [
        json.loads(line)["uri"]
        for file in directory.rglob("*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def rows_by_crawl(database: Path) -> Counter[tuple[str, str]]:
    """Count the rows that each crawl stored, by its instance and its beginning."""
    sql = "SELECT instance, run_started, COUNT(*) FROM posts GROUP BY 1, 2"
    return Counter({(instance, began): rows for instance, began, rows in _query(database, sql)})


def _query(database: Path, sql: str) -> list[tuple]:
    if not database.exists():  # no crawl came far enough to make it
        return []
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()
