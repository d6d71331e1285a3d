"""How many pages a run claims ahead, and in which order they are downloaded."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scrapy import Request

from scrapy_valkey_dedup.requests.admission import gathering
from scrapy_valkey_dedup.requests.admission.admission import Admission
from scrapy_valkey_dedup.requests.admission.engine_queue import EngineQueue
from tests.support.patience import PATIENCE, in_loop, until


@dataclass
class Slot:
    """A slot of the downloader: the downloads of one site."""

    concurrency: int
    delay: float = 0


@dataclass
class Downloader:
    """What admission knows of Scrapy's downloader."""

    total_concurrency: int = 16
    domain_concurrency: int = 8
    slots: dict[str, Slot] = field(default_factory=dict)
    active: set[Request] = field(default_factory=set)

    def get_slot_key(self, request: Request) -> str:
        return str(request.meta["slot"])


class Waiting:
    """The scheduler's queue, by priority; among equals the oldest comes first."""

    def __init__(self, crowd: Crowd) -> None:
        self.requests: list[Request] = []
        self._crowd = crowd

    def add(self, number: int, priority: int = 0, slot: str = "a") -> list[Request]:
        """Adds new requests, all at once, and tells the middleware."""
        added = [
            Request(f"https://{slot}.test/", meta={"slot": slot}, priority=priority)
            for _ in range(number)
        ]
        self.requests += added
        self.requests.sort(key=lambda request: -request.priority)
        self._crowd.admission.look_ahead()
        return added

    def next_priority(self) -> int | None:
        return self.requests[0].priority if self.requests else None

    def take(self) -> None:
        self._crowd.start(self.requests.pop(0))


