"""What a run does with its items: rules R, Q3 and O of docs/ledger.md, each a function.

A step of an item yields what happens and the state after it. Nothing happens in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.protocol import checks
from tests.protocol.state import (
    AT_THE_POST,
    Item,
    Kind,
    Life,
    Message,
    Outage,
    Phase,
    Reply,
    State,
    Token,
)

if TYPE_CHECKING:
    from tests.protocol.model import Model

Steps = Iterator[tuple[str, State]]

_NEW = (Reply.NEW, Reply.TAKEN_OVER)


# -- what several rules do -------------------------------------------------------------------------


def token_of(model: Model, state: State, number: int) -> Token:
    """The token of an item."""
    return Token(model.run_of[number], state.items[number].number)


def message(model: Model, state: State, number: int, kind: Kind) -> Message:
    """What an item has to say."""
    item, dead = state.items[number], state.items[number].dead
    asks = kind in (Kind.CLAIM, Kind.QUESTION)
    named = item.asks if kind is Kind.QUESTION else 0
    token = token_of(model, state, number)
    return Message(
        kind, model.post_of[number], token, (dead,) if asks and dead else (), number, named
    )


def later_number(model: Model, state: State, number: int) -> int:
    """One later than any that the run has used for the post and of which there is a trace left.

    (A number without a trace may come again: it makes no difference.)
    """
    run, post = model.run_of[number], model.post_of[number]
    if model.endless and state.items[number].number:
        return state.items[number].number  # there are no copies, and the states must have an end
    kept = state.posts[post]
    tokens = [kept.claim, *kept.given_back, *(entry[0] for entry in kept.recorded)]
    tokens += [each.token for each in state.net if each.post == post]
    tokens += [token for each in state.net if each.post == post for token in each.dead]
    for at in model.items_at[post]:
        item = state.items[at]
        tokens += [item.told, item.dead, item.holder]
        tokens.append(Token(model.run_of[at], item.number))
    return 1 + max((token.number for token in tokens if token and token.run == run), default=0)


def settle(model: Model, state: State, number: int, *, stored: bool, known: bool) -> State:
    """Confirms or releases; during an outage that is kept (O2)."""
    if state.runs[model.run_of[number]].outage:
        phase = Phase.KEPT_STORED if stored else Phase.KEPT_FREE
    else:
        phase = Phase.CONFIRMING if stored else Phase.RELEASING
    item = state.items[number]
    # What it waited for counts no more.
    doubt = item.in_doubt and not stored
    new = {"phase": phase, "number": item.number, "first": item.first, "in_doubt": doubt}
    left = Item(**new, known=known, cut=item.cut)
    state = state.put(number, left)
    if phase is Phase.CONFIRMING:
        return state.send(message(model, state, number, Kind.CONFIRM))
    if phase is Phase.RELEASING:
        kind = Kind.RELEASE_IN_DOUBT if item.in_doubt else Kind.RELEASE
        return state.send(message(model, state, number, kind))
    return state


def drop(model: Model, state: State, number: int, *, known: bool) -> State:
    """Nothing is stored."""
    if model.rule["R5 doubt"](state.items[number]):
        return settle(model, state, number, stored=False, known=known)
    return state.put(number, checks.done(known))


def excuse(state: State, post: int, bits: int) -> State:
    """An exception has come about."""
    return state.post(post, excuses=state.posts[post].excuses | bits)


def copies(state: State, post: int) -> int:
    """X6 as a bit, if copies of claims are on their way to a post that Valkey knows nothing of."""
    asks = (Kind.CLAIM, Kind.QUESTION)
    return checks.X6 * any(each.kind in asks and each.post == post for each in state.net)


def pass_unchecked(model: Model, state: State, number: int) -> State:
    """Goes on as if the reply had been NEW; but what the run knows to be stored is dropped."""
    if is_known(model, state, number):
        checks.check_seen(model, state, number)
        return drop(model, state, number, known=True)
    state = excuse(state, model.post_of[number], checks.X2)
    return state.item(number, phase=Phase.WORK, reply=Reply.NOTHING, holder=None)


def is_known(model: Model, state: State, number: int) -> bool:
    """Whether the run knows that the post is stored, by another of its items."""
    return any(state.items[twin].known for twin in model.twins_of[number])


# -- R ---------------------------------------------------------------------------------------------


def r1(model: Model, state: State, number: int) -> Steps:
    if state.runs[model.run_of[number]].life is not Life.UP:
        return
    for twin in model.twins_of[number]:
        phase = state.items[twin].phase
        if twin < number and phase is Phase.START:  # twins are alike: the first begins first
            return
        if phase in (Phase.CONFIRMING, Phase.KEPT_STORED):
            checks.check_seen(model, state, number)
            yield (
                "learns from a twin that it is stored",
                state.item(number, phase=Phase.DONE, known=True),
            )
            return
        if phase in AT_THE_POST:
            return
    if model.polls and is_known(model, state, number):  # it waited for a twin that was told so
        yield (
            "learns from a twin that it is stored",
            state.item(number, phase=Phase.DONE, known=True),
        )
    yield "begins", state.item(number, phase=Phase.ASK)


def r2(model: Model, state: State, number: int) -> Steps:
    run = state.runs[model.run_of[number]]
    if run.life is not Life.UP or run.outage or not model.rule["R3"](run):
        return
    claimed = model.run_of[number] in model.scope.claimed
    item = state.items[number]
    later = later_number(model, state, number)
    new = {"phase": Phase.ASKED, "number": later, "first": item.first or later}
    new |= {"reply": Reply.NOTHING, "holder": None, "asks": item.asks + claimed}
    state = state.item(number, **new)
    kind = Kind.QUESTION if claimed else Kind.CLAIM
    yield "asks", state.send(message(model, state, number, kind))


def r4(model: Model, state: State, number: int) -> Steps:
    item = state.items[number]
    if item.reply in _NEW:
        kept = {"first": item.first, "in_doubt": item.in_doubt, "cut": item.cut}
        clean = Item(Phase.WORK, item.number, **kept)
        yield "is told " + item.reply.name, state.put(number, clean)
    elif item.reply is Reply.SEEN:
        checks.check_seen(model, state, number)
        yield "is told SEEN and dropped", drop(model, state, number, known=True)


def r4_work(model: Model, state: State, number: int) -> Steps:
    post = state.posts[model.post_of[number]]
    stored = state.post(model.post_of[number], stores=min(post.stores + 1, 2))
    if model.run_of[number] in model.scope.claimed:
        yield "is stored", stored.put(number, checks.done(known=True))
        return
    yield "is stored", stored.item(number, phase=Phase.STORED)
    if model.scope.fails:
        failed = excuse(state, model.post_of[number], checks.FAILED)
        yield "fails", settle(model, failed, number, stored=False, known=False)


def r4_stored(model: Model, state: State, number: int) -> Steps:
    yield "is confirmed", settle(model, state, number, stored=True, known=True)


def r4_settled(model: Model, state: State, number: int) -> Steps:
    if state.items[number].reply is Reply.DONE:
        known = state.items[number].known
        yield "is acknowledged", state.put(number, checks.done(known))


def r5(item: Item) -> bool:
    """Whether an item that is dropped gives its token back."""
    return item.in_doubt


def r5_cancelled(model: Model, state: State, number: int) -> Steps:
    if state.items[number].reply is not Reply.NOTHING:
        yield (
            "was cancelled, its question has ended",
            settle(model, state, number, stored=False, known=False),
        )


# -- O, Q ------------------------------------------------------------------------------------------


def o1(model: Model, state: State, number: int) -> Steps:
    run = state.runs[model.run_of[number]]
    if run.life is Life.UP and run.outage and not model.scope.pause:
        yield "passes unchecked", pass_unchecked(model, state, number)


def o1_waits(model: Model, state: State, number: int) -> Steps:
    """An item that waits for another run, when the outage begins."""
    run = state.runs[model.run_of[number]]
    if run.life is Life.UP and run.outage:
        yield "can look at nothing any more", state.item(number, phase=Phase.ASK)


def given_up(model: Model, state: State, number: int) -> State:
    """No reply came within TIMEOUT: O1 for a question, O2 for a settlement."""
    run = model.run_of[number]
    item = state.items[number]
    if not state.runs[run].outage:
        state = state.run(run, outage=Outage.ALL if state.away else Outage.ALONE)
    if item.phase is Phase.CONFIRMING:
        return state.item(number, phase=Phase.KEPT_STORED, reply=Reply.NOTHING)
    if item.phase is Phase.RELEASING:
        return state.item(number, phase=Phase.KEPT_FREE, reply=Reply.NOTHING)
    state = state.item(number, in_doubt=True, reply=Reply.NOTHING, holder=None)
    if item.phase is Phase.CANCELLED:
        return settle(model, state, number, stored=False, known=False)
    if run in model.scope.claimed and model.rule["Q3"]():
        return pass_unchecked(model, state, number)
    if is_known(model, state, number):
        return pass_unchecked(model, state, number)
    return state.item(number, phase=Phase.ASK)


def q3() -> bool:
    """Whether a question that was given up is never put again."""
    return True
