"""What Valkey keeps, what the runs know, what is on its way: immutable, a key of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

CIRCLE = 1 << 24
"""The numbers of a run go round."""


class Token(NamedTuple):
    """What tells one claim from any other: the run, and a number that it counts up."""

    run: int
    number: int


class Reply(IntEnum):
    """What Valkey answers."""

    NOTHING = 0
    NEW = 1
    SEEN = 2
    HELD = 3
    TAKEN_OVER = 4
    DONE = 5


class Kind(IntEnum):
    """What a message asks for."""

    CLAIM = 0
    QUESTION = 1
    """A claim with ``CONFIRM = "claimed"``: it records."""
    CONFIRM = 2
    RELEASE = 3
    RELEASE_IN_DOUBT = 4
    RENEW = 5
    BEAT = 6


class Phase(IntEnum):
    """How far an item has come."""

    START = 0
    ASK = 1
    """It is to be asked for, now or when an outage is over."""
    ASKED = 2
    CANCELLED = 3
    """Its question is under way, and no item waits for the answer."""
    HELD = 4
    WORK = 5
    STORED = 6
    """In the storage; no other part knows it yet."""
    CONFIRMING = 7
    RELEASING = 8
    KEPT_STORED = 9
    KEPT_FREE = 10
    DONE = 11


class Life(IntEnum):
    """How a run is."""

    LATER = 0
    """It begins later."""
    UP = 1
    FROZEN = 2
    """For less than ``LEASE``."""
    FROZEN_LONG = 3
    KILLED = 4
    ENDED = 5
    """Well: all is settled, and it has left."""
    ENDED_IN_OUTAGE = 6


class Outage(IntEnum):
    """What keeps a run from asking."""

    NONE = 0
    ALONE = 1
    """The run is cut off, the others are not."""
    ALL = 2
    """Valkey was away for everybody."""


class Sight(IntEnum):
    """What a waiting item knows of its holder's beat, compared with the beat that stands now."""

    NOT_NOTED = 0
    SAME = 1
    GREATER = 2
    SMALLER = 3
    LIFE = 4
    """A look has found a greater one."""


class Post(NamedTuple):
    """What Valkey keeps of a post (S1, S2, S3); then what is true of it, which no part knows."""

    remembered: bool = False
    claim: Token | None = None
    given_back: tuple[Token, ...] = ()
    recorded: tuple[tuple[Any, ...], ...] = ()
    """The answers of Q1."""
    stores: int = 0
    excuses: int = 0
    """The exceptions that have come about, as bits."""
    before: Any = None
    """What a failover falls back to."""


class Run(NamedTuple):
    """A run: its beat in Valkey (S4), and what it knows itself."""

    life: Life = Life.UP
    beat: bool = True
    fresh: bool = True
    """It beat less than ``LEASE`` ago, by its own clock."""
    grace: bool = False
    outage: Outage = Outage.NONE


class Item(NamedTuple):
    """An item on its way through a run's pipelines."""

    phase: Phase = Phase.START
    number: int = 0
    """Of its newest question."""
    in_doubt: bool = False
    reply: Reply = Reply.NOTHING
    holder: Token | None = None
    """In the reply, or what it waits for."""
    told: Token | None = None
    late: bool = False
    """``WAIT`` is over."""
    sight: Sight = Sight.NOT_NOTED
    missing: int = 0
    """For so many times the grace the holder's beat was missing."""
    again: bool = False
    """It is told of another token since ``WAIT`` was over."""
    dead: Token | None = None
    asks: int = 0
    """How many questions it has put, where the name of a question counts."""
    known: bool = False
    """The run knows that the post is stored."""
    first: int = 0
    """The number of its first question."""
    cut: bool = False
    """No part knows it: the run was frozen or cut off for longer than ``LEASE`` at this item."""
    alive: bool = False
    """No part knows it: since ``WAIT`` was over the holder has been alive and at the post."""


class Message(NamedTuple):
    """On its way to Valkey; ``item`` waits for the reply, -1: none does."""

    kind: Kind
    post: int
    token: Token
    dead: tuple[Token, ...] = ()
    item: int = -1
    name: int = 0
    """Of a question that records: tells it from the run's next one."""