class Crowd:
    """Requests in a downloader, each in its own task, as in Scrapy."""

    def __init__(self, downloader: Any) -> None:
        self.downloader = downloader
        self.waiting = Waiting(self)
        self.admission = Admission(downloader, queue=self.waiting)
        self.claimed: list[Request] = []
        """The requests that were allowed to claim their page, in order."""
        self.looked_up: list[Request] = []
        """The requests whose page was looked up while they waited, in order."""
        self.dropped: list[Request] = []
        """Of these, the requests whose page was known."""
        self.downloading: list[Request] = []
        """The requests whose download began, in order."""
        self.answered = asyncio.Event()
        self.answered.set()
        self.go = asyncio.Event()
        self._tasks: dict[Request, asyncio.Task[None]] = {}

    def send(self, slot: str = "a", number: int = 1, **meta: Any) -> list[Request]:
        """Sends requests, as the engine does when the scheduler has some."""
        sent = [
            Request(f"https://{slot}.test/", meta={"slot": slot, **meta}) for _ in range(number)
        ]
        for request in sent:
            self.start(request)
        return sent

    def start(self, request: Request) -> None:
        """The engine has taken a request."""
        self.downloader.active.add(request)
        task = asyncio.get_running_loop().create_task(self._download(request))
        # As in Scrapy: when the task has ended, and before its other callbacks.
        task.add_done_callback(partial(self._left, request))
        self._tasks[request] = task

    def engine_looks(self) -> None:
        """Takes requests up to the user's limit, as Scrapy's engine does."""
        limit = self.downloader.total_concurrency
        while self.waiting.requests and len(self.downloader.active) < limit:
            self.waiting.take()

    async def _download(self, request: Request) -> None:
        task = asyncio.current_task()
        assert task is not None
        if request.meta.get("exempt"):
            task.add_done_callback(self.admission.download_ended)
            await self.go.wait()
            return
        found = await self.admission.wait_to_claim(request, task, partial(self._look, request))
        if found is not None:
            self.dropped.append(request)
            return
        self.claimed.append(request)
        with self.admission.timing_claim():
            await self.answered.wait()
        is_known = request.meta.get("known", False)
        self.admission.claim_answered(request, granted=not is_known)
        if is_known:
            return
        await self.admission.wait_to_download(request)
        self.downloading.append(request)
        await self.go.wait()

    async def _look(self, request: Request) -> str | None:
        self.looked_up.append(request)
        await self.answered.wait()
        return "known" if request.meta.get("known") else None

    def _left(self, request: Request, _: object) -> None:
        self.downloader.active.discard(request)

    async def settle(self) -> None:
        """Lets everything happen that can happen without waiting."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def end(self, request: Request) -> None:
        """Ends the task of a request: done, failed or cancelled makes no difference."""
        self._tasks[request].cancel()
        await self.settle()

    async def end_all(self) -> None:
        """Ends all tasks."""
        self.go.set()
        await asyncio.wait_for(
            asyncio.gather(*self._tasks.values(), return_exceptions=True), timeout=PATIENCE
        )
        await self.settle()  # the callbacks of the last task may come after this


@in_loop
async def test_as_many_claim_as_can_be_downloaded_and_one_more() -> None:
    """As many requests of a site may claim as its slot can download at once, and one more."""
    crowd = Crowd(Downloader(total_concurrency=100, domain_concurrency=4))
    sent = crowd.send(number=20)
    await crowd.settle()
    assert crowd.claimed == sent[:5]
    await crowd.end(sent[2])
    assert crowd.claimed == sent[:6]
    await crowd.end_all()
    assert crowd.claimed == sent


@in_loop
async def test_sites_do_not_wait_for_one_another() -> None:
    """Each slot has its own limit, from its own settings."""
    downloader = Downloader(100, 2, slots={"b": Slot(5), "c": Slot(8, delay=60)})
    crowd = Crowd(downloader)
    for slot in "abc":
        crowd.send(slot, 20)
    await crowd.settle()
    claimed = Counter(request.meta["slot"] for request in crowd.claimed)
    assert claimed == {"a": 3, "b": 6, "c": 2}
    await crowd.end_all()
    assert len(crowd.claimed) == 60


@in_loop
async def test_a_delay_leaves_room_for_what_it_lets_through() -> None:
    """With a delay of 0.1 s, and downloads of 0.35 s, four run at once, and two are ahead."""
    crowd = Crowd(Downloader(100, 8, slots={"a": Slot(8, delay=0.1)}))
    crowd.admission.download_took(0.35)
    crowd.send(number=20)
    await crowd.settle()
    assert len(crowd.claimed) == 6
    await crowd.end_all()


@pytest.mark.parametrize("limit", [1, 3])
@in_loop
async def test_no_more_downloads_than_the_user_allows(limit: int) -> None:
    """However many have claimed, downloads stay within CONCURRENT_REQUESTS, first come first."""
    crowd = Crowd(Downloader(limit, domain_concurrency=10))
    sent = [request for slot in "abcdefghij" for request in crowd.send(slot)]
    await crowd.settle()
    assert crowd.claimed == sent
    assert crowd.downloading == sent[:limit]
    await crowd.end(sent[0])
    assert crowd.downloading == sent[: limit + 1]
    await crowd.end(sent[-1])  # a request that only waits frees no download
    assert crowd.downloading == sent[: limit + 1]
    await crowd.end_all()
    assert crowd.downloading == sent[:-1]


@in_loop
async def test_a_site_claims_no_more_than_all_sites_may_download() -> None:
    """A slot's limit above CONCURRENT_REQUESTS is never reached: nothing is claimed for it."""
    crowd = Crowd(Downloader(3, domain_concurrency=10))
    sent = crowd.send(number=10)
    await crowd.settle()
    assert crowd.claimed == sent[:4]
    await crowd.end(sent[0])
    assert crowd.claimed == sent[:5]
    await crowd.end_all()
    assert crowd.claimed == sent


@in_loop
async def test_other_downloads_count() -> None:
    """Requests that claim nothing (media, robots.txt) count as downloads."""
    crowd = Crowd(Downloader(3, domain_concurrency=10))
    others = crowd.send(number=2, exempt=True)
    sent = crowd.send(number=4)
    await crowd.settle()
    assert crowd.downloading == sent[:1]
    await crowd.end(others[0])
    assert crowd.downloading == sent[:2]
    await crowd.end_all()


@in_loop
async def test_a_known_page_uses_no_download() -> None:
    """A request whose page is done already leaves at once, and the next one may claim."""
    crowd = Crowd(Downloader(2, domain_concurrency=2))
    known = crowd.send(number=30, known=True)
    sent = crowd.send(number=2)
    await crowd.settle()
    assert crowd.claimed == known + sent
    assert crowd.downloading == sent
    await crowd.end_all()


