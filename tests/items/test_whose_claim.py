"""The end of an item settles the claim of that item and of no other, whatever its context."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer
from tests.support.ledgers import claims, remembered
from tests.support.patience import PATIENCE
from tests.support.processes.forkserver import processes
from tests.support.servers.web import Reply, Web
from tests.support.spiders import whose_claim as whose_claim_process

_numbers = count()
FILE = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def crawl(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs one of the process's spiders; returns its stats."""

    def run(name: str, site: str = "", *, settings: dict[str, Any] | None = None, **job: Any):
        directory = tmp_path / f"crawl-{next(_numbers)}"
        directory.mkdir()
        job = {"invalid": [], "refused": [], "seconds": {}, **job}
        job |= {"site": site, "directory": str(directory), "stored": str(tmp_path / "stored")}
        settings = {
            "VALKEY_DEDUP_URL": valkey.url,
            "VALKEY_DEDUP_NAMESPACE": namespace,
            **(settings or {}),
        }
        process = processes.Process(target=whose_claim_process.crawl, args=(name, job, settings))
        process.start()
        process.join(PATIENCE)
        return json.loads((directory / "stats.json").read_text())

    return run


def stored(tmp_path: Path) -> list[str]:
    path = tmp_path / "stored"
    return path.read_text().split() if path.exists() else []


def file(delay: float) -> Reply:
    return Reply(b"ok", headers=FILE, delay=delay)


def test_files_that_are_waited_for(
    crawl: Callable[..., dict[str, Any]], valkey: ValkeyServer, namespace: str, tmp_path: Path
) -> None:
    """P, whose storage fails, is stored by the next run, though Q and R ran in its context."""
    routes = {f"/page/{number}": Reply(b"page") for number in range(3)}
    routes |= {
        "/file/p1": file(0.4),
        "/file/slow": file(3),
        "/file/q1": file(0.4),
        "/file/q2": file(0.8),
    }
    seconds = {"P": 0.1, "Q": 1.0}
    settings = {"CONCURRENT_REQUESTS": 2}
    with Web(routes) as web:
        job = {"invalid": ["R"], "seconds": seconds, "settings": settings}
        first = crawl("chain", web.url, refused=["P"], **job)
        assert (first["dedup/items/confirmed"], first["dedup/items/released"]) == (1, 1)
        assert remembered(valkey.url, namespace, ["P", "Q"]) == {"Q"}
        second = crawl("chain", web.url, **job)
    assert (second["dedup/items/duplicate"], second["dedup/items/confirmed"]) == (1, 1)
    assert sorted(stored(tmp_path)) == ["P", "Q"]


def test_what_is_stored_is_remembered_and_nothing_else(
    crawl: Callable[..., dict[str, Any]], valkey: ValkeyServer, namespace: str, tmp_path: Path
) -> None:
    """With slow files, validation and a storage that fails: remembered are just those stored."""
    chance, pages = random.Random(22), 40
    posts = [str(number) for number in range(2 * pages)]
    routes = {f"/page/{number}": Reply(b"page") for number in range(pages)}
    for post in posts:
        for which in "ab":
            routes[f"/file/{post}-{which}"] = file(chance.choice([0.01, 0.01, 0.4]))
    with Web(routes) as web:
        crawl(
            "many",
            web.url,
            pages=pages,
            invalid=[post for post in posts if int(post) % 3 == 2],
            refused=chance.sample(posts, 24),
            seconds={post: chance.choice([0.01, 0.05, 0.5]) for post in posts},
        )
    found = stored(tmp_path)
    assert len(found) == len(set(found)) > 20
    assert remembered(valkey.url, namespace, posts) == set(found)
    assert claims(valkey.url, namespace) == {}


def test_items_of_start_are_waited_for(
    crawl: Callable[..., dict[str, Any]], valkey: ValkeyServer, namespace: str, tmp_path: Path
) -> None:
    """Of 95 posts that start() sends 95 are stored and remembered at a natural end."""
    posts = [str(number) for number in range(95)]
    stats = crawl("from_start", posts=95, seconds=dict.fromkeys(posts, 0.5))
    assert stats["dedup/items/confirmed"] == 95
    assert sorted(stored(tmp_path)) == sorted(posts)
    assert remembered(valkey.url, namespace, posts) == set(posts)
    assert claims(valkey.url, namespace) == {}


def test_a_spider_that_the_last_item_of_start_closes(
    crawl: Callable[..., dict[str, Any]], valkey: ValkeyServer, namespace: str
) -> None:
    """CLOSESPIDER_ITEMCOUNT is reached by the last of 5 items of start(): the crawl ends.

    Plain Scrapy 2.18 and 2.19 wait forever then: they look whether the items have ended only when a
    response has been scraped.
    """
    stats = crawl("from_start", posts=5, settings={"CLOSESPIDER_ITEMCOUNT": 5})
    assert stats["dedup/items/confirmed"] == 5
    assert claims(valkey.url, namespace) == {}
