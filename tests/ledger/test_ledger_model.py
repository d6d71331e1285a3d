"""The ledger against a model in memory: any sequence of deeds of several runs, on a real server.

The scripts are the plugin's own, on a clock of the test's and with buckets of three posts instead
of 511 (``clocked.py`` says what is substituted, and why): years pass, and all levels overflow.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterator
from itertools import count
from math import inf
from typing import Any

import pytest
import valkey as valkey_py
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, split_key
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import claim_token, run_of
from scrapy_valkey_dedup.model import Answer, Key, ReleasedClaim, Token, Verdict
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.clocked import Clock, clocked
from tests.support.patience import PATIENCE

SECONDS_MS = 1000
RETENTION = 1000.0  # seconds; the runs' retentions are multiples of it
CLAIM_LIFETIME = 300.0
CAPACITY = 3
# Chance looks for faults of the scripts on the newest stack; another server shows that it runs them
# alike, in fewer examples.
MANY, FEW = (15, 10) if os.environ.get("VALKEY_SERVER") else (50, 30)


def _key(number: int, path: int, partition: int) -> Key:
    member = 10**18 + number * 10**14
    head = ((partition << 29 | path) << 7).to_bytes(5, "big") + bytes(3)
    return head + member.to_bytes(8, "big")


_SAME, _NEAR = 0o123456701, 0o123400000
POSTS = (
    [_key(number, _SAME, 0) for number in range(30)]  # more than all levels hold
    + [_key(number, _NEAR + number, 0) for number in range(30, 42)]  # part ways in level 4
    + [_key(number, number << 21, 0) for number in range(42, 46)]
    + [_key(number, _SAME, 15) for number in range(46, 52)]
)
RUNS: dict[str, dict[str, object]] = {
    "a": {"retention": RETENTION},
    "b": {"retention": RETENTION},
    "keeps": {"retention": RETENTION, "refresh": False},
    "longer": {"retention": 2.5 * RETENTION},
    "shorter": {"retention": 0.4 * RETENTION},
    "forever": {"retention": None},
    "records": {"retention": RETENTION, "record": True},
}
SOME = st.lists(st.sampled_from(POSTS), min_size=1, max_size=12)
ANY_RUN = st.sampled_from(list(RUNS))
NUMBERS = st.integers(0, 4)
ANY_TOKEN = st.builds(claim_token, ANY_RUN, NUMBERS)
TURNED_AWAY = 3_600_000  # ms


class Model:
    """What must be, and what may be. Times are in ms of the test's clock."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.seen_until: dict[Key, float] = {}
        """A post must be seen before this moment."""
        self.gone_from: dict[Key, float] = {}
        """From this moment on it must not."""
        self.claims: dict[Key, tuple[Token, int]] = {}
        self.given_back: dict[Key, tuple[dict[str, int], int]] = {}
        """By run the newest number that was given back in doubt; until when."""

    def must_be_seen(self, post: Key) -> bool:
        """It was stored or met less than its retention ago."""
        return self.seen_until.get(post, 0) > self.now

    def may_be_seen(self, post: Key) -> bool:
        """It was stored or met less than one and a half retentions ago."""
        return self.gone_from.get(post, 0) > self.now

    def stored(self, post: Key, retention: float | None) -> None:
        """It was stored, or met again by a run that refreshes."""
        kept = inf if retention is None else retention * SECONDS_MS
        self.seen_until[post] = max(self.seen_until.get(post, 0), self.now + kept)
        self.gone_from[post] = max(self.gone_from.get(post, 0), self.now + 1.5 * kept)

    def forget(self, post: Key) -> None:
        """It is gone for good."""
        self.seen_until.pop(post, None)
        self.gone_from.pop(post, None)

    def doubt(self, post: Key) -> None:
        """It may be lost."""
        self.seen_until.pop(post, None)

    def holder(self, post: Key) -> Token | None:
        """The claim that is open."""
        holder, ends = self.claims.get(post, (b"", 0))
        return holder if ends > self.now else None

    def turned_away(self, post: Key) -> dict[str, int]:
        """The numbers that were given back in doubt."""
        numbers, ends = self.given_back.get(post, ({}, 0))
        return numbers if ends > self.now else {}

    def pass_to(self, now: int) -> None:
        """What is over stays over, even if the clock steps back later."""
        self.now = now
        for post in list(self.gone_from):
            if not self.must_be_seen(post):
                self.doubt(post)
            if not self.may_be_seen(post):
                self.forget(post)
        self.claims = {post: (token, e) for post, (token, e) in self.claims.items() if e > now}
        self.given_back = {p: (n, e) for p, (n, e) in self.given_back.items() if e > now}