@pytest.mark.parametrize("downloader", [Downloader(0, 0), Downloader(0, 8), Downloader(16, 0)])
@in_loop
async def test_a_limit_of_zero_is_off(downloader: Downloader) -> None:
    """Each of the limits is off at 0, as in Scrapy."""
    total, domain = downloader.total_concurrency, downloader.domain_concurrency
    crowd = Crowd(downloader)
    crowd.send(number=50)
    await crowd.settle()
    assert len(crowd.claimed) == (50 if not domain else domain + 1)
    assert len(crowd.downloading) == min(len(crowd.claimed), total or 50)
    assert total or downloader.total_concurrency == 0
    await crowd.end_all()
    assert len(crowd.downloading) == 50


@in_loop
async def test_another_kind_of_downloader_has_no_limits() -> None:
    """A DOWNLOADER without Scrapy's attributes is not limited, and not changed."""

    class Other:
        def __init__(self) -> None:
            self.active: set[Request] = set()

        get_slot_key = Downloader.get_slot_key

    crowd = Crowd(Other())
    crowd.send(number=50)
    await crowd.settle()
    assert len(crowd.downloading) == 50
    assert not hasattr(crowd.downloader, "total_concurrency")
    await crowd.end_all()


def measured(crowd: Crowd, answer: float, download: float, downloads: int = 1000) -> None:
    """So long Valkey takes to answer, and the site, after so many downloads."""
    crowd.admission._limits._answer_time = answer
    for _ in range(downloads):
        crowd.admission.download_took(download)


@pytest.mark.parametrize(
    ("answer", "download", "downloads", "ahead"),
    [
        (0.0, 1.0, 1000, 1 + 0),
        (0.019, 0.04, 1000, 1 + 8),
        (0.5, 0.1, 1000, 1 + 5 * 16),
        (5.0, 0.1, 1000, 1 + 8 * 16),
        (0.5, 0.1, 3, 1 + 3),
    ],
)
@in_loop
async def test_the_slower_valkey_is_the_more_is_claimed_ahead(
    answer: float, download: float, downloads: int, ahead: int
) -> None:
    """As many as come while Valkey answers, and one; at most 8 times as many as are downloaded.

    At the beginning no more than were downloaded before.
    """
    crowd = Crowd(Downloader(16, domain_concurrency=0))
    measured(crowd, answer, download, downloads)
    queued = crowd.waiting.add(200)
    crowd.answered.clear()
    crowd.engine_looks()
    await crowd.settle()
    assert crowd.claimed == queued[: 16 + ahead]
    assert crowd.looked_up == []
    assert crowd.downloader.total_concurrency == 16  # what the engine, and start(), go by
    crowd.answered.set()
    await crowd.settle()
    assert crowd.downloading == queued[:16]
    crowd.waiting.requests.clear()
    await crowd.end_all()


async def meet_known_pages(crowd: Crowd, number: int = 60) -> None:
    """So many requests for known pages come, and leave."""
    for request in crowd.waiting.add(number):
        request.meta["known"] = True
    while crowd.waiting.requests:
        crowd.engine_looks()
        await crowd.settle()
    assert not crowd.downloader.active


@in_loop
async def test_known_pages_take_no_place_of_a_claim() -> None:
    """If most pages were known, those beyond the claims are looked up; the known ones leave.

    The pages that are free stay, and nothing of them is claimed beyond the limit.
    """
    crowd = Crowd(Downloader(4, domain_concurrency=4))
    await meet_known_pages(crowd)
    measured(crowd, answer=0.1, download=0.1)
    crowd.looked_up.clear()
    crowd.claimed.clear()
    crowd.dropped.clear()
    most = 4 + 1 + 2 * 4  # twice as many ahead, as no claim was granted before
    queued = crowd.waiting.add(most + 20)
    known = queued[most::2]
    for request in known:
        request.meta["known"] = True
    crowd.answered.clear()
    crowd.engine_looks()
    await crowd.settle()
    assert set(crowd.claimed) == set(queued[:most])
    assert set(crowd.looked_up) == set(queued[most:])
    crowd.answered.set()
    await crowd.settle()
    assert set(crowd.dropped) == set(known)
    assert set(crowd.downloader.active) == set(queued) - set(known)
    assert len(crowd.claimed) <= most
    assert len(crowd.downloading) == 4
    await crowd.end_all()


@in_loop
async def test_a_valkey_nearby_is_not_asked_twice() -> None:
    """Nothing is looked up, however many pages are known, if Valkey answers at once."""
    crowd = Crowd(Downloader(4, domain_concurrency=4))
    measured(crowd, answer=0.0005, download=0.1)
    await meet_known_pages(crowd)
    crowd.waiting.add(20)
    crowd.engine_looks()
    await crowd.settle()
    assert crowd.looked_up == []
    await crowd.end_all()


