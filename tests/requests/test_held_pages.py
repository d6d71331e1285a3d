"""Pages that another run holds: how often an idle run asks for them, and that each is counted once.

Sessions on a real server, without a crawl. The line to it is slow, or swallows its replies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scrapy import Request

from bench.servers import FaultyProxy, ValkeyServer
from scrapy_valkey_dedup.model import Answer, Key, Verdict
from scrapy_valkey_dedup.requests.held_pages import _GLANCE, HeldPages
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.stats import REQUESTS
from tests.support.patience import PATIENCE, in_loop, until
from tests.support.runs import KEYS, Runs


@dataclass
class Waiter:
    """A run that waits for the pages of another one."""

    session: Session
    claims: Claims
    decided: list[Claim | Verdict] = field(default_factory=list)

    @asynccontextmanager
    async def waits_for(self, pages: list[Answer]) -> AsyncIterator[HeldPages]:
        """While it has asked for these pages, in the order of ``KEYS``."""
        held = HeldPages(
            self.claims,
            self.session.beat_of,
            lambda: self.session.idle,
            lambda _, outcome: self.decided.append(outcome),
        )
        for key, answer in zip(KEYS, pages, strict=False):
            held.add(key, Request("https://a.test/"), answer.holder)
        try:
            yield held
        finally:
            held.close()

    @property
    def duplicates(self) -> float:
        """The stat of known pages."""
        return self.session._stats.number(REQUESTS.duplicate)


@asynccontextmanager
async def fleet_of_two(
    valkey: ValkeyServer, line: FaultyProxy, namespace: str, directory: Path
) -> AsyncIterator[tuple[Claims, Waiter]]:
    """The claims of a run nearby, and a waiter at the end of the line."""
    made = list[Claims]()

    def with_pages(session: Session) -> None:
        made.append(session.shelf_claims("pages", REQUESTS, retention=3600))

    near = Runs(valkey.url, namespace, directory)
    far = Runs(valkey.url_through(line.port), namespace, directory)
    for runs in (near, far):
        runs.raw.close()
    calm = {"lease": 4 * PATIENCE, "wait": 4 * PATIENCE, "timeout": 4 * PATIENCE}
    async with near.open(with_pages, **calm), far.open(with_pages, **calm) as session:
        yield made[0], Waiter(session, made[1])


async def hold(claims: Claims, waiter: Waiter, number: int) -> tuple[list[Claim], list[Answer]]:
    """Has so many pages claimed by the one run, and then asked for by the other."""
    granted = [await claims.attempt(key) for key in KEYS[:number]]
    refused = [await waiter.claims.attempt(key) for key in KEYS[:number]]
    claimed = [claim for claim in granted if isinstance(claim, Claim)]
    answers = [answer for answer in refused if isinstance(answer, Answer)]
    assert len(claimed) == len(answers) == number
    return claimed, answers


class Counted:
    """The claims of a run, and how often each page was looked up."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self.looks = Counter[Key]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._claims, name)

    async def look(self, key: Key) -> Answer:
        """Counts before it asks."""
        self.looks[key] += 1
        return await self._claims.look(key)


@in_loop
async def test_only_an_idle_run_glances(
    valkey: ValkeyServer, namespace: str, tmp_path: Path
) -> None:
    """While no answer comes, a run that is idle glances 4 times at a page, and a busy one never."""
    assert valkey.port
    with FaultyProxy(valkey.port) as line:
        async with fleet_of_two(valkey, line, namespace, tmp_path) as (claims, waiter):
            (claim,), (answer,) = await hold(claims, waiter, 1)
            counts = [Counted(waiter.claims) for _ in range(2)]
            line.swallow_replies = True
            runs = [
                HeldPages(count, waiter.session.beat_of, lambda idle=idle: idle, print)
                for count, idle in zip(counts, (True, False), strict=True)
            ]
            for held in runs:
                held.add(claim.key, Request("https://a.test/"), answer.holder)
            await until(lambda: counts[0].looks[claim.key] >= 1 + 4)
            await asyncio.sleep(5 * _GLANCE)
            assert counts[0].looks[claim.key] == 1 + 4
            assert counts[1].looks[claim.key] == 1
            for held in runs:
                held.close()
            line.swallow_replies = False
            claim.release()


@in_loop
async def test_a_held_page_is_decided_once(
    valkey: ValkeyServer, namespace: str, tmp_path: Path
) -> None:
    """However often an idle run has asked, a page that is done is told and counted once."""
    assert valkey.port
    with FaultyProxy(valkey.port) as line:
        async with fleet_of_two(valkey, line, namespace, tmp_path) as (claims, waiter):
            claimed, answers = await hold(claims, waiter, 20)
            waiter.session.idle = True
            line.delay = 0.05
            async with waiter.waits_for(answers) as held:
                for claim in claimed[:19]:
                    claim.confirm()
                await until(lambda: len(held) == 1)
                claimed[19].release()
                await until(lambda: not held)
            (last,) = (each for each in waiter.decided if isinstance(each, Claim))
            assert waiter.decided.count(Verdict.SEEN) == 19 == len(waiter.decided) - 1
            assert waiter.duplicates == 19
            last.release()
