"""The one table of the protocol: each rule of docs/ledger.md, its words, and what the model does.

``tests/test_protocol_rules.py`` holds the docs to it, the explorer runs it, the real scripts and
traces of real runs are compared with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.protocol import run_rules as run
from tests.protocol import server_rules as server
from tests.protocol import world_rules as world


class Rule(NamedTuple):
    """One rule: how its text in docs/ledger.md begins, and its functions by their names."""

    words: str
    does: dict[str, Callable[..., Any]]


def _fault_of_cancel(model: Any, state: Any, number: int) -> Any:
    """A cancelled item releases when its question has ended."""
    return state.item(number, phase=run.Phase.CANCELLED)


TABLE: dict[str, Rule] = {
    "S1": Rule("`remembered(P)`: yes or no", {"S1": world.s1}),
    "S2": Rule("`claim(P)`: none, or a token", {"S2": world.s2}),
    "S3": Rule("`given_back(P)`: tokens that were released", {"S3": world.s3}),
    "S4": Rule("`beat(R)`: none, or a number that `R` counts up", {"S4": world.s4}),
    "C1": Rule("`remembered(P)`: reply SEEN", {"C1": server.c1}),
    "C2": Rule("`given_back(P)` has a token `(R, m)` with `m >= n`", {"C2": server.c2}),
    "C3": Rule("`claim(P)` is none: `claim(P) := (R, n)`", {"C3": server.c3}),
    "C4": Rule("`claim(P)` is `(R, n)`: reply NEW", {"C4": server.c4}),
    "C5": Rule("`claim(P)` is `(R, m)`: if `m < n`", {"C5": server.c5}),
    "C6": Rule("`claim(P)` is in `D`: `claim(P) := (R, n)`", {"C6": server.c6}),
    "C7": Rule("Else reply HELD", {"C7": server.c7}),
    "F1": Rule("`remembered(P) := yes`, in any case", {"F1": server.f1}),
    "F2": Rule("If `claim(P)` is a token of `R`", {"F2": server.f2}),
    "L1": Rule("If `claim(P)` is a token `(R, m)` with `m <= n`: `claim(P) := none`", {"L1": server.l1}),
    "L2": Rule("If it is in doubt: `(R, n)` takes the place", {"L2": server.l2}),
    "N1": Rule("If `claim(P)` is `(R, n)`: its day begins anew", {"N1": server.n1}),
    "B1": Rule("Beat of `R`", {"B1": world.b1}),
    "B2": Rule("Look of `R` at other runs", {"B2": world.b2}),
    "B3": Rule("Leave of `R`", {"B3": world.b3}),
    "Q1": Rule("A question with the same name", {"Q1": server.q1, "Q1 minute": world.q1_minute}),
    "Q2": Rule("`remembered(P)`: SEEN. `claim(P)` is a token of another run", {"Q2": server.q2}),
    "Q3": Rule("It is put again for a minute at most", {"Q3": run.q3}),
    "R1": Rule("*One claim a post.*", {"R1": run.r1}),
    "R2": Rule("*Asking again*", {"R2": run.r2, "R2 again": run.asks_again}),
    "R3": Rule("*Alive first.*", {"R3": world.r3}),
    "R4": Rule(
        "*The reply decides.*",
        {
            "R4": run.r4,
            "R4 work": run.r4_work,
            "R4 stored": run.r4_stored,
            "R4 settled": run.r4_settled,
        },
    ),
    "R5": Rule(
        "*Release after the question.*",
        {"R5": run.r5_cancelled, "R5 doubt": run.r5, "R5 cancel": _fault_of_cancel},
    ),
    "R6": Rule("*Beating.*", {"R6": world.r6}),
    "R7": Rule("*Renewing.*", {"R7": world.r7}),
    "R8": Rule("*Leaving.*", {"R8": world.r8}),
    "W1": Rule("*Death.*", {"W1": run.w1, "W1 alive": run.w1_alive}),
    "W2": Rule(
        "*Grace*",
        {
            "W2": run.w2,
            "W2 grace": world.w2_grace,
            "W2 start": world.begins,
            "W2 end": world.grace_is_over,
        },
    ),
    "W3": Rule(
        "*Life.*", {"W3": run.w3, "W3 told": run.told_held, "W3 time": run.wait_is_over}
    ),
    "W4": Rule("*Another token*", {"W4": run.w4}),
    "W5": Rule("*The end.*", {"W5": run.w5}),
    "O1": Rule(
        "A question that was given up begins one",
        {"O1": run.o1, "O1 waits": run.o1_waits, "O1 notices": world.o1_notices},
    ),
    "O2": Rule("Confirms and releases that cannot be delivered are kept", {"O2": world.o2}),
}
NO_RULE = {"thaws": world.thaws}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function for rule in TABLE.values() for name, function in rule.does.items()
} | NO_RULE
