"""The protocol of claims: docs/ledger.md states the rules that the tests name."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import valkey as valkey_py

from bench.servers import FaultyProxy, ValkeyServer
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import CLAIM_NUMBERS, claim_token
from scrapy_valkey_dedup.model import Answer, LedgerUnavailableError, ReleasedClaim, Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.failure_detector import UNKNOWN, FailureDetector
from scrapy_valkey_dedup.session.holder_wait import HolderWait
from scrapy_valkey_dedup.session.in_flight import InFlightClaims
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command
from tests.support.patience import PATIENCE, in_loop, until
from tests.support.runs import KEYS, Runs, revive, silence

POST = KEYS[:1]
NEW, TAKEN_OVER = Answer(Verdict.NEW), Answer(Verdict.NEW, taken_over=True)
QUICK = {"lease": 1, "timeout": 0.5, "wait": 1}
OpenLedger = Callable[..., Any]


def held(run: str, number: int) -> Answer:
    """What others are told while that token holds the post."""
    return Answer(Verdict.HELD, claim_token(run, number))


def in_doubt(number: int) -> ReleasedClaim:
    """A claim on the post that is given back while copies of its question may be on their way."""
    return ReleasedClaim(POST[0], number, in_doubt=True)


# -- messages --------------------------------------------------------------------------------------


@in_loop
async def test_a_late_copy_of_a_question_makes_no_claim(open_ledger: OpenLedger) -> None:
    """C2, L2: what was given back in doubt is turned away, even if others had the post since."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        assert await one.claim_many(POST, (), 5) == [NEW]
        await one.settle_many((), [in_doubt(5)])
        for late in (5, 4):
            assert (await one.claim_many(POST, (), late))[0].verdict is Verdict.HELD
        assert await other.claim_many(POST, (), 1) == [NEW]
        assert await one.claim_many(POST, [claim_token("run-b", 1)], 5) == [held("run-b", 1)]
        await other.settle_many((), [in_doubt(1)])
        for run, late in ((one, 5), (other, 1)):
            assert (await run.claim_many(POST, (), late))[0].verdict is Verdict.HELD
        assert await one.claim_many(POST, (), 6) == [NEW]


@in_loop
async def test_a_late_release_ends_no_other_claim(open_ledger: OpenLedger) -> None:
    """L1: it ends the claim of its own token, and no later one of the same run."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        await one.claim_many(POST, (), 1)
        await one.settle_many((), [ReleasedClaim(POST[0], 1)])
        await one.claim_many(POST, (), 2)
        await one.settle_many((), [ReleasedClaim(POST[0], 1)])
        await one.settle_many((), [in_doubt(1)])
        assert await other.claim_many(POST) == [held("run-a", 2)]


@in_loop
async def test_the_later_claim_of_a_run_counts(open_ledger: OpenLedger) -> None:
    """C5: also where the numbers begin anew."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        for earlier, later in ((1, 2), (CLAIM_NUMBERS - 1, 3)):
            assert await one.claim_many(POST, (), earlier) == [NEW]
            assert await one.claim_many(POST, (), later) == [NEW]
            assert await one.claim_many(POST, (), earlier) == [held("run-a", later)]
            assert await other.claim_many(POST) == [held("run-a", later)]
            await one.settle_many((), [ReleasedClaim(POST[0], later)])


@in_loop
async def test_dead_is_a_token_and_not_a_run(open_ledger: OpenLedger) -> None:
    """C6: a claim that a run took after it came back is not taken over with its old ones."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        await one.claim_many(KEYS[:1], (), 1)
        await one.claim_many(KEYS[1:2], (), 2)
        dead = [claim_token("run-a", 1)]
        assert await other.claim_many(KEYS[:2], dead) == [TAKEN_OVER, held("run-a", 2)]


@in_loop
async def test_a_renewal_makes_no_claim(open_ledger: OpenLedger) -> None:
    """N1: neither where there is none any more, nor of a later token or another run's."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        assert await one.renew_many(POST, [1]) == 0
        assert await other.claim_many(POST, (), 1) == [NEW]
        assert await one.renew_many(POST, [1]) == 0
        assert await other.renew_many(POST, [0]) == 0
        assert await other.renew_many(POST, [1]) == 1
        await other.settle_many((), [ReleasedClaim(POST[0], 1)])
        assert await other.renew_many(POST, [1]) == 0
        assert await one.claim_many(POST) == [NEW]


