"""A real Valkey for the tests: one server for the session, a namespace for each test."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from functools import cache
from itertools import count
from multiprocessing.util import Finalize
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from scrapy import version_info

from bench.servers import ValkeyServer

# Before any of it is imported: helpers' assertions show values, too.
pytest.register_assert_rewrite(
    *(
        f"tests.support.{room}"
        for room in ("clocked", "crawls", "meanwhile", "outages", "processes", "servers")
    )
)

from tests.support.crawls.world import World
from tests.support.ledgers import ledger_at
from tests.support.once import ONCE_FILES, is_once
from tests.support.order import long_first
from tests.support.processes import forkserver
from tests.support.servers.standin import a_server

SCRAPY_VERSION = tuple(version_info[:2])
_numbers = count(10_000)

# No example fails for being slow: on a busy machine any may be.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Gives the session, its workers and all processes of theirs one folder for what is temporary.

    What is killed leaves files there, and kills are what many tests are about. ``tmp_path`` stays
    where pytest keeps it, to be looked at.
    """
    if hasattr(config, "workerinput"):
        forkserver.take_shared()
        return
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="svd-")
    forkserver.share(with_children=bool(config.getoption("numprocesses", None)))
    # After multiprocessing has removed its own folder, which it does at the priority -100.
    Finalize(None, shutil.rmtree, (tempfile.tempdir, True), exitpriority=-1000)


@pytest.hookimpl(tryfirst=True)
def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of which nothing would run are not even imported."""
    is_left_out = collection_path.name in ONCE_FILES and "not once" in config.option.markexpr
    return True if is_left_out else None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Marks what is the same on every stack; orders what is left."""
    for item in items:
        if is_once(item):
            item.add_marker("once")
        if item.get_closest_marker("slow") and not names_slow(item.path):
            raise pytest.UsageError(f"{item.path}: `make test-slow` looks for mark.slow in files")
    yield
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if item.get_closest_marker("long")]
    items[:] = long_first(items, long, workers)


@cache
def names_slow(path: Path) -> bool:
    """Whether `make test-slow` finds the file."""
    return "mark.slow" in path.read_text("utf-8")


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """The session's server. Tests that hurt a server start another."""
    with a_server() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses, nor one that begins with its name."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def open_ledger(valkey: ValkeyServer, namespace: str) -> Callable[..., object]:
    """Opens the test's ledger as one run sees it: ``async with open_ledger("run-a") as ledger``."""

    def opened(run: str = "run-a", **options: object) -> object:
        return ledger_at(valkey.url, namespace, run, **{"retention": 3600.0, **options})

    return opened


@pytest.fixture
def world(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    """Crawls with the session's server."""
    made = World(valkey.url, namespace, tmp_path)
    yield made
    made.close()


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[World]:
    """Crawls with a server of the test's own, ``fragile.server``, which it may hurt."""
    with a_server(persistent=True) as server:
        made = World(server.url, "fragile", tmp_path, server=server)
        yield made
        made.close()


@pytest.fixture(params=["reactor", "no reactor"])
def reactor(request: pytest.FixtureRequest) -> bool:
    """Both ways to run Scrapy: the asyncio reactor, and none, where Scrapy can do that."""
    if request.param == "no reactor" and SCRAPY_VERSION < (2, 15):
        pytest.skip("Scrapy runs without a reactor from 2.15 on")
    return request.param == "reactor"


@pytest.fixture
def either_world(world: World, reactor: bool) -> World:  # noqa: FBT001 (a fixture)
    """Crawls in both ways to run Scrapy."""
    world.reactor = reactor
    return world


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """The warnings so far."""
    with caplog.at_level(logging.DEBUG):
        yield lambda: [record.getMessage() for record in caplog.records]
