"""What must hold in every state, and which exception of docs/ledger.md excuses what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.protocol.state import ALIVE, AT_THE_POST, Item, Life, Phase, State, Token

if TYPE_CHECKING:
    from tests.protocol.model import Model

X1, X2, X3, X4, X5, X6, X7 = (1 << number for number in range(1, 8))
FAILED = 1 << 8
"""An item failed, was cancelled or was killed: the post need not be stored."""
FORGOTTEN = 1 << 9
"""What was stored before that counts no more."""
ALL = X1 | X2 | X3 | X4 | X5 | X6 | X7 | FAILED | FORGOTTEN

ONCE, NEVER_STORED, SEEN, HELD, LEFT, LOST, ENDLESS = (
    "stored twice",
    "remembered, never stored",
    "dropped as SEEN, never stored",
    "dropped as HELD, and nobody holds it",
    "a claim of a run that ended well",
    "stored by nobody",
    "a wait without an end",
)
EXCUSED_BY = {
    ONCE: X1 | X2 | X3 | X4 | X5,
    NEVER_STORED: X7,
    SEEN: FORGOTTEN,
    HELD: X6,
    LEFT: X6,
    LOST: FAILED | FORGOTTEN | X6,
    ENDLESS: 0,
}
"""Each exception excuses just this."""


class Violation(Exception):  # noqa: N818 (it is what the explorer looks for)
    """Something that must hold does not."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def fail_unless(holds: bool, what: str, excuses: int, model: Model) -> None:  # noqa: FBT001
    """Raises a violation, unless it is excused."""
    if not holds and not excuses & EXCUSED_BY[what] & model.allowed:
        raise Violation(what)


def is_at_the_post(state: State, token: Token | None, model: Model) -> bool:
    """Whether the token is an item's that is at the post, in a run that is alive."""
    if token is None or state.runs[token.run].life not in ALIVE:
        return False
    return any(
        item.first <= token.number <= item.number and item.phase in AT_THE_POST
        for item in (state.items[number] for number in model.items_of[token.run])
    )


def check_seen(model: Model, state: State, item: int) -> None:
    """A post is dropped as stored: somebody has, or will, where it is remembered at once."""
    post = state.posts[model.post_of[item]]
    others = (each for each in model.items_at[model.post_of[item]] if each != item)
    will_be = any(
        state.items[other].phase in (Phase.ASK, Phase.ASKED, Phase.WORK)
        and model.run_of[other] in model.scope.claimed
        for other in others
    )
    copies_record = bool(model.scope.claimed and post.excuses & X6 & model.allowed)
    fail_unless(post.stores > 0 or will_be or copies_record, SEEN, post.excuses, model)


def check_held(model: Model, state: State, number: int) -> None:
    """A post is dropped as held: after WAIT its holder has been alive, and at the post."""
    post, item = state.posts[model.post_of[number]], state.items[number]
    fail_unless(item.alive or post.stores > 0, HELD, post.excuses, model)


def watched(model: Model, state: State) -> State:
    """The state, with what is true noted in it."""
    for number, item in enumerate(state.items):
        waits = item.late and not item.alive and item.phase is not Phase.DONE
        if waits and is_at_the_post(state, item.told, model):
            state = state.item(number, alive=True)
    return state


def are_over(state: State, numbers: Iterable[int]) -> bool:
    """Whether nothing more comes of these items."""
    for number in numbers:  # noqa: SIM110 (this is asked in nearly every state, and all() is slow)
        if state.items[number].phase is not Phase.DONE:
            return False
    return True


def check(model: Model, state: State) -> None:
    """Of every state."""
    for number, post in enumerate(state.posts):
        fail_unless(post.stores < 2, ONCE, post.excuses, model)
        if not model.scope.claimed:
            fail_unless(not post.remembered or post.stores > 0, NEVER_STORED, post.excuses, model)
        if post.claim is not None:
            ended_well = state.runs[post.claim.run].life is Life.ENDED
            fail_unless(not ended_well, LEFT, post.excuses, model)
        if are_over(state, model.items_at[number]):
            fail_unless(post.stores > 0, LOST, post.excuses, model)


def check_end(model: Model, state: State) -> None:
    """Of a state in which nothing happens any more, but for faults: no item waits."""
    for number, item in enumerate(state.items):
        waits = item.phase is not Phase.DONE and state.runs[model.run_of[number]].life in ALIVE
        fail_unless(not waits, ENDLESS, 0, model)


def done(known: bool) -> Item:  # noqa: FBT001
    """An item of which nothing more comes. ``known``: its run knows that the post is stored."""
    return Item(Phase.DONE, known=known)