@in_loop
async def test_a_connection_that_is_given_up_is_aborted() -> None:
    """The kernel sends nothing more of it: the other side meets a reset, not an orderly end."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"valkey://127.0.0.1:{mute.getsockname()[1]}"
        server = Client(url, url, {}, timeout=0.4)
        with pytest.raises(LedgerUnavailableError):
            await server.ask(command("GET", "a"))
        await server.close()
        connection, _ = mute.accept()
        with connection, pytest.raises(ConnectionResetError):
            _read_to_the_end(connection)


def _read_to_the_end(connection: socket.socket) -> None:
    connection.settimeout(PATIENCE)
    while connection.recv(4096):
        pass


# -- a run's own claims ----------------------------------------------------------------------------


@in_loop
async def test_a_question_without_a_reply_leaves_no_ghost(runs: Runs, server: ValkeyServer) -> None:
    """R4, L2: a claim that was asked for twice is given back so that no copy can come to life."""
    with FaultyProxy(server.port) as proxy:
        there = f"valkey://127.0.0.1:{proxy.port}"
        async with runs.open(url=there, timeout=1) as one, runs.open(wait=0) as other:
            proxy.swallow_replies = True
            asking = asyncio.create_task(one.claim(KEYS[0]))
            await until(lambda: runs.claims)
            proxy.swallow_replies = False
            claim = await asking
            assert isinstance(claim, Claim)
            assert claim.in_doubt
            claim.release()
            await one.flush()
            copy = Ledger(one._access.connection._server, runs.namespace, one.run, retention=60)
            await copy.claim_many(POST, (), claim.number)
            assert runs.claims == {}
            mine = await other.claim(KEYS[0])
            assert isinstance(mine, Claim)
            mine.release()


@in_loop
async def test_who_is_told_held_leaves_no_ghost(runs: Runs, server: ValkeyServer) -> None:
    """R5: a late copy of a question whose answer was HELD makes no claim when the post is free."""
    with FaultyProxy(server.port) as proxy:
        there = f"valkey://127.0.0.1:{proxy.port}"
        async with runs.open(url=there, timeout=1, wait=0) as one, runs.open() as other:
            holds = await other.claim(KEYS[0])
            proxy.swallow_replies = True
            asking = asyncio.create_task(one.claim(KEYS[0]))
            await until(lambda: one._posts.get(KEYS[0]).in_doubt)
            proxy.swallow_replies = False
            assert await asking is Verdict.HELD
            await one.flush()
            holds.release()
            await other.flush()
            copy = Ledger(one._access.connection._server, runs.namespace, one.run, retention=60)
            await copy.claim_many(POST, (), 1)
            assert runs.claims == {}


@in_loop
async def test_a_cancelled_question_is_released_after_it(runs: Runs, server: ValkeyServer) -> None:
    """R5: the release does not overtake the question that is being tried again."""
    async with runs.open() as one, runs.open() as other:
        server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        asking = asyncio.create_task(one.claim(KEYS[0]))
        ask = one._posts._questions._claims
        await until(lambda: ask._calls and "NOREPLICAS" in str(server.ask("INFO", "errorstats")))
        asking.cancel()
        await asyncio.wait([asking])
        server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        await one.flush()
        assert runs.claims == {}
        claim = await other.claim(KEYS[0])
        assert isinstance(claim, Claim)
        claim.confirm()


@in_loop
async def test_a_known_post_that_the_ledger_lost_leaves_no_claim(
    runs: Runs, server: ValkeyServer
) -> None:
    """R5: a run that answers from its own memory gives back what its question may have got."""
    with FaultyProxy(server.port) as proxy:
        there = f"valkey://127.0.0.1:{proxy.port}"
        async with runs.open(url=there, timeout=0.5) as one, runs.open() as other:
            first = await one.claim(KEYS[0])
            first.confirm()
            await one.flush()
            runs.raw.delete(*runs.raw.keys("vd1:{n:*"))
            proxy.swallow_replies = True
            assert await one.claim(KEYS[0]) is Verdict.SEEN
            assert runs.claims
            proxy.swallow_replies = False
            await until(lambda: not runs.claims)
            second = await other.claim(KEYS[0])
            assert isinstance(second, Claim)
            second.confirm()


@in_loop
async def test_a_release_that_was_kept_is_delivered(runs: Runs, server: ValkeyServer) -> None:
    """O2: also if the post was asked for anew, unchecked, while Valkey was away."""
    async with runs.open(timeout=0.5) as one:
        first = await one.claim(KEYS[0])
        server.freeze()
        first.release()
        await until(lambda: one._outage)
        second = await one.claim(KEYS[0])
        assert isinstance(second, Claim)
        server.thaw()
        await until(lambda: not one._outage)
        second.release()
        await one.flush()
        assert runs.claims == {}


def test_the_end_of_a_release_is_not_that_of_a_confirm() -> None:
    """R1: a post that was stored since stays the run's own until Valkey knows of that."""
    in_flight, key = InFlightClaims(1, lambda: False), KEYS[0]
    in_flight.add(Claim(key, None))
    in_flight.settle(key, stored=True)
    in_flight.acknowledge([key], stored=False)
    assert key in in_flight
    in_flight.acknowledge([key], stored=True)
    assert key not in in_flight


