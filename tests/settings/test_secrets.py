"""Secrets appear nowhere: not in a log at any level, a stat, a repr, a message or a traceback."""

from __future__ import annotations

import json
import logging
import pprint
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scrapy.settings import Settings

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError, SettingsError
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.crawls.world import World
from tests.support.patience import PATIENCE, in_loop
from tests.support.runs import new_session
from tests.support.servers.site import pages_of

SECRET = "hunter2-with@specials/and%"
WRITTEN = "hunter2-with%40specials%2Fand%25"
TRACES = ("hunter2", "specials", "and%")


def assert_hidden(*shown: object) -> None:
    """No trace of the secret in what a user may see."""
    for text in map(str, shown):
        for trace in TRACES:
            assert trace not in text, text[max(text.find(trace) - 200, 0) :][:500]


@pytest.fixture(scope="module")
def locked() -> Iterator[ValkeyServer]:
    """A server with a password."""
    with ValkeyServer(port=free_port(), password=SECRET) as server:
        yield server


def ways(port: int | None) -> dict[str, dict[str, Any]]:
    """All ways to give a password, with the one of the server at a port."""
    place = f"127.0.0.1:{port}"
    return {
        "in the URL": {"VALKEY_DEDUP_URL": f"valkey://:{WRITTEN}@{place}"},
        "behind the URL": {"VALKEY_DEDUP_URL": f"valkey://{place}?password={WRITTEN}"},
        "with a user": {"VALKEY_DEDUP_URL": f"valkey://default:{WRITTEN}@{place}"},
        "in the options": {
            "VALKEY_DEDUP_URL": f"valkey://{place}",
            "VALKEY_DEDUP_CLIENT_OPTIONS": {"password": SECRET},
        },
        "as JSON": {
            "VALKEY_DEDUP_URL": f"valkey://{place}",
            "VALKEY_DEDUP_CLIENT_OPTIONS": json.dumps({"password": SECRET}),
        },
    }


