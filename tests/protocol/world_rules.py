"""What happens around the items: beats, the ends of runs and of outages, and the time that passes.

Rules S, B, R6 to R8 and O2 of docs/ledger.md, and what no rule forbids. Time is coarse: what takes
its time may happen when the rules allow it, and not only then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.protocol import checks
from tests.protocol.run_rules import copies, excuse, token_of
from tests.protocol.state import (
    Kind,
    Life,
    Message,
    Outage,
    Phase,
    Run,
    Sight,
    State,
)

if TYPE_CHECKING:
    from tests.protocol.model import Model

Steps = Iterator[tuple[str, State]]

LONGER_THAN_A_BEAT = 2
CLAIM_TO_CONFIRM = frozenset(
    {Phase.ASK, Phase.ASKED, Phase.CANCELLED, Phase.HELD, Phase.WORK, Phase.STORED}
    | {Phase.CONFIRMING, Phase.KEPT_STORED}
)
_AFTER_A_BEAT = {Sight.SAME: Sight.GREATER, Sight.SMALLER: Sight.GREATER}
_KEPT = (Phase.KEPT_STORED, Phase.KEPT_FREE)


# -- S: what ends by itself ------------------------------------------------------------------------


def s1(model: Model, state: State, number: int) -> Steps:
    """A post is forgotten: by hand, or as the retention is over."""
    post = state.posts[number]
    if not post.remembered:
        return
    late = any(
        state.items[item].phase in (Phase.STORED, Phase.CONFIRMING, Phase.KEPT_STORED)
        for item in model.items_at[number]
    ) or any(each.kind is Kind.CONFIRM and each.post == number for each in state.net)
    state = state.post(number, remembered=False, stores=0)
    # What was on its way meanwhile may be in any storage, and nowhere.
    bits = checks.FORGOTTEN | (checks.X7 if late else 0) | copies(state, number)
    yield "is forgotten", excuse(state, number, bits)


def s2(model: Model, state: State, number: int) -> Steps:
    """A claim's day ends: its run could not renew it for half of it."""
    claim = state.posts[number].claim
    if claim is not None and state.away == LONGER_THAN_A_BEAT:
        state = excuse(state, number, checks.X5)
        yield "its claim ends, after a day", state.post(number, claim=None)


def s3(model: Model, state: State, number: int) -> Steps:
    """The hour is over."""
    post = state.posts[number]
    if post.given_back and post.claim is None:
        state = excuse(state, number, checks.X6)
        yield "what was given back is over", state.post(number, given_back=())


def q1_minute(model: Model, state: State, number: int) -> Steps:
    """The minute is over. A question is put again within less."""
    post = state.posts[number]
    asked = any(
        state.items[item].phase is Phase.ASKED and model.run_of[item] in model.scope.claimed
        for item in model.items_at[number]
    )
    if post.recorded and not asked:
        state = excuse(state, number, checks.X6)
        yield "the recorded answers are over", state.post(number, recorded=())


def s4(model: Model, state: State, number: int) -> Steps:
    """A beat ends by itself, when its run could not beat for all that time."""
    run = state.runs[number]
    gone = run.life in (Life.KILLED, Life.FROZEN_LONG, Life.ENDED, Life.ENDED_IN_OUTAGE)
    away = state.away == LONGER_THAN_A_BEAT and (
        run.outage is Outage.ALL or run.life is not Life.UP
    )
    if run.beat and (gone or away):
        yield "its beat ends", state.run(number, beat=False)


# -- B, R6, R8 -------------------------------------------------------------------------------------


def b1(state: State, number: int) -> State:
    state = state.run(number, beat=True)
    for at, item in enumerate(state.items):
        if item.told is not None and item.told.run == number and item.sight in _AFTER_A_BEAT:
            state = state.item(at, sight=_AFTER_A_BEAT[item.sight])
    return state


def b2(state: State, number: int, other: int) -> tuple[bool, bool]:
    return state.runs[number].beat, state.runs[other].beat


def b3(state: State, number: int) -> State:
    return state.run(number, beat=False, fresh=False)


def r3(run: Run) -> bool:
    """Whether a run may claim without beating first."""
    return run.fresh


def w2_grace(why: str) -> bool:
    """Whether a grace begins, for that reason."""
    return bool(why)


def is_noted(state: State, number: int) -> bool:
    """Whether somebody waits for the next beat."""
    for item in state.items:  # not any(): this is asked in nearly every state
        if item.told is not None and item.told.run == number and item.sight in _AFTER_A_BEAT:
            return True
    return False


