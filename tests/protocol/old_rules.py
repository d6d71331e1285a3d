"""The rules as they were, each the root of a fault that issue 11 tells of, and what it leads to.

And the rules as they were first written down, where the explorer found a hole in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.protocol import checks, faults, run_rules, server_rules, wait_rules, world_rules
from tests.protocol.run_rules import settle, token_of
from tests.protocol.state import (
    Kind,
    Life,
    Message,
    Outage,
    Phase,
    Reply,
    Sight,
)


@dataclass(frozen=True)
class Old:
    """Rules put back, and what goes wrong in which scope."""

    name: str
    rules: dict[str, Callable[..., Any]] = field(repr=False)
    scope: str
    leads_to: str


def _never(*_: Any) -> Any:
    return None


def _always(*_: Any) -> bool:
    return True


def _no(*_: Any) -> bool:
    return False


def _records_at_renewal(model, state, number):
    yield from world_rules.r7(model, state, number)
    for item in model.items_of[number]:
        if state.items[item].phase is Phase.ASKED and number in model.scope.claimed:
            name = 100 + state.items[item].asks
            token = token_of(model, state, item)
            question = Message(Kind.QUESTION, model.post_of[item], token, name=name)
            yield "renews a claim", state.send(question)


def _claims_at_renewal(post, message):
    for rule in (server_rules.c1, server_rules.c3, server_rules.c4):
        outcome = rule(post, message)
        if outcome is not None:
            return outcome
    return None


def _any_beat_is_life(model, state, number):
    run, item = state.runs[model.run_of[number]], state.items[number]
    if run.life is not Life.UP or run.outage or item.told is None:
        return
    _, other = model.rule["B2"](state, model.run_of[number], item.told.run)
    if other and item.sight is Sight.GREATER and item.late:
        yield "saw its holder alive", state.item(number, phase=Phase.ASK, sight=Sight.LIFE)
    elif other and item.sight is Sight.NOT_NOTED:
        yield "notes its holder's beat", state.item(number, sight=Sight.SAME)


def _releases_any(post, message):
    if post.claim is None or post.claim.run != message.token.run:
        return None
    return post._replace(claim=None), (Reply.DONE, None)


def _the_very_token(post, message):
    return (post._replace(claim=None), (Reply.DONE, None)) if post.claim == message.token else None


def _releases_at_once(model, state, number):
    return settle(model, faults.abandoned(model, state, number), number, stored=False, known=False)


def _dead_is_a_run(post, message):
    if post.claim is None or post.claim.run not in [token.run for token in message.dead]:
        return None
    return post._replace(claim=message.token), (Reply.TAKEN_OVER, None)


def _short_lease(model, state, number):
    yield from world_rules.s4(model, state, number)
    if state.runs[number].life is Life.FROZEN and state.runs[number].beat:
        yield "its beat ends", state.run(number, beat=False)


def _shorter_than_timeout(model, state, number):
    yield from world_rules.s4(model, state, number)
    run = state.runs[number]
    if state.away and run.beat and run.outage is Outage.NONE:
        yield "its beat ends, and it has not noticed", state.run(number, beat=False)


def _not_at(*whys: str) -> Callable[[str], bool]:
    return lambda why: why not in whys


def _begins_to_count_again(model, state, number):
    for what, new in run_rules.o1_waits(model, state, number):
        yield what, new.item(number, missing=0)


def _not_from_memory(item):
    return item.in_doubt and item.reply is not Reply.NOTHING


def _from_memory_only(item):
    return item.in_doubt and item.reply is Reply.NOTHING


def _drops_at_once(model, state, number):
    for _, new in wait_rules.w4(model, state, number):
        checks.check_held(model, checks.watched(model, new), number)
        yield (
            "is told HELD by another token, and dropped",
            run_rules.drop(model, new, number, known=False),
        )


def _after_so_long(model, state, number):
    """The item's own time is over, no matter who holds the claim since when."""
    item = state.items[number]
    yield from wait_rules.w5(model, state, number)
    if item.late and item.again and item.sight is not Sight.LIFE and not state.away:
        yield "has waited for too long", state.item(number, phase=Phase.ASK, dead=item.told)


OLD = [
    Old("2: renewal records", {"R7": _records_at_renewal}, "claimed, renewal", checks.SEEN),
    Old("3: renewal claims", {"N1": _claims_at_renewal}, "renewal", checks.LEFT),
    Old("5: any beat is life", {"W3": _any_beat_is_life}, "a kill", checks.HELD),
    Old(
        "6: a late claim stays",
        {"C2": _never, "L2": _never},
        "late and lost attempts, twice",
        checks.LEFT,
    ),
    Old(
        "6: a late release ends a twin's claim",
        {"L1": _releases_any},
        "late and lost attempts",
        checks.ONCE,
    ),
    Old(
        "6: a release overtakes its claim",
        {"R5 cancel": _releases_at_once},
        "cancelled items",
        checks.LEFT,
    ),
    Old("6: dead is a run", {"C6": _dead_is_a_run}, "a freeze", checks.ONCE),
    Old(
        "6: claims without a beat after a freeze",
        {"R3": _always},
        "a freeze",
        checks.ONCE,
    ),
    Old(
        "7: a beat lasts for LEASE, a freeze",
        {"S4": _short_lease},
        "a freeze shorter than LEASE",
        checks.ONCE,
    ),
    Old(
        "7: a beat lasts for less than TIMEOUT",
        {"S4": _shorter_than_timeout, "W2 grace": _no},
        "Valkey away for long, pause",
        checks.ONCE,
    ),
    Old(
        "7: no grace at the start",
        {"W2 grace": _not_at("the start")},
        "Valkey away for long, pause, a run begins late",
        checks.ONCE,
    ),
    Old(
        "7: no look at the own beat",
        {"W2 grace": _not_at("a look", "a beat")},
        "the server's clock steps",
        checks.ONCE,
    ),
    Old(
        "8: each outage restarts the wait",
        {"O1 waits": _begins_to_count_again},
        "Valkey flickers for one run",
        checks.ENDLESS,
    ),
    Old(
        "9: an answer from memory leaves a claim",
        {"R5 doubt": _not_from_memory},
        "a post is evicted, pause",
        checks.LEFT,
    ),
]
FIRST_WRITTEN = [
    Old(
        "L1: only the very token is released",
        {"L1": _the_very_token},
        "outages and late attempts, pause",
        checks.LEFT,
    ),
    Old(
        "R5: what is dropped as HELD or SEEN leaves a claim in doubt",
        {"R5 doubt": _from_memory_only},
        "late and lost attempts, twice",
        checks.LEFT,
    ),
    Old(
        "W2: a beat does not tell that the one before is lost",
        {"W2 grace": _not_at("a beat")},
        "the server's clock steps",
        checks.ONCE,
    ),
    Old(
        "W1: a run judges before it beats again",
        {"W1 alive": _always},
        "Valkey away for long, pause, a freeze",
        checks.ONCE,
    ),
    Old(
        "W2: no grace when a run finds that it should have beaten",
        {"W2 grace": _not_at("R3")},
        "Valkey away for long, pause, a freeze",
        checks.ONCE,
    ),
    Old("W5: the item's own time counts", {"W5": _after_so_long}, "a kill", checks.ONCE),
    Old(
        "W4: another token after WAIT is life",
        {"W4": _drops_at_once},
        "a kill, twins, late attempts",
        checks.HELD,
    ),
]