@in_loop
async def test_who_claims_is_alive_first(runs: Runs) -> None:
    """R3: after a freeze a run beats before it claims anything."""
    async with runs.open(**QUICK) as one:
        await silence(one)
        runs.raw.delete(runs.beat_name(one))
        (await one.claim(KEYS[0])).release()
        assert runs.beat_of(one) is None  # its last beat was a moment ago, by its own clock
        steady, wall = one._heartbeat._beaten
        for frozen in ((steady - 1.1, wall - 1.1), (steady, wall - 3600)):  # stopped, suspended
            one._heartbeat._beaten = frozen
            runs.raw.delete(runs.beat_name(one))
            (await one.claim(KEYS[1])).release()
            assert runs.beat_of(one) is not None
            await one.flush()


# -- renewal ---------------------------------------------------------------------------------------


@in_loop
async def test_a_renewal_does_not_keep_a_run_from_beating(runs: Runs) -> None:
    """R6, R7: however long it takes, the heartbeat goes on."""
    async with runs.open(**QUICK) as one:
        claim = await one.claim(KEYS[0])
        begun, go = asyncio.Event(), asyncio.Event()

        async def slow(*_: Any) -> int:
            begun.set()
            await go.wait()
            return 1

        one._posts._ledger.renew_many = slow
        one._access._upkeep._renewed_at -= one._access.shelves.ledger.claim_lifetime
        await begun.wait()
        before = runs.beat_of(one)
        await until(lambda: runs.beat_of(one) >= before + 4)
        go.set()
        claim.confirm()


@in_loop
async def test_a_renewal_and_a_release_leave_nothing(runs: Runs) -> None:
    """R7: a renewal that comes after the release of the same moment makes no claim."""
    async with runs.open() as one:
        claim = await one.claim(KEYS[0])
        renew = one._posts._ledger.renew_many
        begun, go = asyncio.Event(), asyncio.Event()

        async def late(*asked: Any) -> int:
            begun.set()
            await go.wait()
            return await renew(*asked)

        one._posts._ledger.renew_many = late
        renewing = asyncio.create_task(one._posts.renew())
        await begun.wait()
        claim.release()
        await one.flush()
        go.set()
        await renewing
        assert runs.claims == {}


@in_loop
async def test_a_renewal_remembers_nothing(runs: Runs) -> None:
    """R7: with "claimed" no post that is being asked for is recorded by it: each is stored."""
    async with runs.open(confirm="claimed") as one:
        for start in range(0, 100, 20):
            asking = [asyncio.create_task(one._posts.claim(key)) for key in KEYS[start:][:20]]
            for _ in range(4):
                await asyncio.sleep(0)
                await one._posts.renew()
            assert await asyncio.gather(*asking) == [Verdict.NEW] * 20


