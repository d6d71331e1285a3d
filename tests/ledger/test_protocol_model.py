"""The protocol of docs/ledger.md, explored: every state of a small scope.

``python -m tests.protocol`` prints the number of states of each scope, with ``--slow`` of the large
ones too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.protocol import checks
from tests.protocol.explorer import explore
from tests.protocol.model import Model
from tests.protocol.old_rules import FIRST_WRITTEN, OLD, Old
from tests.protocol.rules import TABLE
from tests.protocol.scopes import EXCEPTIONS, NAMED, QUICK, SLOW
from tests.protocol.state import Scope

LEDGER = Path(__file__).parents[2] / "docs" / "ledger.md"
LOOKS = {"W1", "W2", "W3", "W5"}
LARGER = {
    "Valkey away for long, pause, a freeze", "cut off alone, pause", "no fault, two posts",
    "outages and late attempts, pause", "a freeze and a late attempt",
    "Valkey away for half a claim's day", "Valkey away for long, pause, a run begins late",
    "late and lost attempts, twice", "a freeze", "late and lost attempts",
}  # fmt: skip
"""Of the quick ones those that take seconds."""


def _marked(scope: Scope) -> Any:
    is_slow = scope in SLOW or scope.name in LARGER
    return pytest.param(scope, marks=pytest.mark.slow) if is_slow else scope


def _stated(kinds: str) -> dict[str, str]:
    """Rule by rule the text of docs/ledger.md, its white space made single."""
    found = re.findall(
        rf"^- \*\*([{kinds}]\d)\*\* (.*?)(?=^- |^$)",
        LEDGER.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return {name: " ".join(text.split()) for name, text in found}


def test_docs_and_model_have_the_same_rules() -> None:
    """Each rule of docs/ledger.md is in the table that the model runs, in the same words."""
    stated = _stated("SCFLNBQRWO")
    assert sorted(stated) == sorted(TABLE)
    for name, rule in TABLE.items():
        assert stated[name] == rule.words, f"{name}: change the table, too, and what it does"


def test_docs_and_model_have_the_same_exceptions() -> None:
    """The exceptions that docs/ledger.md states are the ones that the model allows."""
    assert sorted(_stated("X")) == sorted({name for name, _, _ in EXCEPTIONS})


@pytest.mark.parametrize(
    "scope",
    [_marked(scope) for scope in QUICK + SLOW],
    ids=lambda scope: scope.name,
)
def test_all_states_keep_the_promises(scope: Scope) -> None:
    """No loss, one store, no wait without an end, no claim left: in all states of the scope."""
    report = explore(Model(scope), loops=not scope.slow)
    assert report.whole, report
    assert not report.violation, report
    if not Model(scope).endless:
        assert not report.loops, "something can happen again and again"
    assert not LOOKS & {rule for rule, _, _ in report.loops}, "a wait without an end"


def test_every_rule_is_used() -> None:
    """No rule stands in the table that the explored scopes never come to."""
    unused = set(TABLE) - {"B1", "B2", "B3", "R3", "Q3", "W4"}  # these are within others
    for scope in QUICK:
        if unused:
            used = explore(Model(scope), limit=500).rules
            unused -= {name for names in used for name in names.split(" ")}
    assert unused == set()


@pytest.mark.parametrize(("exception", "scope", "what"), EXCEPTIONS)
def test_no_exception_is_superfluous(exception: str, scope: str, what: str) -> None:
    """Each exception is needed, in each of the ways that its text names."""
    allowed = checks.ALL & ~getattr(checks, exception)
    report = explore(Model(NAMED[scope], allowed=allowed))
    assert report.violation == what, report


@pytest.mark.parametrize("old", [*OLD, *FIRST_WRITTEN], ids=lambda old: old.name)
def test_the_model_finds_what_the_old_rule_led_to(old: Old) -> None:
    """With a rule of before put back, the explorer finds what goes wrong."""
    ends = old.leads_to != checks.ENDLESS
    report = explore(Model(NAMED[old.scope], old.rules), loops=not ends)
    if ends:
        assert report.violation == old.leads_to, report
    else:
        assert LOOKS & {rule for rule, _, _ in report.loops}, report
