"""A run's session on a real server: twins, settlements under way, heartbeat, renewal, the end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from scrapy.utils.test import get_crawler

from bench.servers import ValkeyServer
from scrapy_valkey_dedup import DedupPipeline
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.model import Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims
from scrapy_valkey_dedup.session.item_in_progress import ItemInProgress, ItemOutcome
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.stats import REQUESTS
from tests.conftest import SCRAPY_VERSION
from tests.support import patience
from tests.support.crawls.world import World
from tests.support.ledgers import claims, heartbeats
from tests.support.patience import until
from tests.support.runs import new_session
from tests.support.servers.site import pages_of
from tests.support.servers.standin import not_on_serverless
from tests.support.spiders.pipelines import PIPELINES

KEYS = [bytes([number]) * 16 for number in range(100)]
OpenSession = Callable[..., Any]


def others() -> Iterator[bytes]:
    """More posts than a run knows by itself where Valkey knows them, too."""
    return (digest("Post", [str(post)]) for post in range(120_000))


@pytest.fixture
def open_session(valkey: ValkeyServer, namespace: str) -> OpenSession:
    """Opens sessions of the test's namespace: each is a run."""

    @asynccontextmanager
    async def opened(
        prepare: Callable[[Session], None] = lambda _: None, **changes: Any
    ) -> AsyncIterator[Session]:
        settings = {
            "VALKEY_DEDUP_URL": valkey.url,
            "VALKEY_DEDUP_NAMESPACE": namespace,
            **{f"VALKEY_DEDUP_{name.upper()}": value for name, value in changes.items()},
        }
        session = new_session(settings)
        prepare(session)
        await session.open()
        try:
            yield session
        finally:
            await session.close()

    return opened


def test_a_twin_right_behind_a_confirmation_is_a_duplicate(open_session: OpenSession) -> None:
    """A post that was stored this moment is known, though Valkey has not heard of it yet."""

    async def check() -> None:
        async with open_session() as session:
            for claim in await asyncio.gather(*map(session.claim, KEYS)):
                claim.confirm()
            assert set(await asyncio.gather(*map(session.claim, KEYS))) == {Verdict.SEEN}

    patience.run(check)


def test_a_twin_right_behind_a_release_gets_its_own_claim(
    open_session: OpenSession, valkey: ValkeyServer, namespace: str
) -> None:
    """A claim given back this moment is asked for anew, and the first one's end does not end it."""

    async def check() -> None:
        async with open_session() as session, open_session(wait=0.1) as other:
            for claim in await asyncio.gather(*map(session.claim, KEYS)):
                claim.release()
            again = await asyncio.gather(*map(session.claim, KEYS))
            assert {type(claim) for claim in again} == {Claim}
            await session.flush()
            assert set(await asyncio.gather(*map(other.claim, KEYS))) == {Verdict.HELD}
            for claim in again:
                claim.confirm()

    patience.run(check)
    assert claims(valkey.url, namespace) == {}
    assert heartbeats(valkey.url, namespace) == 0


def test_a_shelf_opens_and_ends_with_the_session(
    open_session: OpenSession, valkey: ValkeyServer, namespace: str
) -> None:
    """Whenever a component makes one, it knows none of the posts, and no claim on it is left."""
    early: list[Claims] = []
    late: list[Claims] = []

    def comes_early(session: Session) -> None:
        session.when_ledger_opens(
            lambda: early.append(session.shelf_claims("pages", REQUESTS, retention=60))
        )

    async def check() -> None:
        async with open_session(comes_early) as session:
            session.when_ledger_opens(
                lambda: late.append(session.shelf_claims("others", REQUESTS, retention=60))
            )
            (await session.claim(KEYS[0])).confirm()
            for claims_of in (*early, *late):
                assert isinstance(await claims_of.claim(KEYS[0]), Claim)
                (await claims_of.claim(KEYS[1])).confirm()
                assert await claims_of.claim(KEYS[1]) is Verdict.SEEN

    patience.run(check)
    assert len(early) == len(late) == 1
    assert valkey.ask("KEYS", f"vd1:{{{namespace}+others:*") != []
    assert valkey.ask("KEYS", f"vd1:{{{namespace}*:c:*") == []
    assert heartbeats(valkey.url, namespace) == 0


@pytest.mark.parametrize("reset", [False, True])
def test_a_post_is_a_duplicate_however_much_came_between(
    open_session: OpenSession,
    reset: bool,  # noqa: FBT001
) -> None:
    """Also after 120,000 others: Valkey knows it, and a run with RESET knows its own by itself."""

    async def check() -> None:
        async with open_session(reset=reset) as session:
            (await session.claim(KEYS[0])).confirm()
            await session.flush()
            for key in others():
                session._posts.settlements._known.add(key)
            assert await session.claim(KEYS[0]) is Verdict.SEEN

    patience.run(check)


