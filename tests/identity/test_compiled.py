"""The function that a rule is compiled into gives the same keys as the long way."""

from __future__ import annotations

from dataclasses import make_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import scrapy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scrapy_valkey_dedup.identity.compiled import key_function
from scrapy_valkey_dedup.identity.encoding import counted, key_of
from scrapy_valkey_dedup.identity.extraction import encoded_field
from scrapy_valkey_dedup.identity.rules import field_rule
from scrapy_valkey_dedup.model import Key, UnkeyedError

NAMES = ["platform", "post_id"]
RULES = [field_rule(name) for name in NAMES]
KIND = b"t4:Post"


class Text(str):  # noqa: SLOT000 (a plain subclass, as users write it)
    """A subclass is no text that is known by sight."""


class Platform(str, Enum):
    """An Enum counts as its value, though it is a text."""

    ONE = "one"


class Item(scrapy.Item):
    """Its fields are read through its methods."""

    platform = scrapy.Field()
    post_id = scrapy.Field()


Post = make_dataclass("Post", NAMES)
CLASSES: list[Any] = [dict, Item, Post]

words = st.sampled_from(
    ["", " ", "null", " None ", "NaN", "nan", "Nan", "1e+22", "12345678901234567.0", "1.5", "+1",
     "-0", " a ", "e\u0301", "\u00e9", "a\x00b", "x" * 501, "7.", Text("a"), Platform.ONE]
)  # fmt: skip
values = st.one_of(
    words,
    st.text(max_size=20),
    st.integers(),
    st.integers(10**17, 10**19),
    st.booleans(),
    st.none(),
    st.floats(),
    st.decimals(),
    st.lists(st.one_of(words, st.integers()), max_size=2),
)


def long_way(item: Any) -> Key:
    """As it is defined."""
    return key_of(KIND, counted(b"l", [encoded_field(item, rule) for rule in RULES]))


def outcome(make: Any, item: Any) -> Key | str:
    """The key, or why there is none."""
    try:
        return make(item)
    except UnkeyedError as error:
        return str(error)


@settings(max_examples=500)
@given(items=st.lists(st.tuples(values, values), min_size=1, max_size=3))
@example(items=[("a", 1), ("a", 2), ("", 2), ("a", 3)])
@example(items=[("one", 1), (Platform.ONE, 1), (Text("one"), 1), ("one", Decimal(1))])
def test_same_key_as_the_long_way(items: list[tuple[Any, Any]]) -> None:
    """One item after another, of whatever class: the same key, or the same reason for none."""
    for cls in CLASSES:
        short_way = key_function(cls, KIND, RULES)
        for pair in items:
            item = cls(**dict(zip(NAMES, pair, strict=True)))
            assert outcome(short_way, item) == outcome(long_way, item)


def test_what_is_missing_or_raises() -> None:
    """A field that is not set, and one whose property raises, have the reasons of the long way."""

    class Raising(Post):
        @property
        def platform(self) -> str:
            raise KeyError("secret")

        @platform.setter
        def platform(self, _: str) -> None:
            pass

    unset = Post("a", 1)
    del unset.platform
    for item in ({}, {"post_id": 1}, Item(), Item(post_id=1), unset, Raising("a", 1)):
        reason = outcome(key_function(type(item), KIND, RULES), item)
        assert reason == outcome(long_way, item)
        assert isinstance(reason, str)
        assert "'platform'" in reason
        assert "secret" not in reason
