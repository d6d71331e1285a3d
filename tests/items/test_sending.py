"""The plugin sends the signal of an item's end as Scrapy does, and passes items on as it does."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from scrapy import signals
from scrapy.signalmanager import SignalManager
from scrapy.utils.signal import _send_catch_log_asyncio

from scrapy_valkey_dedup.items.sending import send, sends_as_scrapy
from tests.support.crawls.world import World
from tests.support.servers.site import pages_of
from tests.support.spiders.pipelines import PIPELINES

NAMED = {"item": {"post_id": 1}, "response": None, "spider": "the spider"}
_set_by = ContextVar("set_by", default="nobody")


class Receivers:
    """Receivers of every kind; each says what it was given, and sees no other's context."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def note(self, name: str, *given: Any) -> str:
        self.calls.append((name, _set_by.get(), *given))
        _set_by.set(name)
        return name

    def plain(self, item, spider):
        return self.note("plain", item, spider)

    def of_nothing(self):
        self.note("of_nothing")

    def of_all(self, **named):
        return self.note("of_all", sorted(named))

    def of_defaults(self, sender, signal, other="default", *rest, response="default"):
        return self.note("of_defaults", signal, other, response)

    def fails(self, item):
        self.note("fails")
        raise ValueError("a fault of the receiver's")

    def is_cancelled(self):
        self.note("is_cancelled")
        raise asyncio.CancelledError

    def returns_a_future(self):
        self.note("returns_a_future")
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "found")
        return future

    async def awaits(self, item):
        self.note("awaits")
        await asyncio.sleep(0)
        return self.note("awaited")

    async def fails_later(self):
        await asyncio.sleep(0)
        raise ValueError("a later fault")

    def wrong(self, item, *, needed):
        raise AssertionError("it was not given what it needs")

    def __call__(self, item):
        return self.note("called", item)


KINDS: dict[str, Callable[[Receivers], list[Any]]] = {
    "none": lambda _: [],
    "plain": lambda of: [of.plain, of.of_nothing, of.of_all, of.of_defaults],
    "functions": lambda of: [lambda item: of.note("lambda", item), functools.wraps(of.plain)(
        lambda **named: of.note("wrapped", sorted(named))
    )],
    "callable": lambda of: [of.plain, of, of.of_nothing],
    "partial": lambda of: [of.plain, partial(of.plain, spider="another"), of.of_nothing],
    "failing": lambda of: [of.plain, of.fails, of.wrong, of.is_cancelled, of.of_nothing],
    "awaiting": lambda of: [of.plain, of.awaits, of.of_nothing, of.fails_later, of.fails],
    "future": lambda of: [of.plain, of.returns_a_future, of.of_all, of.awaits],
}  # fmt: skip


def sent(by: str, kind: str, caplog: pytest.LogCaptureFixture) -> list[Any]:
    """What comes of one signal: calls, results, log, and what the sender's context has then."""
    caplog.clear()
    of, manager = Receivers(), SignalManager(object())
    receivers = KINDS[kind](of)
    for receiver in receivers:
        manager.connect(receiver, signals.item_scraped)

    async def run() -> list[Any]:
        if by == "plugin":
            return await send(manager, signals.item_scraped, **NAMED)
        # Without a reactor Scrapy 2.14 itself would not know that asyncio runs.
        return await _send_catch_log_asyncio(signals.item_scraped, manager.sender, **NAMED)

    results = [
        (receivers.index(found[0]), _shown(found[1])) if isinstance(found, tuple) else type(found)
        for found in asyncio.run(run())
    ]
    log = [
        (each.name, each.levelname, each.msg, each.spider, _shown(each.exc_info[1]))
        for each in caplog.records
    ]
    return [of.calls, results, log, _set_by.get()]


def _shown(result: object) -> str:
    """Without the addresses of objects."""
    return re.sub(r"0x[0-9a-f]+", "", repr(result))


@pytest.mark.parametrize("kind", KINDS)
def test_receivers_get_what_scrapy_gives(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Order, arguments, contexts, results and log are Scrapy's, for receivers of each kind."""
    caplog.set_level(logging.ERROR)
    assert sent("plugin", kind, caplog) == sent("Scrapy", kind, caplog)


def test_no_task_is_made_for_plain_receivers() -> None:
    """Receivers that await nothing are called before the event loop turns."""
    of, manager = Receivers(), SignalManager(object())
    manager.connect(of.plain, signals.item_scraped)
    coroutine = send(manager, signals.item_scraped, **NAMED)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value == [(of.plain, "plain")]


def test_another_manager_sends_itself() -> None:
    """A signal manager that sends in its own way goes on to do so."""

    class Other(SignalManager):
        async def send_catch_log_async(self, signal, **named):
            return []

    class Extended(SignalManager):
        pass

    assert (sends_as_scrapy(Other()), sends_as_scrapy(Extended())) == (False, True)


def test_pipelines_of_every_kind(world: World) -> None:
    """Pipelines get and give what they do with Scrapy's item processor, in the same order."""
    kinds = ["WithSpider", "GivesFuture", "GivesDeferred", "CountsTexts"]
    pipelines = {f"{PIPELINES}.{kind}": 200 + place for place, kind in enumerate(kinds)}
    found = []
    for processor in ("scrapy_valkey_dedup.DedupItemProcessor", f"{PIPELINES}.OwnProcessor"):
        changes = {"ITEM_PROCESSOR": processor, "VALKEY_DEDUP_NAMESPACE": processor}
        site = world.site(pages_of(range(2)))
        stats = world.crawl(site, ITEM_PIPELINES=pipelines, **changes)
        texts = {name: times for name, times in stats.items() if name.startswith("text/")}
        found.append((texts, world.log.count("returned a Deferred")))
    assert found[0] == found[1]
    assert found[0][1] == 1
    assert sum(found[0][0].values()) == 2