def test_what_is_looked_up_is_known_however_much_came_between(open_session: OpenSession) -> None:
    """Where nothing remembers a run's posts, 120,000 others do not make it forget one."""

    async def check() -> None:
        async with open_session() as session:
            for key in (KEYS[0], *others()):
                assert await session.look_at_own(key) is Verdict.NEW
            assert await session.look_at_own(KEYS[0]) is Verdict.SEEN
            assert await session.look(KEYS[0]) is Verdict.SEEN
            (await session.claim(KEYS[0])).release()

    patience.run(check)


def test_everyone_who_asks_is_told_of_an_item_s_end(open_session: OpenSession) -> None:
    """With its response, and once each."""
    told: list[tuple[int, Any, ItemOutcome, ItemInProgress]] = []

    async def check() -> None:
        async with open_session() as session:
            for number in (1, 2):
                session.item_watchers.append(partial(lambda *end: told.append(end), number))
            session.item_ended("response", ItemOutcome.DROPPED, item)

    item = ItemInProgress()
    patience.run(check)
    assert told == [(number, "response", ItemOutcome.DROPPED, item) for number in (1, 2)]


def test_a_claim_settles_once(open_session: OpenSession) -> None:
    """What comes after the first settlement is ignored."""

    async def check() -> None:
        async with open_session() as session:
            claim = await session.claim(KEYS[0])
            assert claim.is_open
            claim.confirm()
            claim.release()
            claim.confirm()
            await session.flush()
            assert not claim.is_open
            assert await session.claim(KEYS[0]) is Verdict.SEEN

    patience.run(check)


def test_a_cancelled_question_leaves_no_claim(
    open_session: OpenSession, valkey: ValkeyServer, namespace: str
) -> None:
    """If processing an item is cancelled while it asks, nothing stays claimed."""

    async def check() -> None:
        async with open_session() as session:
            tasks = [asyncio.create_task(session.claim(key)) for key in KEYS]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            for claim in found[1::2]:
                claim.release()
            await session.flush()
            await until(lambda: asyncio.to_thread(lambda: not claims(valkey.url, namespace)))

    patience.run(check)


def test_long_claims_are_renewed(
    open_session: OpenSession, valkey: ValkeyServer, namespace: str
) -> None:
    """A claim outlives its lifetime in Valkey as long as its run holds it."""

    async def check() -> None:
        async with open_session(lease=1, wait=0.1) as session:
            session._posts._ledger._renew = (*session._posts._ledger._renew[:1], 60_000)
            session._access.shelves.ledger.claim_lifetime = 0.4
            claim = await session.claim(KEYS[0])
            with valkey.client() as raw:
                (name,) = raw.keys(f"vd1:{{{namespace}:*}}:c:*")
                raw.pexpire(name, 30_000)
                await until(lambda: asyncio.to_thread(lambda: raw.pttl(name) > 30_000))
            claim.confirm()

    patience.run(check)


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("pipeline", ["FailsToOpen", "FailsAtOnce", "ClosesAtOpen"])
def test_a_failed_start_leaves_nothing(world: World, pipeline: str, embedded: bool) -> None:  # noqa: FBT001
    """If another component fails to start, heartbeat and embedded server end with the crawl."""
    changes: dict[str, Any] = {"ITEM_PIPELINES": {f"{PIPELINES}.{pipeline}": 300}}
    ledger = world.directory / "ledger"
    if embedded:
        changes |= {"VALKEY_DEDUP_URL": None, "VALKEY_DEDUP_DATA_DIR": str(ledger)}
    world.crawl(world.site(pages_of(range(5))), **changes)
    assert "cannot open" in world.log
    assert not (ledger / "valkey.sock").exists()
    if not embedded:
        world.assert_settled()


@pytest.mark.long
@not_on_serverless("TIMEOUT is short for a front that shares the machine")
def test_a_long_flush_goes_on_while_it_makes_progress(
    open_session: OpenSession, valkey: ValkeyServer, namespace: str
) -> None:
    """What takes longer than the deadline of one question is delivered all the same."""
    keys = [digest("Post", [number]) for number in range(20_000)]

    async def check() -> None:
        async with open_session(timeout=2) as session:
            settlements = session._posts.settlements
            deliver = settlements._ledger.settle_many

            async def slowly(*news: Any) -> None:
                await asyncio.sleep(1.2)
                await deliver(*news)

            settlements._ledger.settle_many = slowly
            for claim in await asyncio.gather(*map(session.claim, keys)):
                claim.confirm()
            await session.flush()
            assert settlements.unconfirmed == 0

    patience.run(check)


@pytest.mark.skipif(SCRAPY_VERSION < (2, 15), reason="Scrapy 2.14 needs a reactor to be installed")
def test_sessions_end_with_their_crawlers() -> None:
    """A process that runs one crawl after another does not keep the crawlers."""
    settings = {"ITEM_PIPELINES": {"scrapy_valkey_dedup.DedupPipeline": 100}}

    async def build() -> weakref.ref[Any]:
        crawler = get_crawler(settings_dict=settings)
        DedupPipeline.from_crawler(crawler)
        return weakref.ref(crawler)

    kept = asyncio.run(build())
    gc.collect()
    assert kept() is None