@in_loop
async def test_free_pages_are_not_looked_up_far_ahead() -> None:
    """Only as many free pages wait as are claimed while Valkey answers: they may become known."""
    crowd = Crowd(Downloader(4, domain_concurrency=4))
    await meet_known_pages(crowd)
    measured(crowd, answer=0.1, download=0.1)
    crowd.looked_up.clear()
    crowd.waiting.add(500)
    crowd.engine_looks()
    await crowd.settle()
    assert len(crowd.downloading) == 4
    assert 4 <= len(crowd.looked_up) < 300
    asked = len(crowd.looked_up)
    await crowd.settle()
    assert len(crowd.looked_up) == asked  # until some of them are claimed
    crowd.waiting.requests.clear()
    await crowd.end_all()


@in_loop
async def test_workers_with_the_same_links_claim_different_ones() -> None:
    """When others hold the pages that were asked for, the next are not asked for in their order."""
    orders = set()
    for _ in range(20):
        crowd = Crowd(Downloader(20, domain_concurrency=1))
        await meet_known_pages(crowd)
        measured(crowd, answer=0.1, download=0.1, downloads=1)
        queued = crowd.waiting.add(20)
        crowd.engine_looks()
        await crowd.settle()
        while crowd.downloader.active:
            await crowd.end(next(iter(crowd.downloader.active & set(crowd.downloading))))
            crowd.engine_looks()
            await crowd.settle()
        assert set(crowd.claimed[-20:]) == set(queued)
        orders.add(tuple(map(queued.index, crowd.claimed[-20:])))
    assert len(orders) > 1


def start_of_a_fleet() -> tuple[Crowd, list[Request]]:
    """A crawl with 36 links to begin with, far away from Valkey."""
    crowd = Crowd(Downloader(16, domain_concurrency=4))
    crowd.admission.expect(answer=0.1)
    crowd.admission.download_took(0.1)
    crowd.answered.clear()
    queued = crowd.waiting.add(36)
    crowd.engine_looks()
    return crowd, queued


