"""A real Valkey for the tests: one server for the session, a namespace of its own for each test."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from scrapy import version_info

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Server
from tests.support import patience
from tests.support.crawls.items import Crawl, Site, claims, heartbeats, remembered, start, stored
from tests.support.patience import PATIENCE
from tests.support.servers.standin import a_server
from tests.support.spiders.jobs import Job

SCRAPY_VERSION = tuple(version_info[:2])
_numbers = count()

# No example fails for being slow: on a busy machine any may be.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ONCE = {
    "the repository itself": "compose docs house layers processes wheel terraform_access"
    " terraform_check terraform_docs architecture",
    "pure Python, explored or by examples without end": "admission batching keyset namespaces"
    " normalise protocol_model soak",
    "equipment": "servers",
    "a service that runs Valkey, not Redis": "serverless serverless_crawls"
    " selftest_serverless serverless_fleet",
    # What a crawl makes of an outage: outage, outage_laws, policies. What the scripts promise, on
    # each server: ledger, ledger_model, protocol_server.
    "faults by policies, and chance": "crash crash_feeds faults protocol_traces race",
    # The spiders of README and requests.md run on every stack, in readme.
    "the example project": "example_project",
}
"""By reason: files of tests that prove the same on every stack; the newest one runs them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is in ``ONCE``."""
    files = {f"test_{name}.py" for names in ONCE.values() for name in names.split()}
    for item in items:
        if item.path.name in files:
            item.add_marker("once")


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test that awaits in an event loop of its own, which is patient."""

    @functools.wraps(test)
    def run(*arguments: object, **fixtures: object) -> None:
        async def main() -> None:
            await test(*arguments, **fixtures)

        patience.run(main)

    return run


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """The session's server. Tests that hurt a server start one of their own."""
    with a_server() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def open_ledger(valkey: ValkeyServer, namespace: str) -> Callable[..., object]:
    """Opens the test's ledger as one run sees it: ``async with open_ledger("run-a") as ledger``."""

    @asynccontextmanager
    async def opened(run: str = "run-a", **options: object) -> AsyncIterator[Ledger]:
        server = Server(valkey.url, valkey.url, {}, timeout=PATIENCE)
        try:
            yield Ledger(server, namespace, run, **{"retention": 3600.0, **options})
        finally:
            await server.close()

    return opened


@dataclass
class World:
    """A site, a ledger and a place for files: all that a test of crawls needs."""

    url: str
    namespace: str
    directory: Path
    sites: list[Site] = field(default_factory=list)
    crawls: list[Crawl] = field(default_factory=list)
    reactor: bool = True

    def site(self, pages: dict[int, list[dict[str, Any]]]) -> Site:
        """Serves pages for the length of the test."""
        self.sites.append(Site(pages))
        return self.sites[-1]

    def start(
        self,
        site: Site,
        *,
        seed: int | None = None,
        pages: Iterable[int] | None = None,
        **changes: Any,
    ) -> Crawl:
        """Starts a crawl of all pages of a site, or of some, into the test's one table.

        Upper-case changes are settings, lower-case ones are options of spider and pipelines.
        """
        given = {"VALKEY_DEDUP_URL": self.url, "VALKEY_DEDUP_NAMESPACE": self.namespace}
        if not self.reactor:
            given["TWISTED_REACTOR_ENABLED"] = False
        given |= {name: value for name, value in changes.items() if name.isupper()}
        options = {"database": str(self.directory / "posts.db")}
        options |= {name: value for name, value in changes.items() if not name.isupper()}
        directory = self.directory / f"crawl-{len(self.crawls)}"
        numbers = sorted(site.pages if pages is None else pages)
        job = Job(site.url, numbers, str(directory), given, options, seed)
        self.crawls.append(start(job))
        return self.crawls[-1]

    def crawl(self, site: Site, **changes: Any) -> dict[str, Any]:
        """Runs a crawl to its end; returns its stats."""
        return self.start(site, **changes).wait()

    @property
    def stored(self) -> Counter[str]:
        """How often each post is stored."""
        return stored(self.crawls[0].job)

    @property
    def log(self) -> str:
        """The log of the newest crawl."""
        return self.crawls[-1].log

    def remembered(self, posts: Iterable[int | str], kind: str = "Post") -> set[str]:
        """Which of the posts the ledger remembers."""
        return remembered(self.url, self.namespace, posts, kind)

    @property
    def claims(self) -> dict[bytes, bytes]:
        """The open claims of all runs."""
        return claims(self.url, self.namespace)

    def assert_settled(self) -> None:
        """No run that ended well leaves a claim or a heartbeat."""
        assert claims(self.url, self.namespace) == {}
        assert heartbeats(self.url, self.namespace) == 0

    def close(self) -> None:
        """Ends what is left running."""
        for crawl in self.crawls:
            if crawl.process.is_alive():
                crawl.kill()
        for site in self.sites:
            site.close()


@pytest.fixture
def world(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    """Crawls with the session's server."""
    made = World(valkey.url, namespace, tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["reactor", "no reactor"])
def either_world(world: World, request: pytest.FixtureRequest) -> World:
    """Crawls under the asyncio reactor, and without a Twisted reactor where Scrapy can do that."""
    if request.param == "no reactor":
        if SCRAPY_VERSION < (2, 15):
            pytest.skip("Scrapy runs without a reactor from 2.15 on")
        world.reactor = False
    return world


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """The warnings so far."""
    with caplog.at_level(logging.DEBUG):
        yield lambda: [record.getMessage() for record in caplog.records]


# -- what a first day is told ----------------------------------------------------------------------
