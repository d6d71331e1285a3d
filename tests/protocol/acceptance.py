"""Whether the model accepts what real runs have said and were told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tests.protocol import checks
from tests.protocol.model import Model
from tests.protocol.state import State


class Event(NamedTuple):
    """What was seen of a run. ``who``: as in the model's labels, or the run alone."""

    who: str
    what: str


TOLD_HELD = "is told HELD"
_ALSO = {
    TOLD_HELD: ("is told HELD", "is told HELD again", "is told HELD by another token"),
    "is acknowledged": ("is acknowledged", "delivers what was kept"),
}
SEEN_OF_RUNS = frozenset(
    {"asks", "is told NEW", "is told TAKEN_OVER", "is told SEEN and dropped", *_ALSO[TOLD_HELD]}
    | {"is told HELD and dropped", "no reply: gives it up", "is stored", "fails", "is killed"}
    | {*_ALSO["is acknowledged"], "learns from a twin that it is stored", "ends"}
    | {"an item is cancelled at its question"}
)
"""Of these nothing escapes: the model may take no such step but when it was seen."""


def rejected(model: Model, events: Iterable[Event], limit: int = 200_000) -> str:
    """The first event that no state allows, or nothing. What cannot be seen may happen any time."""
    states = _with_unseen(model, {model.scope.begin()}, limit)
    for number, event in enumerate(events, 1):
        after: set[State] = set()
        for state in states:
            for (_, who, what), new in model.steps(state):
                if what in _ALSO.get(event.what, (event.what,)) and _is_same(who, event.who):
                    after.add(checks.watched(model, new))
        if not after:
            return f"{number}. {event.who} {event.what}"
        states = _with_unseen(model, after, limit)
    return ""


def _is_same(who: str, seen: str) -> bool:
    return who == seen or who == seen[0] or seen == who[0]


def _with_unseen(model: Model, states: set[State], limit: int) -> set[State]:
    found, left = set(states), list(states)
    while left:
        for (_, _, what), raw in model.steps(left.pop()):
            if what not in SEEN_OF_RUNS:
                new = checks.watched(model, raw)
                if new not in found:
                    found.add(new)
                    left.append(new)
        assert len(found) < limit, "too many states: a smaller scope"
    return found