@in_loop
async def test_what_is_seen_in_doubt_leaves_no_claim(runs: Runs, server: ValkeyServer) -> None:
    """R5: an attempt has claimed the post; another run's confirm came before the next one."""
    with FaultyProxy(server.port or 0) as proxy:
        url = f"valkey://127.0.0.1:{proxy.port}"
        async with runs.open(url=url, timeout=4) as one, runs.open() as other:
            proxy.swallow_replies = True
            asking = asyncio.create_task(one.claim(KEYS[0]))
            await until(lambda: runs.claims)
            await other._posts._ledger.confirm_many(POST)
            proxy.swallow_replies = False
            assert await asking is Verdict.SEEN
            await one.flush()
            assert runs.claims == {}


# -- waiting for others ----------------------------------------------------------------------------


def test_what_is_a_sign_of_life() -> None:
    """W3: a beat newer than the end of WAIT and than the one noted; one that goes back is none."""
    wait = HolderWait(0, longest_step=60)
    assert not wait.is_over(b"T")
    for beat in (b"7", b"7", UNKNOWN, b"3", b"3 idle"):
        assert wait.look(beat) == b""
        assert not wait.lives
        assert not wait.is_over(b"T")
    assert wait.look(b"4") == b""
    assert wait.lives
    assert wait.is_over(b"T")
    assert wait.look(None) == b"T"


def test_a_beat_within_the_time_to_wait_is_no_sign_of_life() -> None:
    """W3: however often its holder beats before the end of WAIT, it may have died since."""
    wait = HolderWait(3600, longest_step=60)
    for number in range(9):
        assert not wait.is_over(b"T")
        wait.look(b"%d" % number)
        assert not wait.lives
    assert not wait.is_over(b"T2")


def test_another_token_is_judged_anew() -> None:
    """W4: its run may have been killed since, or its message have come late: W3 begins anew."""
    wait = HolderWait(0, longest_step=60)
    assert not wait.is_over(b"T")
    wait.look(b"1")
    assert not wait.is_over(b"T2")
    wait.look(b"1")
    assert not wait.lives
    wait.look(b"2")
    assert wait.lives
    assert wait.is_over(b"T2")


def test_what_is_dead() -> None:
    """W1, W2, W5: no beat, but in the grace; and what stays the same for longer than it can."""
    detector = FailureDetector(grace=10, lifetime=30)
    assert detector.judge("run", b"1", in_grace=False) == b"1"
    assert detector.judge("run", None, in_grace=True) == UNKNOWN
    assert detector.judge("run", None, in_grace=False) is None
    for beat, limit in ((None, 20), (b"2", 40)):
        for _ in range(limit):
            assert detector.judge("run", beat, in_grace=True) == (beat or UNKNOWN)
            detector._observed["run"].last -= 1
        assert detector.judge("run", beat, in_grace=True) is None
        assert detector.judge("run", b"3", in_grace=True) == b"3"


@in_loop
async def test_a_dead_runs_post_is_not_dropped(runs: Runs) -> None:
    """W3: a holder that was seen alive, and dies before the end of WAIT, holds nothing."""
    changes = QUICK | {"wait": 2}
    async with runs.open(**changes) as dead, runs.open(**changes) as other:
        await dead.claim(KEYS[0])
        asking = asyncio.create_task(other.claim(KEYS[0]))
        first = runs.beat_of(dead)
        await until(lambda: runs.beat_of(dead) > first + 1)
        await silence(dead)
        claim = await asking
        assert isinstance(claim, Claim)
        claim.confirm()


@in_loop
async def test_a_beat_that_finds_none_before_it_begins_a_grace(runs: Runs) -> None:
    """W2: the server's clock has stepped, say; it must not matter who beats again first."""
    async with runs.open(**QUICK) as one, runs.open(**QUICK) as other:
        for run in (one, other):
            await silence(run)
            runs.raw.delete(runs.beat_name(run))
        other._heartbeat._grace_began = 0.0
        await other._heartbeat.beat(other._access.shelves.ledger)
        assert await other._heartbeat.of(one.run) == UNKNOWN


@in_loop
async def test_who_should_have_beaten_judges_nobody(runs: Runs) -> None:
    """W1: a run that was frozen for longer than LEASE may have slept through an outage."""
    async with runs.open(**QUICK) as one, runs.open(**QUICK) as other:
        await silence(one)
        await silence(other)
        runs.raw.delete(runs.beat_name(one))
        other._heartbeat._grace_began = 0.0
        steady, wall = other._heartbeat._beaten
        other._heartbeat._beaten = steady - QUICK["lease"], wall - QUICK["lease"]
        before = runs.beat_of(other)
        assert await other._heartbeat.of(one.run) == UNKNOWN
        assert runs.beat_of(other) > before


