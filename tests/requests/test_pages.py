"""The laws of pages, outputs and readings, where a crawl would be too coarse to show them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy import Request
from scrapy.http import Response

from bench.servers import ValkeyServer, free_port
from bench.shared import key
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, PARTITIONS, namespace_tag
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Key, Verdict
from scrapy_valkey_dedup.requests.callback_output import CallbackOutput, CallbackOutputs
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.requests.timelines.memory import Timelines
from scrapy_valkey_dedup.requests.timelines.reading import Reading
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.item_in_progress import ItemInProgress, ItemOutcome
from scrapy_valkey_dedup.session.outage import PASS, Outage
from scrapy_valkey_dedup.stats import Stats
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.clocked import Clock, clocked
from tests.support.patience import in_loop

DAY = 86400.0


class Settled:
    """Claims that note how they were settled."""

    def __init__(self) -> None:
        self.how: list[bool] = []

    def claim(self) -> Claim:
        """A new claim."""
        return Claim(b"", lambda _, stored: self.how.append(stored))


# -- pages -----------------------------------------------------------------------------------------


@given(st.data(), st.booleans())
def test_a_page_settles_once_and_when_all_is_known(
    data: st.DataObject,
    only_if_stored: bool,  # noqa: FBT001 (drawn)
) -> None:
    """All claims of a page are settled in one moment: after its last attempt and its last item.

    They are confirmed if nothing failed and, in mode "stored", all of its items are stored.
    """
    settled, told = Settled(), list[bool]()
    page = Page(settled.claim(), only_if_stored=only_if_stored)
    page.watch(told.append)
    attempts, waiting = 1, list[Claim]()
    failed, items, all_stored = False, 0, True
    while attempts or waiting:
        assert settled.how == told == []
        moves = ["end"] * attempts + ["settle"] * len(waiting) + ["attempt"] * (0 < attempts < 3)
        moves += ["item", "scraped", "redirect"] * (attempts > 0)
        move = data.draw(st.sampled_from(moves))
        outcome = data.draw(st.booleans())
        if move == "attempt":
            page.begin_attempt()
            attempts += 1
        elif move == "redirect":
            page.claims.append(settled.claim())
        elif move == "item":
            bad = data.draw(st.booleans())
            page.add_item(stored=outcome, failed=bad)
            items, all_stored, failed = items + 1, all_stored and outcome, failed or bad
        elif move == "scraped":
            waiting.append(Claim(b"", lambda *_: None))
            page.await_claim(waiting[-1])
        elif move == "end":
            failed |= not outcome  # before the call, which may be the last
            attempts -= 1
            page.end_attempt(failed=not outcome)
        else:
            claim = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            items, all_stored, failed = items + 1, all_stored and outcome, failed or not outcome
            claim.confirm() if outcome else claim.release()
    done = not failed and (not only_if_stored or (items > 0 and all_stored))
    assert settled.how == [done] * len(page.claims)
    assert told == [not failed]
    page.give_up()
    page.end_attempt(failed=True)
    assert settled.how == [done] * len(page.claims)
    assert told == [not failed]


REDIRECTS = [
    # Its items (stored or not, with an identity or not), and whether it is done.
    ([], False),
    ([(True, True)], True),
    ([(True, False)], False),
    ([(False, True)], False),
    ([(False, True), (True, True)], True),
]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("items", "done"), REDIRECTS)
def test_a_redirect_needs_a_post(
    items: list[tuple[bool, bool]],
    done: bool,  # noqa: FBT001 (a case)
    alone: bool,  # noqa: FBT001 (a case)
) -> None:
    """A page that redirects is done with a stored post, if no other redirects there.

    The target is done like any page, and so is a page that redirects to itself.
    """
    for target, expected in ((b"there", [done and alone, True]), (b"here", [True, done and alone])):
        settled: dict[bytes, bool] = {}
        claims = [
            Claim(key, lambda claim, stored, settled=settled: settled.update({claim.key: stored}))
            for key in (b"here", b"there")
        ]
        page = Page(*claims)
        page.target, page.shares_target = target, not alone
        for stored, is_post in items:
            page.add_item(stored=stored, failed=False, is_post=is_post)
        page.end_attempt(failed=False)
        assert settled == dict(zip((b"here", b"there"), expected, strict=True))


def test_a_page_that_is_given_up_is_released() -> None:
    """A page whose request a middleware has swallowed is released, and its readings fail."""
    settled, told = Settled(), list[bool]()
    page = Page(settled.claim())
    page.watch(told.append)
    page.begin_attempt()
    page.give_up()
    assert settled.how == told == [False]
    page.end_attempt(failed=False)  # it comes after all
    assert settled.how == told == [False]


# -- what callbacks yield --------------------------------------------------------------------------


WAYS = [(verdict, outcome) for verdict in [None, *Verdict] for outcome in ItemOutcome]
"""Every verdict on an item, with every outcome; without a verdict it has no identity."""


def item_of(verdict: Verdict | None, outcome: ItemOutcome) -> ItemInProgress:
    """An item with this verdict and outcome."""
    item = ItemInProgress()
    item.verdict = verdict
    item.key = None if verdict is None else b"key"
    if verdict is Verdict.NEW:
        item.claim = Claim(b"key", lambda *_: None)
        if outcome is not ItemOutcome.SCRAPED:
            item.claim.release()  # as the pipeline does
    return item


@pytest.mark.parametrize(("verdict", "outcome"), WAYS)
def test_what_sends_a_next_page(verdict: Verdict | None, outcome: ItemOutcome) -> None:
    """Claimed, in flight and failed count as new; a duplicate does not; no identity is no news.

    Waiting requests are sent at once when something new comes, and once.
    """
    sent: list[Request] = []
    output = CallbackOutput(Page(), sent.append)
    request = Request("https://example.test/older")
    output.waiting.append(request)
    for _ in range(2):
        output.add_item(outcome, item_of(verdict, outcome))
    is_new = verdict in (Verdict.NEW, Verdict.HELD) or outcome is ItemOutcome.FAILED
    assert sent == [request] * is_new
    assert output.new == is_new
    assert output.has_no_post == (verdict is None)
    assert output.posts == [b"key", b"key"] * (verdict is not None)


@pytest.mark.parametrize("mode", ["job", "stored"])
@pytest.mark.parametrize(("verdict", "outcome"), WAYS)
def test_what_keeps_a_page_from_being_done(
    verdict: Verdict | None, outcome: ItemOutcome, mode: str
) -> None:
    """Failed and in flight always do; dropped does in mode "stored", except for duplicates."""
    settled = Settled()
    output = CallbackOutput(Page(settled.claim(), only_if_stored=mode == "stored"), lambda _: None)
    item = item_of(verdict, outcome)
    output.add_item(outcome, item)
    output.page.end_attempt(failed=False)
    assert (settled.how == []) == item.claim.is_open
    item.claim.confirm()
    bad = outcome is ItemOutcome.FAILED or verdict is Verdict.HELD
    dropped = outcome is ItemOutcome.DROPPED and verdict is not Verdict.SEEN
    assert settled.how == [not bad and not (mode == "stored" and dropped)]


def test_a_duplicate_of_a_twin_waits_for_it() -> None:
    """A duplicate of a post that this run has accepted is stored when that one is."""
    for stored in (True, False):
        settled, twin = Settled(), Claim(b"key", lambda *_: None)
        twin.accepted = True
        item = ItemInProgress()
        item.key, item.verdict, item.duplicate_of = b"key", Verdict.SEEN, twin
        pages = [Page(settled.claim(), only_if_stored=True) for _ in range(3)]
        for page in pages:
            CallbackOutput(page, lambda _: None).add_item(ItemOutcome.DROPPED, item)
            page.end_attempt(failed=False)
        assert settled.how == []
        twin.confirm() if stored else twin.release()
        assert settled.how == [stored] * 3


def test_items_find_the_output_they_belong_to() -> None:
    """By their response and no other, until it is scraped; an item may come from none."""
    outputs, page = CallbackOutputs(), Page()
    one, other = Response("https://example.test/"), Response("https://example.test/")
    output = CallbackOutput(page, lambda _: None)
    outputs.begin(one, output)
    for response in (other, None, "a failure", one):
        outputs.add_item(response, ItemOutcome.SCRAPED, ItemInProgress())
    assert output.others == 1
    outputs.end(one)
    outputs.add_item(one, ItemOutcome.SCRAPED, ItemInProgress())
    assert output.others == 1


# -- readings --------------------------------------------------------------------------------------


def test_a_reading_is_complete_when_every_page_is_done() -> None:
    """Only when the last requested page is done, and never with a page that failed."""
    for fails in (None, 0, 1, 2):
        reading = Reading("a")
        reading.expect_page()
        ended = []
        for page in range(3):
            if page < 2:
                reading.expect_page()
            ended.append(reading.page_done(well=page != fails))
        assert ended == [False, False, fails is None]
        assert reading.ended


def keys(numbers: range) -> list[Key]:
    """The keys of posts."""
    return [key(number) for number in numbers]


@asynccontextmanager
async def opened(
    url: str, namespace: str, retention: float | None = DAY
) -> AsyncIterator[tuple[Timelines, Ledger]]:
    """Timelines as one run sees them."""
    server = Client(url, url, {}, timeout=2)
    ledger = Ledger(
        server, namespace, "run-a", retention=retention, refresh=False, shelf="timelines"
    )
    stats: dict[str, int] = {}

    class Collector:
        def inc_value(self, key: str, count: int = 1) -> None:
            stats[key] = stats.get(key, 0) + count

        def get_value(self, key: str, default: int = 0) -> int:
            return stats.get(key, default)

        def set_value(self, key: str, value: int) -> None:
            stats[key] = value

    async def probe() -> None:
        await ledger.open()

    outage = Outage(
        Stats(Collector()),  # type: ignore[arg-type]
        PASS,
        pause_limit=None,
        calm=1,
        probe=probe,
        close_spider=print,
        is_closing=lambda: False,
    )
    try:
        yield Timelines(ledger, outage), ledger
    finally:
        await outage.close()
        await server.close()


async def read(
    timelines: Timelines, shown: list[Key], size: int, fate: str = "well", doomed: int = 0
) -> list[Key]:
    """Reads a timeline as ``NextPages`` does; returns what is stored.

    ``fate``: when it comes to the page ``doomed``, the reading is "killed", or that page "fails".
    """
    reading, stored = Reading("a"), list[Key]()
    reading.expect_page()
    for number, start in enumerate(range(0, len(shown), size)):
        page = shown[start : start + size]
        if fate == "killed" and number == doomed:
            return stored
        well = fate != "fails" or number != doomed
        stored += page if well else []
        reading.meet(page)
        more = start + size < len(shown) and not await timelines.all_met("a", page)
        if more:
            reading.expect_page()
        if reading.page_done(well=well):
            timelines.remember(reading)
        if not more:
            break
    await timelines.flush(10)
    return stored


@pytest.mark.parametrize("seed", range(20))
@in_loop
async def test_a_whole_reading_leaves_no_gap(
    valkey: ValkeyServer, namespace: str, seed: int
) -> None:
    """After a complete reading all posts are stored, whatever happened in earlier readings."""
    chance = random.Random(seed)
    async with opened(valkey.url, namespace) as (timelines, _):
        count, stored = 1, set[Key]()
        for _ in range(8):
            count += chance.choice([0, 3, 30, 300])
            shown = keys(range(count))[::-1]
            size = chance.choice([1, 7, 40]) if count < 1000 else chance.choice([40, 1500])
            fate = chance.choice(["well", "killed", "fails"])
            stored |= set(await read(timelines, shown, size, fate, chance.randrange(4)))
            if fate == "well":
                assert stored >= set(shown)


async def pages_read(timelines: Timelines, count: int, size: int) -> float:
    """How many pages a reading of so many posts takes."""
    return len(await read(timelines, keys(range(count))[::-1], size)) / size


@pytest.mark.parametrize("size", [1, 40, 1500])
@in_loop
async def test_a_reading_stops_where_the_last_one_began(
    valkey: ValkeyServer, namespace: str, size: int
) -> None:
    """One page without news is read, and no second, whatever the size of pages."""
    async with opened(valkey.url, namespace) as (timelines, _):
        assert await pages_read(timelines, 6 * size, size) == 6
        assert await pages_read(timelines, 6 * size, size) == 1
        assert await pages_read(timelines, 9 * size, size) == 4


@in_loop
async def test_names_have_nothing_in_common(valkey: ValkeyServer, namespace: str) -> None:
    """Posts that were met in one timeline were not met in another."""
    async with opened(valkey.url, namespace) as (timelines, ledger):
        reading = Reading("spider\na")
        reading.meet(keys(range(3)))
        timelines.remember(reading)
        await timelines.flush(10)
        assert await timelines.all_met("spider\na", keys(range(3)))
        assert not await timelines.all_met("spider\na", keys(range(4)))
        for name in ("spider\nA", "spider\n", "other\na", "a", "", "\udc80"):
            assert not await timelines.all_met(name, keys(range(1)))
        assert await ledger.seen_many(keys(range(3))) == [False] * 3


@in_loop
async def test_a_slow_timeline_is_not_forgotten(valkey: ValkeyServer, namespace: str) -> None:
    """Posts that a reading meets again are remembered for the retention from then on."""
    with valkey.client() as raw:
        async with opened(valkey.url, namespace, retention=10 * DAY) as (timelines, ledger):
            clocked(ledger)
            clock = Clock(raw, namespace, range(PARTITIONS))
            shelf = f"{namespace_tag(namespace)}+timelines"
            clock._names = [f"vd1:{{{shelf}:{name}}}:clock" for name in PARTITION_TAGS]
            clock.set(clock.now)
            assert await pages_read(timelines, 100, 10) == 10
            for _ in range(6):
                clock.pass_(7 * DAY)
                assert await pages_read(timelines, 100, 10) == 1
            clock.pass_(21 * DAY)
            assert await pages_read(timelines, 100, 10) == 10


@in_loop
async def test_without_valkey_nothing_was_met(namespace: str) -> None:
    """Without an answer nothing was met, and a reading that cannot be delivered is given up."""
    url = f"valkey://127.0.0.1:{free_port()}"
    async with opened(url, namespace) as (timelines, _):
        assert await pages_read(timelines, 100, 10) == 10
        assert await pages_read(timelines, 100, 10) == 10
