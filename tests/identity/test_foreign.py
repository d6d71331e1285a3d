"""Values of other libraries in an identity: known by what they are, and never by less than that."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import bson
import numpy as np
import pandas as pd
import pydantic
import pytest
import yarl

import scrapy_valkey_dedup
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.model import UnkeyedError
from tests.support.item_forms import key

EAST = timezone(timedelta(hours=5, minutes=30))
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
MICRO = datetime(2026, 1, 2, 3, 4, 5, 678901)  # noqa: DTZ001
NANO = "2026-01-02T03:04:05.678901234"
NEXT = "2026-01-02T03:04:05.678901235"
LINK = "https://x.example/a?b=1"


class WithNanoseconds(datetime):
    """A datetime as Google's clients return it: with the nanoseconds of the whole second."""

    nanosecond = 0

    def __new__(cls, *parts: int, nanosecond: int = 0) -> WithNanoseconds:  # noqa: PYI034 (typing has Self from 3.11 on)
        made = super().__new__(cls, *parts)
        made.nanosecond = nanosecond
        return made


def link(text: str) -> Any:
    """Pydantic's object for a URL."""
    return pydantic.TypeAdapter(pydantic.HttpUrl).validate_python(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.float32(2**24 - 1), 2**24 - 1),
        (np.int8(3), 3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(1), True),
        (np.str_("x"), "x"),
        (np.bytes_(b"x"), b"x"),
        (Fraction(6, 2), 3),
        (Fraction(1, 2), Decimal("0.50")),
        (yarl.URL(LINK), LINK),
        (link(LINK), LINK),
        (bson.ObjectId("507f1f77bcf86cd799439011"), "507f1f77bcf86cd799439011"),
        (bson.Int64(3), 3),
        (pd.Timestamp(NOON), NOON),
        (pd.Timestamp(NOON.astimezone(EAST)), NOON),
        (pd.Timestamp(MICRO), MICRO),
        (pd.Timestamp(NANO), np.datetime64(NANO)),
        (np.datetime64("2026-01-02T03:04:05.678901000"), MICRO),
        (np.datetime64("2026-01-02"), date(2026, 1, 2)),
        (
            WithNanoseconds(2026, 1, 2, 3, 4, 5, 678901, nanosecond=678901234),
            pd.Timestamp(NANO),
        ),
    ],
    ids=repr,
)
def test_what_it_stands_for(one: Any, other: Any) -> None:
    """A value of another library has the key of the built-in value that it stands for."""
    assert digest("Post", [one]) == digest("Post", [other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pd.Timestamp(NANO), pd.Timestamp(NEXT)),
        (pd.Timestamp(NANO), MICRO),
        (pd.Timestamp(NANO, tz=EAST), pd.Timestamp(NEXT, tz=EAST)),
        (pd.Timestamp(NANO, tz=EAST), pd.Timestamp(NANO)),
        (np.datetime64(NANO), np.datetime64(NEXT)),
        (np.datetime64(NANO), MICRO),
        (np.datetime64("20260-01-02"), np.datetime64("20261-01-02")),
        (WithNanoseconds(2026, 1, 2, nanosecond=5), WithNanoseconds(2026, 1, 2, nanosecond=6)),
        (np.bool_(1), 1),
        (np.float32(0.1), 0.1),
        (yarl.URL(LINK), yarl.URL(LINK + "#c")),
    ],
    ids=repr,
)  # fmt: skip
def test_it_is_encoded_with_all_that_it_holds(one: Any, other: Any) -> None:
    """What differs by less than a microsecond, or in what a built-in type lacks, stays apart."""
    assert digest("Post", [one]) != digest("Post", [other])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.float64(2**53), "2\\*\\*53 or more"),
        (np.float32(2**24), "2\\*\\*24 or more"),
        (np.float16(2**11), "2\\*\\*11 or more"),
        (np.float64("nan"), "not finite"),
        (np.float32("inf"), "not finite"),
        (np.timedelta64(5, "ns"), "numpy.timedelta64 has no encoding"),
        (np.datetime64("NaT", "ns"), "numpy.datetime64 has no encoding"),
        (np.array([1, 2]), "numpy.ndarray has no encoding"),
        (Fraction(1, 3), "fractions.Fraction has no encoding"),
        (pd.NaT, "NaT"),
        (pd.NA, "NAType has no encoding"),
        (pd.Timestamp(np.datetime64("20000-01-01", "s")), "years 1 to 9999"),
        (bson.Binary(b"x", 5), "bson.binary.Binary holds more than a bytes"),
    ],
    ids=repr,
)
def test_what_identifies_nothing(value: Any, words: str) -> None:
    """What has no value, a unit that is lost, or fewer digits than an id has no encoding."""
    with pytest.raises(UnkeyedError, match=words):
        digest("Post", [value])


@pytest.mark.parametrize("value", [yarl.URL(LINK + "&utm_source=x"), link(LINK + "&fbclid=x")])
def test_normalisers_read_it(value: Any) -> None:
    """A normaliser of texts takes what stands for a text."""
    assert key({"url": value}, fields=["url:url"]) == key({"url": LINK}, fields=["url"])


def test_none_of_them_is_imported() -> None:
    """The package imports none of these libraries: users need not have them."""
    sources = [
        path.read_text("utf-8") for path in Path(scrapy_valkey_dedup.__path__[0]).rglob("*.py")
    ]
    assert sources
    for library in ("numpy", "pandas", "bson", "pydantic", "yarl"):
        assert not [
            text for text in sources if f"import {library}" in text or f"from {library}" in text
        ]