@in_loop
async def test_a_fleet_that_starts_with_the_same_links_is_expected_far_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first links are gathered: by chance 6 of 36 are claimed, and the others looked up."""
    monkeypatch.setattr(gathering, "_MOMENT", PATIENCE)  # the test ends it
    firsts = set()
    for _ in range(5):
        crowd, queued = start_of_a_fleet()
        await crowd.settle()
        assert crowd.claimed == crowd.looked_up == []
        crowd.admission._gathering._end()
        await until(lambda crowd=crowd: crowd.claimed)
        await crowd.settle()
        assert len(crowd.claimed) == 4 + 1 + 1
        assert set(crowd.looked_up) == set(queued) - set(crowd.claimed)
        firsts.add(frozenset(map(queued.index, crowd.claimed)))
        crowd.answered.set()
        await crowd.end_all()
    assert len(firsts) > 1


@in_loop
async def test_links_are_gathered_for_a_moment_only() -> None:
    """Links are claimed though nothing else happens."""
    crowd, _ = start_of_a_fleet()
    await until(lambda: crowd.claimed)
    crowd.answered.set()
    await crowd.end_all()


@in_loop
async def test_with_a_valkey_nearby_nothing_is_left_to_chance() -> None:
    """The first links are claimed in their order, at once, and nothing is looked up."""
    crowd = Crowd(Downloader(16, domain_concurrency=4))
    crowd.admission.expect(answer=0.001)
    crowd.admission.download_took(0.1)
    queued = crowd.waiting.add(40)
    crowd.answered.clear()
    crowd.engine_looks()
    await crowd.settle()
    assert crowd.claimed == queued[:5]
    assert crowd.looked_up == []
    crowd.answered.set()
    await crowd.end_all()


@in_loop
async def test_as_many_are_claimed_ahead_as_were_granted() -> None:
    """When the first 6 pages are granted, 3 more are claimed before one of them has ended."""
    crowd = Crowd(Downloader(16, domain_concurrency=4))
    measured(crowd, answer=0.1, download=0.1, downloads=1)
    crowd.answered.clear()
    crowd.waiting.add(40)
    crowd.engine_looks()
    await crowd.settle()
    assert len(crowd.claimed) == 4 + 1 + 1
    for request in list(crowd.claimed):
        crowd.admission.claim_answered(request, granted=True)
    await crowd.settle()
    assert len(crowd.claimed) == 4 + 1 + 4
    crowd.answered.set()
    await crowd.end_all()


@in_loop
async def test_a_lookup_that_fails_changes_nothing() -> None:
    """A request whose lookup fails, or is overtaken by its claim, is downloaded."""
    crowd = Crowd(Downloader(2, domain_concurrency=2))
    await meet_known_pages(crowd)
    measured(crowd, answer=0.1, download=0.1)

    async def fail(_: Request) -> None:
        await crowd.answered.wait()
        raise OSError("no luck")

    crowd._look = fail  # type: ignore[method-assign]
    queued = crowd.waiting.add(20)
    crowd.answered.clear()
    crowd.engine_looks()
    await crowd.settle()
    crowd.answered.set()
    await crowd.settle()
    crowd.engine_looks()
    await crowd.end_all()
    assert set(crowd.downloading) == set(queued)


@pytest.mark.parametrize("limit", [1, 4])
@in_loop
async def test_the_urgent_go_first(limit: int) -> None:
    """An urgent request comes before all that wait here, however many more come for its site."""
    crowd = Crowd(Downloader(limit, domain_concurrency=limit))
    others = crowd.waiting.add(50)
    crowd.engine_looks()
    await crowd.settle()
    assert crowd.downloading == others[:limit]
    urgent = crowd.waiting.add(5, priority=1)
    await crowd.settle()
    most = crowd.waiting.add(1, priority=2)
    await crowd.settle()
    assert {urgent[0], *most} <= set(crowd.claimed)  # while nothing has ended
    expected = [*others[:limit], *most, *urgent, *others[limit : limit + 5]]
    for number in range(10):
        await crowd.end(crowd.downloading[number])
        crowd.engine_looks()
        await crowd.settle()
        assert crowd.downloading == expected[: limit + number + 1]
    crowd.waiting.requests.clear()
    await crowd.end_all()


@in_loop
async def test_the_urgent_claim_first() -> None:
    """Of the requests that wait for their site, the urgent come next, then the oldest."""
    crowd = Crowd(Downloader(10, domain_concurrency=1))
    others = crowd.waiting.add(5)
    crowd.engine_looks()
    await crowd.settle()
    (urgent,) = crowd.waiting.add(1, priority=1)
    crowd.engine_looks()
    await crowd.settle()
    assert crowd.claimed == others[:2]
    await crowd.end(others[0])
    assert crowd.claimed == [*others[:2], urgent]
    await crowd.end_all()
    assert crowd.claimed == [*others[:2], urgent, *others[2:]]


@in_loop
async def test_an_urgent_request_that_claims_is_not_overtaken() -> None:
    """A free download is kept for a more urgent request that is about to have its answer."""
    crowd = Crowd(Downloader(1, domain_concurrency=1))
    first, second = crowd.waiting.add(2)
    crowd.engine_looks()
    await crowd.settle()
    crowd.answered.clear()
    (urgent,) = crowd.waiting.add(1, priority=1)
    await crowd.settle()
    await crowd.end(first)
    assert crowd.downloading == [first]
    crowd.answered.set()
    await crowd.settle()
    assert crowd.downloading == [first, urgent]
    await crowd.end(urgent)
    assert crowd.downloading == [first, urgent, second]
    await crowd.end_all()


@in_loop
async def test_the_engine_comes_first() -> None:
    """While the engine itself has room, nothing is taken ahead."""
    crowd = Crowd(Downloader(4, domain_concurrency=0))
    queued = crowd.waiting.add(10)
    await crowd.settle()
    assert crowd.waiting.requests == queued
    crowd.send(number=3)
    await crowd.settle()
    assert crowd.waiting.requests == queued
    crowd.send(number=1)
    await crowd.settle()
    assert crowd.waiting.requests == queued[1:]
    crowd.waiting.requests.clear()
    await crowd.end_all()


class Peeked:
    """A queue with peek()."""

    def __init__(self, request: Request | None) -> None:
        self._request = request

    def peek(self) -> Request | None:
        return self._request


class Unpeeked:
    """A queue of Scrapy's around one without peek()."""

    def peek(self) -> None:
        raise NotImplementedError


