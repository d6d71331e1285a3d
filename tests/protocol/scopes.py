"""The configurations that are explored."""

from __future__ import annotations

from functools import partial

from tests.protocol.checks import HELD, LEFT, NEVER_STORED, ONCE, SEEN
from tests.protocol.state import Scope

ONE_EACH = ((0, 0), (1, 0))
TWINS = ((0, 0), (0, 0), (1, 0))
TWINS_EACH = ((0, 0), (0, 0), (1, 0), (1, 0))
TWO_POSTS = ((0, 0), (0, 1), (1, 1), (1, 0))
_B = frozenset({1})
_BOTH = frozenset({0, 1})
_paused = partial(Scope, pause=True)
_calm = partial(Scope, pause=True, fails=False, copies=False)
"""Without what other scopes are about."""

QUICK = [
    Scope("no fault, twins in both runs", TWINS_EACH),
    Scope("no fault, two posts", TWO_POSTS, fails=False),
    Scope("late and lost attempts", TWINS, {"retry": 1}),
    Scope("late and lost attempts, twice", ONE_EACH, {"retry": 2}),
    Scope("cancelled items", ONE_EACH, {"retry": 1, "cancel": 1}),
    Scope("a kill", TWINS, {"kill 0": 1}),
    Scope("a kill and a late attempt", ONE_EACH, {"retry": 1, "kill 0": 1}),
    Scope("a freeze shorter than LEASE", ONE_EACH, {"freeze 0": 1}),
    Scope("a freeze", TWINS, {"freeze_long 0": 1}),
    Scope("a freeze and a late attempt", ONE_EACH, {"retry": 1, "freeze_long 0": 1}),
    Scope("an outage, pass", ONE_EACH, {"giveup": 1}),
    Scope("an outage, pause", ONE_EACH, {"giveup": 1}, pause=True),
    _paused("outages and late attempts, pause", ONE_EACH, {"giveup": 2}),
    _calm("cut off alone, pause", ONE_EACH, {"giveup": 1, "lapse": 1, "cut 0": 1}),
    _calm("Valkey away for long, pause", ONE_EACH, {"away": 1}),
    _calm("Valkey away for long, pause, a run begins late", ONE_EACH, {"away": 1}, later=_B),
    _calm(
        "Valkey away for long, pause, a freeze",
        ONE_EACH,
        {"away": 1, "freeze_long 1": 1},
        slow=True,
    ),
    _paused("a run ends in an outage", ONE_EACH, {"giveup": 1, "end_in_outage 0": 1}),
    Scope("the server's clock steps", ONE_EACH, {"step": 1}),
    Scope("the server's clock steps, a run begins late", ONE_EACH, {"step": 1}, later=_B),
    Scope("a failover", ONE_EACH, {"failover": 1}),
    Scope("a post is evicted", ONE_EACH, {"evict": 1}),
    Scope("a post is evicted, pause", ((0, 0), (0, 0)), {"evict": 1, "giveup 0": 1}, pause=True),
    Scope("renewal", ONE_EACH, {"renew": 1, "retry": 1}),
    Scope("a post is forgotten", ONE_EACH, {"forget": 1, "retry": 1}),
    Scope("copies more than an hour late", ONE_EACH, {"hour": 1, "retry": 1}),
    _calm("Valkey away for half a claim's day", ONE_EACH, {"away": 1, "day": 1}),
    _calm("Valkey flickers for one run", ONE_EACH, {"kill 0": 1, "lapse 1": -1}),
    Scope("late beats", ONE_EACH, {"kill 0": 1, "late_beat 0": 1}),
    Scope("claimed", TWINS, {"retry": 2}, fails=False, claimed=_BOTH),
    Scope("claimed, renewal", TWINS, {"renew": 1, "retry": 1}, fails=False, claimed=_BOTH),
    Scope("claimed, an outage", TWINS, {"giveup": 1, "retry": 1}, fails=False, claimed=_BOTH),
    Scope("claimed beside confirmed", TWINS, {"retry": 1}, claimed=_B),
    Scope(
        "claimed, copies more than a minute late", ONE_EACH, {"retry": 1, "minute": 1}, claimed=_B
    ),
]
SLOW = [
    _calm("Valkey flickers for both", ONE_EACH, {"away": 1, "lapse 1": 1}, slow=True),
    Scope("no fault, two posts, all may fail", TWO_POSTS, slow=True),
    Scope("cancelled items, twins", TWINS, {"retry": 1, "cancel": 1}, slow=True),
    Scope("twins, late attempts, twice", TWINS, {"retry": 2}, slow=True),
    Scope("a failover and a late attempt", ONE_EACH, {"failover": 1, "retry": 1}, slow=True),
    Scope("a failover, twins", TWINS, {"failover": 1}, slow=True),
    Scope("renewal, twins", TWINS, {"renew": 1, "retry": 1}, slow=True),
    Scope("a kill, twins, late attempts", TWINS, {"retry": 1, "kill 0": 1}, slow=True),
    Scope("a freeze, twins, late attempts", TWINS, {"retry": 1, "freeze_long 0": 1}, slow=True),
    _paused("cut off alone, pause, late copies", ONE_EACH, {"giveup": 1, "cut 0": 1}, slow=True),
    _paused("away for long, pause, late copies", ONE_EACH, {"away": 1}, later=_B, slow=True),
    Scope("away for long, pass", ONE_EACH, {"away": 1}, slow=True),
    Scope("a post is forgotten, twins", TWINS, {"forget": 1, "retry": 1}, slow=True),
]
HUGE = [
    _paused(
        "away for long, pause, a freeze, late copies",
        ONE_EACH,
        {"away": 1, "freeze_long 1": 1},
        slow=True,
    ),
    Scope("an outage, pass, twins", TWINS, {"giveup": 1, "retry": 1}, slow=True),
    Scope("an outage, pause, twins", TWINS, {"giveup": 1, "retry": 1}, pause=True, slow=True),
]
"""A million states and two gigabytes: too much for every day."""
SCOPES = QUICK + SLOW + HUGE
NAMED = {scope.name: scope for scope in SCOPES}

EXCEPTIONS = [
    ("X1", "a kill", ONCE),
    ("X1", "a freeze", ONCE),
    ("X1", "cut off alone, pause", ONCE),
    ("X2", "an outage, pass", ONCE),
    ("X2", "claimed, an outage", ONCE),
    ("X3", "a run ends in an outage", ONCE),
    ("X4", "a failover", ONCE),
    ("X4", "a post is evicted", ONCE),
    ("X5", "Valkey flickers for both", ONCE),
    ("X5", "the server's clock steps", ONCE),
    ("X5", "Valkey away for half a claim's day", ONCE),
    ("X6", "copies more than an hour late", LEFT),
    ("X6", "claimed, copies more than a minute late", SEEN),
    ("X6", "a failover", LEFT),
    ("X6", "a post is forgotten", LEFT),
    ("X6", "late beats", HELD),
    ("X7", "a post is forgotten", NEVER_STORED),
]
"""The exceptions of docs/ledger.md, each of their ways: where and for what they are needed."""
