"""What real runs say on a real server, and are told, is a history that the model accepts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from bench.servers import FaultyProxy
from tests.protocol.acceptance import TOLD_HELD, Event, rejected
from tests.protocol.model import Model
from tests.protocol.scopes import ONE_EACH, TWINS
from tests.protocol.state import Scope
from tests.protocol.tape import Tape
from tests.support.patience import in_loop, until
from tests.support.runs import KEYS, Runs, silence

QUICK = {"lease": 1, "timeout": 0.6, "wait": 1}
_FAULTS = {"retry": 1, "giveup": 1}


def accept(tape: Tape, items: Sequence[tuple[int, int]], **more: Any) -> None:
    """The model, in which runs look again and again, takes all these steps."""
    model = Model(Scope("a trace", tuple(items), **more))
    model.polls = True
    assert not rejected(model, tape.events), tape.events


@asynccontextmanager
async def two_runs(
    runs: Runs, tape: Tape, **settings: Any
) -> AsyncIterator[tuple[Any, Any, FaultyProxy]]:
    """The first of them speaks through a proxy."""
    with FaultyProxy(int(runs.url.rpartition(":")[2])) as proxy:
        url = f"valkey://127.0.0.1:{proxy.port}"
        async with runs.open(url=url, **settings) as one, runs.open(**settings) as other:
            tape.watch(one, 0)
            tape.watch(other, 1)
            yield one, other, proxy


@pytest.mark.parametrize("seed", range(6))
@in_loop
async def test_twins_and_another_run(runs: Runs, seed: int) -> None:
    """Without faults, whatever becomes of the items."""
    chance, tape = random.Random(seed), Tape(TWINS, KEYS)
    async with two_runs(runs, tape, **QUICK) as (one, other, _):

        async def item(session: Any, run: int) -> str:
            await asyncio.sleep(chance.random() * 0.02)
            return await tape.item(session, run, 0, chance.choice(["stored", "fails"]))

        outcomes = await asyncio.gather(item(one, 0), item(one, 0), item(other, 1))
    assert "stored" in outcomes or outcomes.count("fails") == len(TWINS)
    accept(tape, TWINS)


@in_loop
async def test_a_living_run_is_left_alone(runs: Runs) -> None:
    """W3: after WAIT, and a beat after that, the post is dropped as held."""
    tape = Tape(ONE_EACH, KEYS)
    async with two_runs(runs, tape, **QUICK) as (one, other, _):
        claim = await one.claim(KEYS[0])
        assert await tape.item(other, 1, 0) == "held"
        tape._note(0, "is stored")
        claim.confirm()
    accept(tape, ONE_EACH)
    assert Event("B1", "is told HELD and dropped") in tape.events


@in_loop
async def test_a_killed_run_is_taken_over(runs: Runs) -> None:
    """W1: its claim is taken over, and no run drops its post."""
    tape = Tape(ONE_EACH, KEYS)
    async with two_runs(runs, tape, **QUICK) as (one, other, _):
        assert await tape.item(one, 0, 0, "killed") == "killed"
        await silence(one)
        tape.killed(0)
        assert await tape.item(other, 1, 0) == "stored"
        await other.flush()
        events = list(tape.events)
    tape.events = events  # what the run does that is not dead after all counts no more
    accept(tape, ONE_EACH, faults={"kill 0": 1})
    assert Event("B1", "is told TAKEN_OVER") in tape.events


def lose_next(session: Any, method: str, lose: Callable[[], None]) -> asyncio.Event:
    """Calls ``lose`` when the run next calls this method of its ledger; sets the event then."""
    ledger, lost = session._posts._ledger, asyncio.Event()
    call = getattr(ledger, method)

    async def lose_and_call(*arguments: Any, **others: Any) -> Any:
        if not lost.is_set():
            lose()
            lost.set()
        return await call(*arguments, **others)

    setattr(ledger, method, lose_and_call)
    return lost


@pytest.mark.parametrize("policy", ["pass", "pause"])
@pytest.mark.parametrize("lost", ["swallow", "swallow_replies"])
@pytest.mark.parametrize("when", ["question", "confirm", "release"])
@in_loop
async def test_an_outage(runs: Runs, policy: str, lost: str, when: str) -> None:
    """R2, R4, O1, O2: a question or what follows it is given up; then all goes on."""
    tape = Tape(ONE_EACH, KEYS)
    ending = "fails" if when == "release" else "stored"
    async with two_runs(runs, tape, on_outage=policy, **QUICK) as (one, other, proxy):
        method = "claim_many" if when == "question" else "settle_many"
        is_lost = lose_next(one, method, lambda: setattr(proxy, lost, True))
        asking = asyncio.ensure_future(tape.item(one, 0, 0, ending))
        await is_lost.wait()
        await until(lambda: one._outage)
        setattr(proxy, lost, False)
        await until(lambda: not one._outage)
        assert await asking == ending
        await one.flush()
        assert await tape.item(other, 1, 0) in ("stored", "seen")
    accept(tape, ONE_EACH, faults=_FAULTS, pause=policy == "pause")
    assert any(event.what.startswith("no reply") for event in tape.events)


@in_loop
async def test_an_item_that_is_cancelled_at_its_question(runs: Runs) -> None:
    """R5: its release comes after the question, and ends the claim."""
    tape = Tape(ONE_EACH, KEYS)
    async with two_runs(runs, tape, **QUICK) as (one, other, proxy):
        proxy.delay = 0.1
        asking = asyncio.ensure_future(tape.item(one, 0, 0))
        await until(lambda: Event("A0", "asks") in tape.events)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        tape.cancelled(0, 0)
        tape._at[0, KEYS[0]] = 0
        proxy.delay = 0.0
        await one.flush()
        assert await tape.item(other, 1, 0) == "stored"
    tape.events = [each for each in tape.events if each != Event("A0", "is told NEW")]
    accept(tape, ONE_EACH, faults={"cancel": 1})


GOOD = [Event("A0", "asks"), Event("A0", "is told NEW"), Event("A0", "is stored")]
GOOD += [Event("A", "is acknowledged"), Event("A", "ends")]
WAITS = [*GOOD[:2], Event("B1", "asks"), Event("B1", TOLD_HELD)]
DROPS = [Event("B1", "asks"), Event("B1", "is told HELD and dropped")]
BAD = {
    "R4: stored without a claim": [GOOD[0], GOOD[2]],
    "R4: a confirm that no run sent": [*GOOD[:2], GOOD[3]],
    "R8: ends before all is acknowledged": [*GOOD[:3], GOOD[4]],
    "C7: two claims": [*GOOD[:2], Event("B1", "asks"), Event("B1", "is told NEW")],
    "C1: new again": [*GOOD, Event("B1", "asks"), Event("B1", "is told NEW")],
    "R1: asks at once again": [*GOOD[:2], GOOD[0]],
    "W1: taken over from the living": [
        *WAITS,
        Event("B1", "asks"),
        Event("B1", "is told TAKEN_OVER"),
    ],
    "W3: dropped at the first look": [*GOOD[:2], *DROPS],
    "W3: dropped, its holder dead for long": [
        *GOOD[:2],
        Event("A", "is killed"),
        *WAITS[2:],
        *DROPS,
    ],
}


def test_a_good_history_is_accepted() -> None:
    """So that the histories below are rejected for their faults only."""
    model = Model(Scope("a trace", ONE_EACH, {"kill 0": 1}))
    model.polls = True
    assert not rejected(model, [*WAITS, *GOOD[2:], Event("B1", "asks")])
    assert not rejected(model, [*WAITS, *DROPS])
    killed = [*WAITS, Event("A", "is killed")]
    assert not rejected(model, [*killed, Event("B1", "asks"), Event("B1", "is told TAKEN_OVER")])


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_history_is_rejected(fault: str) -> None:
    """The model takes no step that the rules forbid."""
    model = Model(Scope("a trace", ONE_EACH, {"kill 0": 1}))
    model.polls = True
    last = len(BAD[fault])
    assert rejected(model, BAD[fault]).startswith(f"{last}. ")