def engine(**changes: Any) -> SimpleNamespace:
    """The parts of Scrapy's engine that are used; its scheduler has an urgent request."""
    parts: dict[str, Any] = {
        "running": True,
        "paused": False,
        "closing": None,
        "backs_out": False,
        "queue": Peeked(Request("https://a.test/", priority=7)),
        **changes,
    }
    scheduler = SimpleNamespace(**{"mqs": parts["queue"]} if parts["queue"] else {})
    return SimpleNamespace(
        running=parts["running"],
        paused=parts["paused"],
        scraper=SimpleNamespace(slot=SimpleNamespace(needs_backout=lambda: parts["backs_out"])),
        _slot=SimpleNamespace(closing=parts["closing"], scheduler=scheduler),
        _start_scheduled_request=lambda: True,
    )


def test_the_next_request_is_looked_at() -> None:
    """The priority of the next request is known without taking it."""
    assert EngineQueue(engine()).next_priority() == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"running": False},
        {"paused": True},
        {"closing": "a Deferred"},
        {"backs_out": True},
        {"queue": None},
        {"queue": object()},
        {"queue": Peeked(None)},
        {"queue": Unpeeked()},
    ],
)
def test_nothing_is_taken_when_the_engine_would_take_nothing(changes: dict[str, Any]) -> None:
    """A scheduler without peek() shows nothing, either."""
    assert EngineQueue(engine(**changes)).next_priority() is None


def test_nothing_is_taken_from_another_kind_of_engine() -> None:
    """Without a spider, or without Scrapy's method to take a request, nothing is taken."""
    idle, other = engine(), engine()
    idle._slot = None
    del other._start_scheduled_request
    assert EngineQueue(idle).next_priority() is EngineQueue(other).next_priority() is None


@in_loop
async def test_a_claim_that_fails_changes_nothing() -> None:
    """An error while claiming is raised, and the other requests go on."""
    crowd = Crowd(Downloader(1, domain_concurrency=1))
    crowd.answered.clear()
    first, second, third = crowd.send(number=3)
    await crowd.settle()
    assert crowd.claimed == [first, second]
    await crowd.end(first)  # cancelled while it claims
    assert crowd.claimed == [first, second, third]
    crowd.answered.set()
    await crowd.settle()
    assert crowd.downloading == [second]
    await crowd.end_all()
    assert crowd.downloading == [second, third]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_request_is_downloaded(data: st.DataObject) -> None:
    """Whatever ends, at any time and in any state, limits hold and every request is downloaded."""

    async def main() -> None:
        limit = data.draw(st.integers(1, 4))
        domain = data.draw(st.integers(0, 3))
        crowd = Crowd(Downloader(limit, domain))
        measured(crowd, *data.draw(st.sampled_from([(0.0, 1.0), (1.0, 0.2)])))
        chance = random.Random(data.draw(st.integers()))
        alive: list[Request] = []
        ended: set[Request] = set()
        steps: list[Callable[[], Any]] = [
            lambda: alive.extend(crowd.send(chance.choice("ab"), chance.randint(1, 4))),
            lambda: alive.extend(crowd.send(chance.choice("ab"), known=True)),
            lambda: alive.extend(crowd.send("a", exempt=True)),
            crowd.answered.clear,
            crowd.answered.set,
            lambda: alive.extend(crowd.waiting.add(3, chance.randint(-1, 1), chance.choice("ab"))),
            crowd.engine_looks,
        ]
        for _ in range(data.draw(st.integers(0, 40))):
            started = [request for request in alive if request not in crowd.waiting.requests]
            if started and chance.random() < 0.4:
                request = chance.choice(started)
                alive.remove(request)
                ended.add(request)
                await crowd.end(request)
            else:
                chance.choice(steps)()
                await asyncio.sleep(0)
            running = [request for request in crowd.downloading if request not in ended]
            assert len(running) <= limit
        crowd.answered.set()
        for request in crowd.waiting.requests:
            alive.remove(request)
        crowd.waiting.requests.clear()
        await crowd.end_all()
        silent = {r for r in alive if not (r.meta.get("known") or r.meta.get("exempt"))}
        assert silent <= set(crowd.downloading)
        assert not crowd.admission._not_downloading
        assert not +crowd.admission._allowed
        assert not any(crowd.admission._waiting.values())
        lookups = crowd.admission._lookups
        assert not any((lookups._waiting, lookups._looking, lookups._free))
        assert crowd.downloader.active == set()

    asyncio.run(main())