@in_loop
async def test_a_newcomer_has_its_grace(runs: Runs) -> None:
    """W2: a run that starts takes no run for dead whose heartbeat an outage may have ended."""
    async with runs.open(**QUICK) as one:
        await one.claim(KEYS[0])
        await silence(one)
        runs.raw.delete(runs.beat_name(one))
        async with runs.open(**QUICK | {"lease": 5}) as newcomer:
            asking = asyncio.create_task(newcomer.claim(KEYS[0]))
            seen = newcomer._heartbeat._detector._observed
            await until(lambda: one.run in seen and seen[one.run].seconds > 0.2)
            assert seen[one.run].beat is None
            await revive(one)
            assert await asking is Verdict.HELD


@in_loop
async def test_a_clock_that_steps_kills_nobody(runs: Runs) -> None:
    """W2: a run that does not find its own heartbeat takes no run for dead: all expired at once."""
    async with runs.open(**QUICK) as one, runs.open(**QUICK) as other:
        held = [await one.claim(key) for key in KEYS[:20]]
        other._heartbeat._grace_began -= 3600
        steps = 0
        asking = [asyncio.create_task(other.claim(key)) for key in KEYS[:20]]
        while steps < 5:
            runs.raw.delete(runs.beat_name(one), runs.beat_name(other))
            steps += 1
            await asyncio.sleep(0.1)
        assert set(await asyncio.gather(*asking)) == {Verdict.HELD}
        for claim in held:
            claim.confirm()


@in_loop
async def test_a_flickering_valkey_ends_the_waiting(runs: Runs, server: ValkeyServer) -> None:
    """W5: a dead run's post is had in the end, though no grace is ever over."""
    with FaultyProxy(server.port) as proxy:
        there = f"valkey://127.0.0.1:{proxy.port}"
        async with (
            runs.open(**QUICK) as dead,
            runs.open(**QUICK | {"url": there, "on_outage": "pause", "timeout": 0.3}) as other,
        ):
            await dead.claim(KEYS[0])
            await silence(dead)
            asking = asyncio.create_task(other.claim(KEYS[0]))
            began = time.monotonic()
            while not asking.done():
                proxy.swallow = True
                await asyncio.sleep(0.4)
                proxy.swallow = False
                await until(lambda: not other._outage)
                await asyncio.wait([asking], timeout=0.5)
                assert time.monotonic() - began < PATIENCE
            claim = await asking
            assert isinstance(claim, Claim)
            claim.confirm()


@in_loop
async def test_a_heartbeat_lasts_for_what_may_go_wrong(runs: Runs) -> None:
    """S4: LEASE, and the interval before it, and the TIMEOUT in which a beat is tried again."""
    began = time.monotonic()
    async with runs.open(lease=12, timeout=7, wait=6) as one:
        left = runs.raw.pttl(runs.beat_name(one))
        assert 22_000 - 1000 * (time.monotonic() - began) - 2 <= left <= 22_000


# -- forgetting ------------------------------------------------------------------------------------


@in_loop
async def test_what_is_over_is_forgotten_too(
    open_ledger: OpenLedger, valkey: ValkeyServer, namespace: str
) -> None:
    """An old generation that a clock steps back to, buckets and all, is without the forgotten."""
    async with open_ledger(retention=60) as ledger:
        await ledger.confirm_many(KEYS[:2])
        with valkey_py.Valkey.from_url(valkey.url) as raw:
            for name in raw.keys(f"vd1:{{{namespace}:*"):
                place, _, bucket = name.partition(b"}:")
                if bucket:
                    end, _, path = bucket.partition(b":")
                    over = b"0000000000001"
                    raw.rename(name, place + b"}:" + over + b":" + path)
                    raw.persist(place + b"}:" + over + b":" + path)
                    raw.set(place + b"}", end + b"1" + over + b"1")
            await ledger.forget_many(KEYS[:1])
            assert await ledger.seen_many(KEYS[:2]) == [False, True]