class LedgerMachine(RuleBasedStateMachine):
    """Every deed goes to the server and to the model; every answer is compared."""

    server: Client
    raw: valkey_py.Valkey
    loop: asyncio.AbstractEventLoop
    numbers = count()

    @initialize()
    def begin(self) -> None:
        """A ledger, as seven runs see it."""
        self.namespace = f"model-{next(self.numbers)}"
        self.clock = Clock(self.raw, self.namespace, [0, 15])
        self.model = Model(self.clock.now)
        self.ledgers = {
            run: clocked(
                Ledger(self.server, self.namespace, run, claim_lifetime=CLAIM_LIFETIME, **options),  # type: ignore[arg-type]
                CAPACITY,
            )
            for run, options in RUNS.items()
        }

    def teardown(self) -> None:
        """Leaves nothing on the server."""
        if found := self.raw.keys(f"vd1:{{{self.namespace}:*"):
            self.raw.delete(*found)

    def wait(self, deed: Awaitable[Any]) -> Any:
        """Does it now."""
        return self.loop.run_until_complete(deed)

    # -- deeds -----------------------------------------------------------------------------------

    @rule(run=ANY_RUN, posts=SOME, number=NUMBERS, dead=st.sets(ANY_TOKEN, max_size=9))
    def claim(self, run: str, posts: list[Key], number: int, dead: set[Token]) -> None:
        """The answers follow from what is remembered, and from who holds the claim."""
        answers = self.wait(self.ledgers[run].claim_many(posts, sorted(dead), number))
        for post, answer in zip(posts, answers, strict=True):
            self._check_claim(run, number, post, answer, dead)

    def _check_claim(
        self, run: str, number: int, post: Key, answer: Answer, dead: set[Token]
    ) -> None:
        model, options = self.model, RUNS[run]
        if answer.verdict is Verdict.SEEN:
            assert model.may_be_seen(post), "a post that was never stored"
            if options.get("refresh", True):
                model.stored(post, options["retention"])
            return
        assert not model.must_be_seen(post), "a post that was stored"
        self._it_is_not_there(post)
        holder, records = model.holder(post), options.get("record")
        ours = holder is not None and run_of(holder) == run
        late = ours and not records and holder[-1] > number
        if not records and model.turned_away(post).get(run, -1) >= number:
            assert answer.verdict is Verdict.HELD
            return
        if holder is not None and (late or not (ours or holder in dead)):
            assert answer == Answer(Verdict.HELD, holder)
            return
        assert answer == Answer(Verdict.NEW, taken_over=holder is not None and not ours)
        if records:
            model.claims.pop(post, None)
            model.given_back.pop(post, None)
            model.stored(post, options["retention"])
            return
        ends = model.now + int(CLAIM_LIFETIME * SECONDS_MS)
        if holder == claim_token(run, number) and not model.turned_away(post):
            ends = model.claims[post][1]  # asked again: it is as it was
        model.claims[post] = claim_token(run, number), ends
        if turned_away := model.turned_away(post):
            model.given_back[post] = turned_away, ends

    def _it_is_not_there(self, post: Key) -> None:
        self.model.forget(post)

    @rule(run=ANY_RUN, stored=SOME)
    def confirm(self, run: str, stored: list[Key]) -> None:
        """It is unconditional, and ends the run's own claim only, whatever its number."""
        model = self.model
        self.wait(self.ledgers[run].confirm_many(stored))
        for post in stored:
            model.stored(post, RUNS[run]["retention"])
            holder = model.holder(post)
            if holder is not None and run_of(holder) == run:
                del model.claims[post]
                model.given_back.pop(post, None)

    @rule(run=ANY_RUN, posts=SOME, number=NUMBERS, in_doubt=st.booleans())
    def release(self, run: str, posts: list[Key], number: int, in_doubt: bool) -> None:  # noqa: FBT001
        """It ends the claim, or an earlier one of the run; in doubt, copies are turned away."""
        self.wait(
            self.ledgers[run].settle_many(
                (), [ReleasedClaim(post, number, in_doubt) for post in posts]
            )
        )
        for post in dict.fromkeys(posts):
            self._release(run, post, number, in_doubt=in_doubt)

    def _release(self, run: str, post: Key, number: int, *, in_doubt: bool) -> None:
        model = self.model
        holder, before = model.holder(post), model.turned_away(post)
        after = dict(before)
        if in_doubt:
            after[run] = max(after.get(run, 0), number)
        if holder is not None and run_of(holder) == run and holder <= claim_token(run, number):
            holder = None
            del model.claims[post]
        elif after == before:
            return
        model.given_back.pop(post, None)
        if after and holder is not None:
            model.given_back[post] = after, model.claims[post][1]
        elif after:
            model.given_back[post] = after, model.now + TURNED_AWAY

    @rule(run=ANY_RUN, posts=SOME, number=NUMBERS)
    def renew(self, run: str, posts: list[Key], number: int) -> None:
        """It lengthens the life of the very claim, and makes none."""
        model, ends = self.model, self.model.now + int(CLAIM_LIFETIME * SECONDS_MS)
        ours = [post for post in posts if model.holder(post) == claim_token(run, number)]
        assert self.wait(self.ledgers[run].renew_many(posts, [number] * len(posts))) == len(ours)
        for post in ours:
            model.claims[post] = claim_token(run, number), ends
            if post in model.given_back:
                model.given_back[post] = model.given_back[post][0], ends

    @rule(run=ANY_RUN)
    def store_all(self, run: str) -> None:
        """So that the buckets of all levels are full often, and not only after long chance."""
        self.confirm(run, POSTS)

    @rule(posts=SOME)
    def forget(self, posts: list[Key]) -> None:
        """Forgotten is forgotten, in all generations and levels."""
        forgotten = self.wait(self.ledgers["a"].forget_many(posts))
        distinct = set(posts)
        assert forgotten >= sum(map(self.model.must_be_seen, distinct))
        assert forgotten <= sum(map(self.model.may_be_seen, distinct))
        for post in distinct:
            self._it_was_forgotten(post)

    def _it_was_forgotten(self, post: Key) -> None:
        self.model.forget(post)

    @rule(part=st.floats(0.001, 0.3))
    def a_while_passes(self, part: float) -> None:
        """Within a generation, or into the next one."""
        self._to(self.clock.now + int(part * RETENTION * SECONDS_MS))

    @rule(retentions=st.floats(0.3, 3))
    def generations_turn(self, retentions: float) -> None:
        """Into the time when some posts are over, or all."""
        self._to(self.clock.now + int(retentions * RETENTION * SECONDS_MS))

    @precondition(lambda self: self.model.seen_until)
    @rule(data=st.data(), offset=st.sampled_from([-1, 0, 1]))
    def the_last_moment_comes(self, data: st.DataObject, offset: int) -> None:
        """A millisecond before, at, and after the moment up to which a post must be seen."""
        moments = sorted({e for e in self.model.seen_until.values() if self.clock.now < e < inf})
        if moments:
            self._to(int(data.draw(st.sampled_from(moments))) + offset)

    @rule(part=st.floats(0.001, 1))
    def the_clock_steps_back(self, part: float) -> None:
        """As after a failover to a server whose clock is late."""
        self._to(self.clock.now - int(part * RETENTION * SECONDS_MS))

    def _to(self, now: int) -> None:
        self.clock.set(now)
        self.model.pass_to(now)

    # -- what is always so -----------------------------------------------------------------------

    @invariant()
    def all_is_seen_that_was_stored_and_nothing_else(self) -> None:
        """Asked for by a run that only looks."""
        if not hasattr(self, "model"):
            return
        seen = self.wait(self.ledgers["b"].seen_many(POSTS))
        for post, is_seen in zip(POSTS, seen, strict=True):
            assert is_seen or not self.model.must_be_seen(post), "a post that was stored"
            assert not is_seen or self.model.may_be_seen(post), "a post that was never stored"

    @invariant()
    def all_claims_are_where_they_should_be(self) -> None:
        """No claim is lost, left over, or in other hands."""
        if not hasattr(self, "model"):
            return
        names = self.raw.keys(f"vd1:{{{self.namespace}:*}}:c:*")
        found = dict(zip(names, self.raw.mget(names) if names else [], strict=True))
        expected = {}
        for post in {*self.model.claims, *self.model.given_back}:
            partition, rest = split_key(post)
            name = f"vd1:{{{self.namespace}:{PARTITION_TAGS[partition]}}}:c:{rest.decode()}"
            holder = self.model.holder(post) or b"-" * 12
            back = [claim_token(run, n) for run, n in self.model.turned_away(post).items()]
            expected[name.encode()] = holder, sorted(back)
        shown = {
            name: (value[:12], sorted(value[at : at + 12] for at in range(12, len(value), 12)))
            for name, value in found.items()
        }
        assert shown == expected


