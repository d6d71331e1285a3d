"""The rule of an item class made into one function: items are many, their classes few.

What it does not know by sight goes the long way, :mod:`scrapy_valkey_dedup.identity.extraction`:
both give the same bytes, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from scrapy_valkey_dedup.identity.encoding import check_size, hasher
from scrapy_valkey_dedup.identity.extraction import encoded_field
from scrapy_valkey_dedup.identity.item_classes import attributes
from scrapy_valkey_dedup.identity.placeholders import is_placeholder
from scrapy_valkey_dedup.identity.rules import FieldRule
from scrapy_valkey_dedup.model import Key

_Encoder: TypeAlias = Callable[[Any], bytes]
_LARGEST = 10**18
_LONGEST = 500
_FLOAT_BEGINS = frozenset("+-0123456789")


def key_function(cls: type, kind: bytes, rules: Sequence[FieldRule]) -> Callable[[Any], Key]:
    """Returns what makes the key of an item of a class; ``kind`` is encoded.

    What is returned raises UnkeyedError for an item that has no identity.
    """
    encoders = [_encoder(cls, rule) for rule in rules]
    begun = hasher(b"%bl%d:" % (kind, len(encoders)))

    def key(item: Any) -> Key:
        values = b"".join([encode(item) for encode in encoders])
        check_size(len(values))
        hashed = begun.copy()
        hashed.update(values)
        return hashed.digest()

    return key


def _encoder(cls: type, rule: FieldRule) -> _Encoder:
    """The encoding of one field of an item."""

    def in_full(item: Any) -> bytes:
        return encoded_field(item, rule)

    read = None if rule.normalise is not None else _reader(cls, rule)
    if read is None:
        return in_full
    last, encoded_last = "", b""  # often the same: the name of a platform

    def encode(item: Any) -> bytes:
        nonlocal last, encoded_last
        try:
            value = read(item)
        except Exception:  # noqa: BLE001 (it is the user's; the long way says where)
            return in_full(item)
        kind = type(value)
        if kind is int and -_LARGEST < value < _LARGEST:
            text = b"%d" % value
            return b"t%d:%b" % (len(text), text)
        if kind is not str:
            return in_full(item)
        if value != last or not last:
            found = _plain_text(value)
            if found is None:
                return in_full(item)
            last, encoded_last = value, found
        return encoded_last

    return encode


def _reader(cls: type, rule: FieldRule) -> Callable[[Any], Any] | None:
    """How the field is read; None: the long way."""
    name, *inside = rule.path
    if inside:
        return None
    if issubclass(cls, Mapping):
        return lambda item: item.get(name)
    # Of an attribute that an item lacks, the long way knows what that means.
    return attrgetter(name) if name in attributes(cls) else None  # type: ignore[arg-type]


def _plain_text(value: str) -> bytes | None:
    """The encoding of a text that needs no normal form and stands for something, else None."""
    if len(value) > _LONGEST or not value.isascii():
        return None
    text = value.strip()
    if not text or is_placeholder(text):
        return None
    if text[0] in _FLOAT_BEGINS and ("." in text or "+" in text):
        return None
    return b"t%d:%b" % (len(text), text.encode())
