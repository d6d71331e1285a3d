"""What goes wrong, each as often as the scope's budget says. None of it is anybody's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tests.protocol import checks
from tests.protocol.run_rules import copies, excuse, given_up, message, settle
from tests.protocol.state import (
    WAITS_FOR_A_REPLY,
    Item,
    Kind,
    Life,
    Message,
    Outage,
    Phase,
    Reply,
    Sight,
    State,
    Token,
)
from tests.protocol.world_rules import CLAIM_TO_CONFIRM

if TYPE_CHECKING:
    from tests.protocol.model import Model

Steps = Iterator[tuple[str, State]]
_FAILED_OVER = {Sight.SAME: Sight.SMALLER, Sight.GREATER: Sight.SMALLER}


def abandoned(model: Model, state: State, number: int) -> State:
    """The attempt under way is given up: it may still arrive, or never."""
    for each in state.net:
        if each.item == number:
            state = state.without(each)
            if model.scope.copies:
                state = state.send(each._replace(item=-1))
    return state


def _kind_of(model: Model, number: int, item: Item) -> Kind:
    if item.phase is Phase.CONFIRMING:
        return Kind.CONFIRM
    if item.phase is Phase.RELEASING:
        return Kind.RELEASE_IN_DOUBT if item.in_doubt else Kind.RELEASE
    return Kind.QUESTION if model.run_of[number] in model.scope.claimed else Kind.CLAIM


def retry(model: Model, state: State, run: int) -> Steps:
    """No reply within half of TIMEOUT."""
    if state.runs[run].life is not Life.UP:
        return
    for number in model.items_of[run]:
        item = state.items[number]
        if item.phase in WAITS_FOR_A_REPLY:
            new = abandoned(model, state, number)
            is_claim = item.phase in (Phase.ASKED, Phase.CANCELLED)
            new = new.item(
                number, reply=Reply.NOTHING, holder=None, in_doubt=item.in_doubt or is_claim
            )
            again = message(model, new, number, _kind_of(model, number, item))
            yield "no reply: tries again", new.send(again)


def giveup(model: Model, state: State, run: int) -> Steps:
    """No reply within TIMEOUT."""
    if state.runs[run].life is not Life.UP:
        return
    for number in model.items_of[run]:
        if state.items[number].phase in WAITS_FOR_A_REPLY:
            new = abandoned(model, state, number)
            yield "no reply: gives it up", given_up(model, new, number)


def lapse(model: Model, state: State, run: int) -> Steps:
    """A beat gets no reply."""
    if state.runs[run].life is Life.UP and not state.runs[run].outage:
        yield "a beat gets no reply", state.run(run, outage=Outage.ALONE)


def cut(model: Model, state: State, run: int) -> Steps:
    """Cut off alone for longer than a beat lasts."""
    if state.runs[run].life is Life.UP and state.runs[run].outage is Outage.ALONE:
        state = _disturbed(model, state, run)
        yield "is cut off for longer than LEASE", state.run(run, beat=False, fresh=False)


def _disturbed(model: Model, state: State, run: int) -> State:
    for number in model.items_of[run]:
        if state.items[number].phase in CLAIM_TO_CONFIRM:
            state = state.item(number, cut=True)
    return state


def kill(model: Model, state: State, run: int) -> Steps:
    if state.runs[run].life not in (Life.UP, Life.FROZEN):
        return
    for number in model.items_of[run]:
        item = state.items[number]
        if item.phase is not Phase.DONE:
            state = abandoned(model, state, number)
            state = excuse(state, model.post_of[number], checks.FAILED)
            state = state.put(number, Item(Phase.DONE))
    yield "is killed", state.run(run, life=Life.KILLED, grace=False, outage=Outage.NONE)


def freeze(model: Model, state: State, run: int) -> Steps:
    if state.runs[run].life is Life.UP:
        yield "freezes", state.run(run, life=Life.FROZEN)


def freeze_long(model: Model, state: State, run: int) -> Steps:
    if state.runs[run].life is Life.UP:
        state = _disturbed(model, state, run)
        yield "freezes for longer than LEASE", state.run(run, life=Life.FROZEN_LONG)


def cancel(model: Model, state: State, run: int) -> Steps:
    if state.runs[run].life is not Life.UP:
        return
    for number in model.items_of[run]:
        phase = state.items[number].phase
        new = excuse(state, model.post_of[number], checks.FAILED)
        if phase is Phase.ASKED:
            new = model.rule["R5 cancel"](model, new, number)
            yield "an item is cancelled at its question", new
        if phase in (Phase.ASK, Phase.HELD):
            new = settle(model, new, number, stored=False, known=False)
            yield "an item is cancelled", new


def late_beat(model: Model, state: State, run: int) -> Steps:
    """A beat that will come late."""
    if state.runs[run].life is Life.UP:
        yield "a beat is late", state.send(Message(Kind.BEAT, 0, Token(run, 0)))


def end_in_outage(model: Model, state: State, run: int) -> Steps:
    """X3: confirmations wait on the disk; releases die with the run."""
    items = [state.items[number] for number in model.items_of[run]]
    done = (Phase.DONE, Phase.KEPT_STORED, Phase.KEPT_FREE)
    if not state.runs[run].outage or any(item.phase not in done for item in items):
        return
    if state.runs[run].life is not Life.UP:
        return
    for number in model.items_of[run]:
        item = state.items[number]
        if item.phase is Phase.KEPT_STORED:
            token = Token(run, item.number)
            state = state.send(Message(Kind.CONFIRM, model.post_of[number], token))
        state = state.put(number, checks.done(known=True))
    yield (
        "ends in an outage",
        state.run(run, life=Life.ENDED_IN_OUTAGE, outage=Outage.NONE, grace=False),
    )


def away(model: Model, state: State) -> Steps:
    if not state.away:
        yield "goes away", state._replace(away=1)


def failover(model: Model, state: State) -> Steps:
    """The last write to each post is lost; the last beats too, or all of them."""
    for number, post in enumerate(state.posts):
        if post.before is not None:
            remembered, claim, given_back = post.before
            lost_release = given_back != post.given_back or claim not in (None, post.claim)
            bits = checks.X6 if lost_release else copies(state, number)
            state = excuse(state, number, checks.X4 | bits)
            state = state.post(
                number, remembered=remembered, claim=claim, given_back=given_back, before=None
            )
    for number, item in enumerate(state.items):
        if item.sight in _FAILED_OVER:
            state = state.item(number, sight=_FAILED_OVER[item.sight])
    yield "fails over: last writes are lost", state
    for number in range(len(state.posts)):
        state = excuse(state, number, checks.X4)
    for number in range(len(state.runs)):
        state = state.run(number, beat=False)
    yield "fails over: last writes and all beats are lost", state


def evict(model: Model, state: State) -> Steps:
    """A post is gone, and its claims are not."""
    for number, post in enumerate(state.posts):
        if post.remembered:
            new = excuse(state, number, checks.X4 | copies(state, number))
            yield "evicts a post", new.post(number, remembered=False)


def step(model: Model, state: State) -> Steps:
    """Its clock steps ahead: all beats are over, or just the older ones."""
    gone = state
    for number in range(len(state.runs)):
        gone = gone.run(number, beat=False)
    yield "its clock steps: all beats are over", gone
    for number in range(len(state.posts)):
        state = excuse(state, number, checks.X5)
    for number in range(len(state.runs)):
        yield f"its clock steps: the beat of run {number} is over", state.run(number, beat=False)


OF_A_RUN: dict[str, Callable[[Model, State, int], Steps]] = {
    "retry": retry,
    "giveup": giveup,
    "lapse": lapse,
    "cut": cut,
    "kill": kill,
    "freeze": freeze,
    "freeze_long": freeze_long,
    "cancel": cancel,
    "late_beat": late_beat,
    "end_in_outage": end_in_outage,
}
OF_VALKEY: dict[str, Callable[[Model, State], Steps]] = {
    "away": away,
    "failover": failover,
    "evict": evict,
    "step": step,
}
UNLIMITED = -1
