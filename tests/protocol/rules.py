"""The one table of the protocol: each rule of docs/ledger.md, its words, and what the model does.

``test_protocol_model.py`` holds the docs to it, the explorer runs it, the real scripts and
traces of real runs are compared with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.protocol import run_rules as run
from tests.protocol import server_rules as server
from tests.protocol import wait_rules as waiting
from tests.protocol import world_rules as world


class Rule(NamedTuple):
    """One rule: its text in docs/ledger.md, and its functions by their names."""

    words: str
    does: dict[str, Callable[..., Any]]


def _fault_of_cancel(model: Any, state: Any, number: int) -> Any:
    """A cancelled item releases when its question has ended."""
    return state.item(number, phase=run.Phase.CANCELLED)


TABLE: dict[str, Rule] = {
    "S1": Rule(
        "`remembered(P)`: yes or no. Only a confirm, a forget and the end of the "
        "retention change it.",
        {"S1": world.s1},
    ),
    "S2": Rule(
        "`claim(P)`: none, or a token. A **token** is a run and a number. The run increases "
        "the number with each question (which may be about many posts), so two questions of "
        "one run for the same post never have the same token. A claim ends by itself after a "
        "day.",
        {"S2": world.s2},
    ),
    "S3": Rule(
        "`given_back(P)`: tokens that were released while a copy of their question may still "
        "be on its way. At most one for each run, its newest. They are kept for an hour, or "
        "for as long as a claim on `P` is open.",
        {"S3": world.s3},
    ),
    "S4": Rule(
        "`beat(R)`: none, or a number that `R` increases. It expires `LEASE` + `TIMEOUT` + "
        "one interval after it was written. The interval is a third of `LEASE`, or half of "
        "`WAIT` (1 second at least) if that is shorter.",
        {"S4": world.s4},
    ),
    "C1": Rule("`remembered(P)`: reply SEEN.", {"C1": server.c1}),
    "C2": Rule(
        "`given_back(P)` has a token `(R, m)` with `m >= n`: a late copy. Nothing "
        "changes, reply HELD.",
        {"C2": server.c2},
    ),
    "C3": Rule("`claim(P)` is none: `claim(P) := (R, n)`, reply NEW.", {"C3": server.c3}),
    "C4": Rule("`claim(P)` is `(R, n)`: reply NEW. (The same question again.)", {"C4": server.c4}),
    "C5": Rule(
        "`claim(P)` is `(R, m)`: if `m < n`, `claim(P) := (R, n)` and reply NEW, since within "
        "a run the later claim counts; otherwise nothing changes, reply HELD.",
        {"C5": server.c5},
    ),
    "C6": Rule("`claim(P)` is in `D`: `claim(P) := (R, n)`, reply TAKEN OVER.", {"C6": server.c6}),
    "C7": Rule("Otherwise reply HELD, with the token that holds it.", {"C7": server.c7}),
    "F1": Rule("`remembered(P) := yes`, in any case.", {"F1": server.f1}),
    "F2": Rule(
        "If `claim(P)` is a token of `R`: `claim(P)` and `given_back(P) := none`. (Whatever "
        "its number: the post is remembered, so no claim on it counts any more. That is why a "
        "confirm needs no number.)",
        {"F2": server.f2},
    ),
    "L1": Rule(
        "If `claim(P)` is a token `(R, m)` with `m <= n`: `claim(P) := none`. (The item may "
        "have asked twice, and only its first question may have arrived.)",
        {"L1": server.l1},
    ),
    "L2": Rule(
        "If it is in doubt: `(R, n)` replaces an older token of `R` in `given_back(P)`.",
        {"L2": server.l2},
    ),
    "N1": Rule(
        "If `claim(P)` is `(R, n)`: its day starts again. A renewal never makes a claim.",
        {"N1": server.n1},
    ),
    "B1": Rule("Beat of `R`: `beat(R) :=` the next number, for the time of S4.", {"B1": world.b1}),
    "B2": Rule(
        "Look of `R` at other runs: reads their beats *and its own* at one moment.",
        {"B2": world.b2},
    ),
    "B3": Rule("Leave of `R`: `beat(R) := none`.", {"B3": world.b3}),
    "Q1": Rule(
        "A question with the same name was answered within the last minute: the same reply.",
        {"Q1": server.q1, "Q1 minute": world.q1_minute},
    ),
    "Q2": Rule(
        "`remembered(P)`: SEEN. `claim(P)` is a token of another run and not in `D`: HELD. "
        "Otherwise `remembered(P) := yes`, `claim(P) := none`, reply NEW or TAKEN OVER.",
        {"Q2": server.q2},
    ),
    "Q3": Rule(
        "The question is repeated for a minute at most, and never after it was given up: then "
        "the post passes unchecked.",
        {"Q3": run.q3},
    ),
    "R1": Rule(
        "*One claim a post.* While an item of a run is at a post, no other item of that run "
        "asks for it: from the first question until Valkey has acknowledged the confirm or "
        "the release. Until then a twin waits, or learns SEEN from the run itself.",
        {"R1": run.r1},
    ),
    "R2": Rule(
        "*Asking again* (after HELD, after an outage) is a new question with a later token. A "
        "claim is released with the last of its tokens, in doubt if any attempt of any of its "
        "questions was given up without a reply.",
        {"R2": run.r2, "R2 again": waiting.asks_again},
    ),
    "R3": Rule(
        "*Alive first.* A run claims only if it sent the last beat that Valkey acknowledged "
        "less than `LEASE` ago by its own clock; otherwise it beats first. (Also after a "
        "freeze.)",
        {"R3": world.r3},
    ),
    "R4": Rule(
        "*The reply decides.* NEW, TAKEN OVER: store, then confirm; or release if it "
        "was not stored. SEEN: drop.",
        {
            "R4": run.r4,
            "R4 work": run.r4_work,
            "R4 stored": run.r4_stored,
            "R4 settled": run.r4_settled,
        },
    ),
    "R5": Rule(
        "*Release after the question.* If an item is cancelled while its question is under "
        "way, it releases when that question has ended, with or without a reply. If an item "
        "ends in another way, but in doubt (the reply was HELD or SEEN; or the run answered "
        "from its own memory, since it knows that the post is stored), it releases that "
        "token, too.",
        {"R5": run.r5_cancelled, "R5 doubt": run.r5, "R5 cancel": _fault_of_cancel},
    ),
    "R6": Rule(
        "*Beating.* A run beats every interval, in a task that does nothing else, until "
        "it leaves. During an outage only the probe beats, before it delivers anything.",
        {"R6": world.r6},
    ),
    "R7": Rule(
        "*Renewing.* After every half of a claim's day the run renews the claims that are "
        'open then, in a separate task. Never with `"claimed"`.',
        {"R7": world.r7},
    ),
    "R8": Rule(
        "*Leaving.* A run that ends settles all claims, waits for the acknowledgement, and leaves.",
        {"R8": world.r8},
    ),
    "W1": Rule(
        "*Death.* `H` is dead if a look finds no beat of `H` and the run is not in its "
        "**grace**. Then it claims with `D = {T}`. A token is dead, not a run: what `H` asks "
        "for later is not in `D`. A run that should beat first (R3) takes no other run for "
        "dead.",
        {"W1": waiting.w1, "W1 alive": waiting.w1_alive},
    ),
    "W2": Rule(
        "*Grace* is `LEASE`, or 5 seconds + `TIMEOUT` if that is longer. It starts when the "
        "run first reaches Valkey; at the end of each outage; whenever a look does not find "
        "the run's own beat, or a beat does not find the one before it (the server's clock "
        "stepped, a failover or an eviction lost beats); and whenever R3 makes the run beat "
        "first (it may have slept through an outage). A beat that is missing during grace "
        "means nothing. But if it was missing in every look for twice the grace, outages not "
        "counted, it means death, in grace or not.",
        {
            "W2": waiting.w2,
            "W2 grace": world.w2_grace,
            "W2 start": world.begins,
            "W2 end": world.grace_is_over,
        },
    ),
    "W3": Rule(
        "*Life.* When `WAIT` is over the run notes `H`'s beat. `H` is alive if a later look "
        "finds a greater number. (A smaller one is noted instead: a failover went back.) Then "
        "the run asks once more. If `T` still holds the post, the post is dropped as HELD.",
        {"W3": waiting.w3, "W3 told": waiting.told_held, "W3 time": waiting.wait_is_over},
    ),
    "W4": Rule(
        "*Another token* `T2` in a reply: W3 starts again for it. (Its run may have been "
        "killed in the meantime, or its message may have come late.)",
        {"W4": waiting.w4},
    ),
    "W5": Rule(
        "*The end.* If a beat stays the same for the time of S4 and one grace, outages not "
        "counted, its run is dead. So every wait ends after at most `WAIT`, the time of S4 "
        "and three times the grace, outages not counted; and no post is dropped without a "
        "sign of life.",
        {"W5": waiting.w5},
    ),
    "O1": Rule(
        'A question that was given up begins an outage. Under `"pause"` the run\'s items wait; '
        "otherwise they pass unchecked, and R4 applies to them as if the reply had been NEW.",
        {"O1": run.o1, "O1 waits": run.o1_waits, "O1 notices": world.o1_notices},
    ),
    "O2": Rule(
        "Confirms and releases that cannot be delivered are kept. Confirms go to disk when "
        "they are many, once a minute, and at the end. A probe delivers all of them before "
        "the outage is over; the next run on that machine delivers what is still kept when "
        "the run ends. Releases are kept only in the run's memory, and are lost with it.",
        {"O2": world.o2},
    ),
}
NO_RULE = {"thaws": world.thaws}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function for rule in TABLE.values() for name, function in rule.does.items()
} | NO_RULE