WAYS = tuple(ways(0))
PLACES: dict[str, Callable[[ValkeyServer], int | None]] = {
    "right": lambda server: server.port,
    "nobody": lambda _: free_port(),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", ["in the URL", "in the options"])
def test_a_crawl_tells_no_secret(
    locked: ValkeyServer, tmp_path: Path, way: str, place: str
) -> None:
    """Neither with a server nor without one, at Scrapy's own log level, DEBUG."""
    world = World("", "secrets", tmp_path)
    try:
        stats = world.crawl(
            world.site(pages_of([*range(20), *range(20)])),
            **ways(PLACES[place](locked))[way],
            LOG_LEVEL="DEBUG",
            VALKEY_DEDUP_TIMEOUT=0.3,
            VALKEY_DEDUP_NAMESPACE=tmp_path.name,
        )
    finally:
        world.close()
    assert "127.0.0.1" in world.log
    if place == "right":
        assert stats["dedup/items/confirmed"] == 20
    assert_hidden(world.log, stats)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"hunter2" not in file.read_bytes()


@pytest.mark.parametrize("way", ["behind the URL", "as JSON"])
def test_a_refused_crawl_tells_no_secret(tmp_path: Path, way: str) -> None:
    """A password that is not the server's is not told either."""
    with ValkeyServer(port=free_port(), password="another") as server:
        world = World("", "secrets", tmp_path)
        try:
            crawl = world.start(
                world.site(pages_of(range(20))), **ways(server.port)[way], LOG_LEVEL="DEBUG"
            )
            crawl.process.join(PATIENCE)
            assert "refuses" in crawl.log
            assert world.stored == {}
            assert_hidden(crawl.log)
        finally:
            world.close()


def everything_in(session: Session) -> list[Any]:
    """The session and all objects that belong to it, its connections among them."""
    found: dict[int, Any] = {}

    def look(value: Any) -> None:
        if id(value) in found or isinstance(value, str | bytes | int | float | type(None)):
            return
        found[id(value)] = value
        if isinstance(value, dict):
            return
        for part in value if isinstance(value, list | tuple | set) else vars_of(value):
            look(part)

    look(session)
    return list(found.values())


def vars_of(value: Any) -> list[Any]:
    """What an object of this package, or of valkey-py, refers to."""
    if not type(value).__module__.startswith(("scrapy_valkey_dedup", "valkey")):
        return []
    slots = [
        getattr(value, name) for name in getattr(value, "__slots__", ()) if hasattr(value, name)
    ]
    return [*getattr(value, "__dict__", {}).values(), *slots]


@pytest.mark.parametrize("way", WAYS)
@in_loop
async def test_no_object_shows_a_secret(
    locked: ValkeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Nor does the repr of anything: settings, session, server, routes, pools, connections."""
    caplog.set_level(logging.DEBUG)
    given = {**ways(locked.port)[way], "VALKEY_DEDUP_DATA_DIR": str(tmp_path)}
    settings = DedupSettings.parse(Settings(given), "spider")
    assert_hidden(repr(settings), pprint.pformat(settings))
    session = new_session(given)
    await session.open()
    claim = await session.claim(b"0" * 16)
    objects = everything_in(session)
    names = {type(value).__name__ for value in objects}
    assert {"Session", "DedupSettings", "Client", "NodeConnections", "Connection"} <= names
    for value in objects:
        if type(value).__module__.startswith(("scrapy_valkey_dedup", "valkey")):
            assert_hidden(repr(value))
    assert_hidden(repr(claim))
    await session.close()
    assert_hidden(caplog.text)


@pytest.mark.parametrize("way", WAYS)
@in_loop
async def test_no_error_tells_a_secret(way: str) -> None:
    """Whatever fails, the traceback of what is raised, with all that caused it, is clean."""

    async def failure(settings: DedupSettings) -> None:
        server = Client(settings.url or "", "valkey://place", settings.client_options, 0.2)
        try:
            ledger = Ledger(server, "secrets", "run", retention=60.0)
            with pytest.raises(DedupError) as caught:
                await ledger.open()
        finally:
            await server.close()
        error = caught.value
        assert_hidden(*traceback.format_exception(type(error), error, error.__traceback__))
        assert_hidden(repr(error), error.args)

    with ValkeyServer(port=free_port(), password="another") as server:
        await failure(DedupSettings.parse(Settings(ways(server.port)[way]), "spider"))
    await failure(DedupSettings.parse(Settings(ways(free_port())[way]), "spider"))


WRONG: list[dict[str, Any]] = [
    {"VALKEY_DEDUP_URL": f"valkey://:{SECRET}@host:6379"},
    {"VALKEY_DEDUP_URL": f"valkey://user:{SECRET}@host"},
    {"VALKEY_DEDUP_URL": f"http://:{WRITTEN}@host"},
    {"VALKEY_DEDUP_URL": f"valkey://:{WRITTEN}@host:port"},
    {"VALKEY_DEDUP_URL": f"valkey://:{WRITTEN}@[host"},
    {"VALKEY_DEDUP_URL": f"valkey:/:{WRITTEN}@host"},
    {"VALKEY_DEDUP_URL": f"{WRITTEN}@host"},
    {"VALKEY_DEDUP_URL": [f"valkey://:{WRITTEN}@host"]},
    {"VALKEY_DEDUP_URL": f"valkey://:{WRITTEN}@one,two"},
    {"VALKEY_DEDUP_URL": f"valkey+cluster://:{WRITTEN}@one/1"},
    {"VALKEY_DEDUP_URL": f"valkey+sentinel://:{WRITTEN}@one"},
    {"VALKEY_DEDUP_URL": f"valkey://host?password={WRITTEN}&protocol=3"},
    {"VALKEY_DEDUP_URL": f"valkey://host?passwort={WRITTEN}"},
    {"VALKEY_DEDUP_URI": f"valkey://:{WRITTEN}@host"},
    {"VALKEY_DEDUP_PASSWORD": SECRET},
    {"VALKEY_DEDUP_CLIENT_OPTIONS": {"password": SECRET, "protocol": 3}},
    {"VALKEY_DEDUP_CLIENT_OPTIONS": {"passwort": SECRET}},
    {"VALKEY_DEDUP_CLIENT_OPTIONS": '{"password": "' + SECRET},
    {"VALKEY_DEDUP_CLIENT_OPTIONS": [SECRET]},
    {"VALKEY_DEDUP_CLIENT_OPTION": {"password": SECRET}},
]


@pytest.mark.parametrize("given", WRONG, ids=map(str, range(len(WRONG))))
def test_no_message_about_settings_tells_a_secret(given: dict[str, Any]) -> None:
    """What cannot be used is named without it, whether settings or valkey-py find the fault."""
    shown: list[object] = []
    with suppress(SettingsError, LedgerRefusedError):
        try:
            found = DedupSettings.parse(Settings(given), "spider")
            shown.append(found)
            Client(found.url or "valkey://host", "valkey://place", found.client_options, 1)
        except DedupError as error:
            shown += traceback.format_exception(type(error), error, error.__traceback__)
            raise
        raise AssertionError("it was accepted")
    # A traceback quotes lines of code, here the very lines that hold the examples.
    assert_hidden(*(text for text in shown if "parametrize" not in str(text)))