class State(NamedTuple):
    """All there is. ``budget``: how often each fault may still come."""

    posts: tuple[Post, ...]
    runs: tuple[Run, ...]
    items: tuple[Item, ...]
    net: tuple[Message, ...]
    away: int
    """Of Valkey: 1 for a while, 2 for longer than a beat lasts."""
    budget: tuple[int, ...]

    # Made of their parts, not with _replace: so it takes half the time, and this is what the
    # explorer does most.

    def put(self, at: int, item: Item) -> State:
        """The same with one item replaced."""
        posts, runs, items, net, away, budget = self
        return State(posts, runs, (*items[:at], item, *items[at + 1 :]), net, away, budget)

    def post(self, at: int, /, **changes: Any) -> State:
        """The same with one post changed."""
        posts, runs, items, net, away, budget = self
        posts = (*posts[:at], changed(posts[at], changes), *posts[at + 1 :])
        return State(posts, runs, items, net, away, budget)

    def run(self, at: int, /, **changes: Any) -> State:
        """The same with one run changed."""
        posts, runs, items, net, away, budget = self
        runs = (*runs[:at], changed(runs[at], changes), *runs[at + 1 :])
        return State(posts, runs, items, net, away, budget)

    def item(self, at: int, /, **changes: Any) -> State:
        """The same with one item changed."""
        posts, runs, items, net, away, budget = self
        items = (*items[:at], changed(items[at], changes), *items[at + 1 :])
        return State(posts, runs, items, net, away, budget)

    def send(self, message: Message) -> State:
        """The same with one message more on its way; in no order."""
        posts, runs, items, net, away, budget = self
        return State(posts, runs, items, tuple(sorted((*net, message))), away, budget)

    def without(self, message: Message) -> State:
        """The same with one message less."""
        posts, runs, items, net, away, budget = self
        at = net.index(message)
        return State(posts, runs, items, (*net[:at], *net[at + 1 :]), away, budget)


_AT = {kind: {name: at for at, name in enumerate(kind._fields)} for kind in (Post, Run, Item)}


def changed(part: Any, changes: dict[str, Any]) -> Any:
    """A post, run or item with other values: _replace, in half the time."""
    values, at = [*part], _AT[type(part)]
    for name, value in changes.items():
        values[at[name]] = value
    return tuple.__new__(type(part), values)


AT_THE_POST = frozenset(
    {Phase.ASK, Phase.ASKED, Phase.CANCELLED, Phase.HELD, Phase.WORK, Phase.STORED}
    | {Phase.CONFIRMING, Phase.RELEASING, Phase.KEPT_STORED}
)
"""From the question until Valkey has acknowledged what became of it, or until a release is kept."""
WAITS_FOR_A_REPLY = frozenset({Phase.ASKED, Phase.CANCELLED, Phase.CONFIRMING, Phase.RELEASING})
ALIVE = frozenset({Life.UP, Life.FROZEN, Life.FROZEN_LONG})


@dataclass(frozen=True)
class Scope:
    """One configuration: who meets which posts, and what may go wrong how often."""

    name: str
    items: tuple[tuple[int, int], ...]
    """Run and post of each item."""
    faults: dict[str, int] = field(default_factory=dict)
    pause: bool = False
    fails: bool = True
    """Items may fail in the storage."""
    claimed: frozenset[int] = frozenset()
    """Runs with ``CONFIRM = "claimed"``."""
    later: frozenset[int] = frozenset()
    """Runs that begin at any time."""
    copies: bool = True
    """An attempt that was given up may arrive late."""
    slow: bool = False

    def begin(self) -> State:
        """Where it all begins."""
        runs = 1 + max(run for run, _ in self.items)
        later = Run(Life.LATER, beat=False, fresh=False)
        return State(
            posts=tuple(Post() for _ in {post for _, post in self.items}),
            runs=tuple(later if run in self.later else Run() for run in range(runs)),
            items=tuple(Item() for _ in self.items),
            net=(),
            away=0,
            budget=tuple(self.faults.values()),
        )