class EvictingMachine(LedgerMachine):
    """The same on a server that is full and evicts: posts may be stored twice, none is lost."""

    def _it_is_not_there(self, post: Key) -> None:
        """It may be in a level that an evicted list had, and be seen when a list has it again."""

    lost_a_list = False

    def _it_was_forgotten(self, post: Key) -> None:
        """Without the list its buckets are not found; in the same ms a list may get them back."""
        if self.lost_a_list:
            self.model.doubt(post)
        else:
            self.model.forget(post)

    @rule(data=st.data(), how_many=st.integers(1, 3))
    def evict(self, data: st.DataObject, how_many: int) -> None:
        """Buckets, lists of generations, recorded replies: whatever it likes."""
        names = sorted(self.raw.keys(f"vd1:{{{self.namespace}:*"))
        names = [name for name in names if not name.endswith(b":clock") and b"}:c:" not in name]
        if names:
            chosen = data.draw(st.lists(st.sampled_from(names), max_size=how_many))
            self.lost_a_list |= any(name.endswith(b"}") for name in chosen)
            self.raw.delete(b"", *chosen)
            for post in POSTS:
                self.model.doubt(post)


@pytest.fixture
def machines(valkey: ValkeyServer) -> Iterator[None]:
    """One connection and one event loop for all runs of the machines."""
    LedgerMachine.loop = asyncio.new_event_loop()
    LedgerMachine.server = Client(valkey.url, valkey.url, {}, timeout=PATIENCE)
    with valkey.client() as LedgerMachine.raw:
        yield
    LedgerMachine.loop.run_until_complete(LedgerMachine.server.close())
    LedgerMachine.loop.close()


def examples(number: int) -> settings:
    """The machine's settings."""
    return settings(
        max_examples=number,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("number", [MANY, pytest.param(200, marks=pytest.mark.slow)])
def test_the_ledger_is_its_model(machines: None, number: int) -> None:
    """What was stored is seen for its retention, what was not stored never is, whatever happens."""
    run_state_machine_as_test(LedgerMachine, settings=examples(number))


@pytest.mark.parametrize("number", [FEW, pytest.param(120, marks=pytest.mark.slow)])
def test_an_eviction_loses_no_post(machines: None, number: int) -> None:
    """When Valkey drops keys by itself, posts may be new again; none is seen unstored."""
    run_state_machine_as_test(EvictingMachine, settings=examples(number))
