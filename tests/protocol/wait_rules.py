"""How an item waits for another run: rules W of docs/ledger.md, each a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol import checks
from tests.protocol.run_rules import Steps, drop, excuse
from tests.protocol.state import Life, Phase, Reply, Run, Sight, State

if TYPE_CHECKING:
    from tests.protocol.model import Model

_LONG = 2  # times the grace


def told_held(model: Model, state: State, number: int) -> Steps:
    """The reply is HELD: by whom."""
    item = state.items[number]
    if item.reply is not Reply.HELD:
        return
    clean = {"phase": Phase.HELD, "reply": Reply.NOTHING, "holder": None}
    if item.told is None or (item.told != item.holder and not item.late):
        yield "is told HELD", state.item(number, told=item.holder, missing=0, **clean)
    elif item.told != item.holder:
        yield from model.rule["W4"](model, state, number)
    elif item.sight is Sight.LIFE:
        checks.check_held(model, state, number)
        yield "is told HELD and dropped", drop(model, state, number, known=False)
    else:
        yield "is told HELD again", state.item(number, dead=None, **clean)


def w1(model: Model, state: State, number: int) -> Steps:
    run, holder = state.runs[model.run_of[number]], state.items[number].told
    if run.life is not Life.UP or run.outage or state.away or holder is None:
        return
    own, other = model.rule["B2"](state, model.run_of[number], holder.run)
    if not other and own and not run.grace and model.rule["W1 alive"](run):
        yield "finds its holder dead", state.item(number, phase=Phase.ASK, dead=holder)


def w1_alive(run: Run) -> bool:
    """Whether a run may judge: not if it should beat first (R3)."""
    return run.fresh


def w2(model: Model, state: State, number: int) -> Steps:
    run, item = state.runs[model.run_of[number]], state.items[number]
    if run.life is not Life.UP or run.outage or state.away or item.told is None:
        return
    own, other = model.rule["B2"](state, model.run_of[number], item.told.run)
    if not own and not run.grace and model.rule["W2 grace"]("a look"):
        yield "does not find its own beat", state.run(model.run_of[number], grace=True)
    if not other and run.grace and model.flickers and model.may_be_silent(state, item.told.run):
        if item.missing + 1 < _LONG:
            yield (
                "misses its holder's beat for the grace",
                state.item(number, missing=item.missing + 1),
            )
        else:
            if state.runs[item.told.run].life is Life.UP:
                state = excuse(state, model.post_of[number], checks.X5)
            yield (
                "misses its holder's beat for twice the grace",
                state.item(number, phase=Phase.ASK, dead=item.told),
            )


def w3(model: Model, state: State, number: int) -> Steps:
    run, item = state.runs[model.run_of[number]], state.items[number]
    if run.life is not Life.UP or run.outage or state.away or item.told is None:
        return
    _, other = model.rule["B2"](state, model.run_of[number], item.told.run)
    if other and item.late:
        if item.sight is Sight.GREATER:
            yield (
                "sees that its holder lives",
                state.item(number, phase=Phase.ASK, sight=Sight.LIFE),
            )
        elif item.sight in (Sight.NOT_NOTED, Sight.SMALLER):
            yield "notes its holder's beat", state.item(number, sight=Sight.SAME)


def w4(model: Model, state: State, number: int) -> Steps:
    item = state.items[number]
    new = {"told": item.holder, "sight": Sight.NOT_NOTED, "alive": False, "dead": None}
    new |= {"phase": Phase.HELD, "reply": Reply.NOTHING, "holder": None, "missing": 0}
    new["again"] = True
    yield "is told HELD by another token", state.item(number, **new)


def w5(model: Model, state: State, number: int) -> Steps:
    run, item = state.runs[model.run_of[number]], state.items[number]
    if run.life is not Life.UP or run.outage or state.away or item.told is None or not item.late:
        return
    holder = state.runs[item.told.run]
    unchanged = holder.life in (Life.KILLED, Life.ENDED_IN_OUTAGE)
    if holder.beat and unchanged:
        yield (
            "has seen its holder's beat unchanged for too long",
            state.item(number, phase=Phase.ASK, dead=item.told),
        )


def wait_is_over(model: Model, state: State, number: int) -> Steps:
    """WAIT passes."""
    run, item = state.runs[model.run_of[number]], state.items[number]
    if not item.late and run.life is Life.UP and not run.outage:
        yield "has waited for WAIT", state.item(number, late=True)


def asks_again(model: Model, state: State, number: int) -> Steps:
    """It looks at the claim now and then: here only when there is something new to be told."""
    run, item = state.runs[model.run_of[number]], state.items[number]
    post = state.posts[model.post_of[number]]
    is_news = post.claim != item.told or post.remembered or model.polls
    if run.life is Life.UP and not run.outage and is_news:
        yield "looks again", state.item(number, phase=Phase.ASK)
