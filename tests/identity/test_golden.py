"""The golden keys: what a post's key is, today and in every release to come.

They are a promise: a release whose keys differ forgets every post that older ones stored. So
nothing here writes ``golden/identity.json``, and no key in it is ever changed to make a test pass.
A new kind of value, or a new normaliser, gets a new line.

Values are JSON, or ``{"$type": content}`` for what JSON does not have: see ``TAGS``. All keys were
made with Python 3.13 and Unicode 15.1, and hold on 3.10 to 3.13 and with w3lib 2.2 to 2.5. URLs
that those versions of w3lib read in different ways (dot segments, IPv6) are not among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from scrapy_valkey_dedup.identity.encoding import digest, encode
from scrapy_valkey_dedup.identity.normalise import NORMALISERS
from scrapy_valkey_dedup.identity.third_party import PreciseTime
from scrapy_valkey_dedup.model import KEY_BYTES
from tests.support.item_forms import FORMS, class_of, key, post, spider_called

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "identity.json").read_text("utf-8"))


class Finer(datetime):
    """A datetime with nanoseconds, as pandas and Google's clients have them."""

    nanosecond = 0

    def add(self, nanoseconds: int) -> Finer:
        self.nanosecond = nanoseconds
        return self


TAGS = {
    "int": int,
    "float": float,
    "decimal": Decimal,
    "bytes": bytes.fromhex,
    "uuid": UUID,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "datetime": datetime.fromisoformat,
    "moment": PreciseTime,
    "nanoseconds": lambda parts: Finer.fromisoformat(parts[0]).add(parts[1]),
    "tuple": lambda members: tuple(map(untagged, members)),
    "set": lambda members: set(map(untagged, members)),
    "map": lambda pairs: {untagged(name): untagged(member) for name, member in pairs},
    "enum": lambda value: Enum("Choice", [("IT", untagged(value))]).IT,
    "item": lambda values: post("dataclass", "Nested", **untagged_all(values)),
}


def untagged(value: Any) -> Any:
    """The Python value of a tagged one: ``{"$bytes": "00ff"}`` stands for two bytes."""
    if isinstance(value, list):
        return [untagged(member) for member in value]
    if isinstance(value, dict):
        ((tag, content),) = value.items()
        return TAGS[tag.removeprefix("$")](content)
    return value


def untagged_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """The Python values of the fields of an item."""
    return {name: untagged(value) for name, value in values.items()}


def about(case: dict[str, Any]) -> str:
    """What the case is called in the test's report."""
    return str(case["about"])


def said_by_function(item: Any, _: Any) -> list[Any]:
    """Stands for a user's ``VALKEY_DEDUP_IDENTITY``."""
    return [item["platform"], item["id"]]


@pytest.mark.parametrize("case", GOLDEN["values"], ids=about)
def test_golden_values(case: dict[str, Any]) -> None:
    """The keys of values are those of all releases."""
    assert digest(case["kind"], untagged(case["values"])).hex() == case["key"]


@pytest.mark.parametrize("case", GOLDEN["normalisers"], ids=about)
def test_golden_normalisers(case: dict[str, Any]) -> None:
    """What normalisers make of a text, and so its key, is that of all releases."""
    assert NORMALISERS[case["normaliser"]](case["text"]) == case["becomes"]
    rule = {"*": {"fields": [f"it:{case['normaliser']}"], "kind": "item"}}
    found = key(post("item", it=case["text"]), fields=rule)
    assert found is not None
    assert found.hex() == case["key"]


@pytest.mark.parametrize("case", GOLDEN["items"], ids=about)
def test_golden_items(case: dict[str, Any]) -> None:
    """The keys of whole items are those of all releases, for all forms of a class."""
    marks = case.get("dedup", {})
    values = untagged_all(case["fields"])
    names = dict.fromkeys(values) | marks
    settings = case["settings"] | ({"IDENTITY": said_by_function} if case.get("function") else {})
    spider = spider_called(case.get("spider", "golden"))
    for form in case.get("forms", FORMS):
        item = values if form == "dict" else class_of(form, case["class"], names)(**values)
        given = {name.lower(): value for name, value in settings.items()}
        found = key(item, spider=spider, **given)
        assert found is not None, form
        assert found.hex() == case["key"], form


def test_golden_keys_cover_everything() -> None:
    """Every type of the encoding and every normaliser is pinned, and no two cases are alike."""
    letters = {chr(encode(untagged(case["values"])[0], 0)[0]) for case in GOLDEN["values"]}
    assert letters == set("tbrydnlsm")
    assert {case["normaliser"] for case in GOLDEN["normalisers"]} == set(NORMALISERS)
    cases = [case for group in ("values", "normalisers", "items") for case in GOLDEN[group]]
    assert len({about(case) for case in cases}) == len(cases) >= 60
    assert all(len(case["key"]) == 2 * KEY_BYTES for case in cases)