def r6(model: Model, state: State, number: int) -> Steps:
    run = state.runs[number]
    if run.life is not Life.UP or run.outage or state.away:
        return
    if not run.beat or not run.fresh or is_noted(state, number):
        lost = (not run.beat and model.rule["W2 grace"]("a beat")) or (
            not run.fresh and model.rule["W2 grace"]("R3")
        )
        state = model.rule["B1"](state, number)
        yield "beats", state.run(number, fresh=True, grace=run.grace or lost)


def r7(model: Model, state: State, number: int) -> Steps:
    run = state.runs[number]
    if run.life is not Life.UP or run.outage or number in model.scope.claimed:
        return
    for item in model.items_of[number]:
        if state.items[item].phase in (Phase.ASKED, Phase.WORK, Phase.STORED):
            token = token_of(model, state, item)
            renewal = Message(Kind.RENEW, model.post_of[item], token)
            yield "renews a claim", state.send(renewal)


def r8(model: Model, state: State, number: int) -> Steps:
    run = state.runs[number]
    if run.life is not Life.UP or run.outage or state.away:
        return
    if checks.are_over(state, model.items_of[number]):
        state = model.rule["B3"](state, number)
        yield "ends", state.run(number, life=Life.ENDED, grace=False)


def begins(model: Model, state: State, number: int) -> Steps:
    """A run that begins late reaches Valkey: W2."""
    if state.runs[number].life is Life.LATER and not state.away:
        grace = model.rule["W2 grace"]("the start")
        state = state.run(number, life=Life.UP, fresh=True, grace=grace)
        yield "begins", model.rule["B1"](state, number)


def grace_is_over(model: Model, state: State, number: int) -> Steps:
    """In that time everyone who lives and reaches Valkey has beaten."""
    run = state.runs[number]
    if not (run.grace and run.beat) or run.life is not Life.UP or run.outage or state.away:
        return
    others = (other for at, other in enumerate(state.runs) if at != number)
    if all(other.beat or (other.life not in (Life.UP, Life.FROZEN)) for other in others) and all(
        other.outage is not Outage.ALL or other.life is not Life.UP for other in state.runs
    ):
        yield "its grace is over", state.run(number, grace=False)


# -- O ---------------------------------------------------------------------------------------------


def o1_notices(model: Model, state: State, number: int) -> Steps:
    """A beat gets no reply, because Valkey is away."""
    run = state.runs[number]
    if state.away and run.life is Life.UP and not run.outage:
        yield "notices the outage", state.run(number, outage=Outage.ALL)


def o2(model: Model, state: State, number: int) -> Steps:
    run = state.runs[number]
    if run.life is not Life.UP or not run.outage or state.away:
        return
    kept = [item for item in model.items_of[number] if state.items[item].phase in _KEPT]
    for at in kept:
        item = state.items[at]
        is_stored = item.phase is Phase.KEPT_STORED
        free = Kind.RELEASE_IN_DOUBT if item.in_doubt else Kind.RELEASE
        told = Message(
            Kind.CONFIRM if is_stored else free, model.post_of[at], token_of(model, state, at)
        )
        new, _, _ = model.execute(state, told)
        known = item.known or is_stored
        yield "delivers what was kept", new.put(at, checks.done(known))
    if not kept:
        grace = run.grace or model.rule["W2 grace"]("an outage")
        new = state.run(number, outage=Outage.NONE, fresh=True, grace=grace)
        yield "its outage is over", model.rule["B1"](new, number)


# -- what no rule is about -------------------------------------------------------------------------


def thaws(model: Model, state: State, number: int) -> Steps:
    """It does not know for how long it was frozen but by its clock."""
    run = state.runs[number]
    if run.life is Life.FROZEN:
        yield "goes on", state.run(number, life=Life.UP)
    if run.life is Life.FROZEN_LONG:
        yield "goes on", state.run(number, life=Life.UP, fresh=False)


def valkey_is_back(model: Model, state: State) -> Steps:
    """Or away for so long that every beat ends. All who could beat have noticed it by then."""
    if not state.away:
        return
    yield "is back", state._replace(away=0)
    noticed = all(run.life is not Life.UP or run.outage is Outage.ALL for run in state.runs)
    if state.away < LONGER_THAN_A_BEAT and noticed:
        state = state._replace(away=LONGER_THAN_A_BEAT)
        for number in range(len(state.runs)):
            state = state.run(number, fresh=False)
        yield "is away for longer than a beat lasts", state
