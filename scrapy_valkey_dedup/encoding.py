"""The unambiguous encoding of values, and the key that it leads to.

The encoding is a promise: a release must never forget what an older one stored. Golden vectors in
the tests pin it. Every value becomes a one-letter type, a length or a count, and its content, so
that no two different identities share an encoding:

====  ==========================================================================================
type  values
====  ==========================================================================================
t     text (NFC, stripped, UTF-8); integers, whole floats and whole Decimals as their decimal text;
      UUIDs as their canonical text
b     booleans
r     floats and Decimals that are not whole, as the shortest decimal text without trailing zeros
y     bytes
d     dates, times and datetimes in ISO 8601, to the microsecond; aware datetimes in UTC
n     None
l     lists and tuples: the members in order
s     sets: the encoded members, sorted
m     mappings and nested items: the encoded pairs, sorted, without those whose value holds nothing
====  ==========================================================================================

An Enum counts as its value. What holds nothing: None, an empty text, bytes or collection, and a
collection of nothing but these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timezone
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from typing import Any
from uuid import UUID

from itemadapter import ItemAdapter, is_item

from scrapy_valkey_dedup.model import KEY_BYTES, Key, UnkeyedError
from scrapy_valkey_dedup.normalise import normal_form

NOTHING = re.compile(rb"(?:n|[ty]0:|[lsm]\d+:)+")
"""The encodings of what identifies nothing."""

_DEPTH = 50
_SIZE = 32 * 2**20  # bytes; a list that holds itself twice on every level would have no end
_DIGITS = 640  # CPython turns as many into text whatever its limit (str_digits_check_threshold)
_WHOLE_LIMIT = 10**_DIGITS


def digest(kind: str, values: Any) -> Key:
    """The key of an identity: blake2b of the kind and the values (a list, or a dict by name).

    Raises:
        UnkeyedError: a value has no encoding.

    """
    return key_of(kind, encode(values))


def key_of(kind: str, encoded: bytes) -> Key:
    """The key of a kind and encoded values."""
    content = b"l2:" + encode(kind, 0) + encoded
    return blake2b(content, digest_size=KEY_BYTES, person=b"vd1").digest()


def _sized(letter: bytes, content: bytes) -> bytes:
    _check_size(len(content))
    return b"%b%d:%b" % (letter, len(content), content)


def counted(letter: bytes, members: list[bytes]) -> bytes:
    """The encoding of a collection whose members are encoded."""
    content = b"".join(members)
    _check_size(len(content))
    return b"%b%d:%b" % (letter, len(members), content)


def _check_size(size: int) -> None:
    if size > _SIZE:
        raise UnkeyedError(f"it holds more than {_SIZE >> 20} MB")


def encode(value: Any, depth: int = 0) -> bytes:
    """The encoding of a value that stands ``depth`` levels deep.

    Raises:
        UnkeyedError: it has none.

    """
    kind = type(value)
    if kind is str:
        # A lone surrogate, as JSON may carry, has no UTF-8 of its own.
        text = normal_form("NFC", value).strip()
        return _sized(b"t", text.encode("utf-8", "surrogatepass"))
    if kind is int:
        return _encode_int(value, depth)
    if depth > _DEPTH:
        raise UnkeyedError(f"it is nested more than {_DEPTH} levels deep, or contains itself")
    for types, encoder in _ENCODERS:
        if isinstance(value, types):
            return encoder(value, depth)
    if is_item(value):
        return _encode_mapping(ItemAdapter(value), depth)
    raise UnkeyedError(f"a {kind.__module__}.{kind.__qualname__} has no encoding")


def _encode_int(value: int, _: int) -> bytes:
    if not -_WHOLE_LIMIT < value < _WHOLE_LIMIT:
        raise UnkeyedError(f"an integer of more than {_DIGITS} digits has no encoding")
    return _sized(b"t", b"%d" % value)


def _encode_float(value: float, depth: int) -> bytes:
    if not math.isfinite(value):
        raise UnkeyedError("a float that is not finite identifies nothing")
    return _encode_decimal(Decimal(float.__repr__(value)), depth)


def _encode_decimal(value: Decimal, depth: int) -> bytes:
    if not value.is_finite():
        raise UnkeyedError("a Decimal that is not finite identifies nothing")
    sign, digits, exponent = value.as_tuple()
    if not any(digits):
        return _encode_int(0, depth)
    assert isinstance(exponent, int)  # noqa: S101 (it is a letter only if not finite)
    text = "".join(map(str, digits))
    stripped = text.rstrip("0")
    exponent += len(text) - len(stripped)
    if exponent >= 0 and len(stripped) + exponent <= _DIGITS:
        return _encode_int((-1) ** sign * int(stripped) * 10**exponent, depth)
    return _sized(b"r", f"{'-' * sign}{stripped}e{exponent}".encode())


def _encode_datetime(value: datetime, _: int) -> bytes:
    if value.utcoffset() is not None:
        try:
            value = value.astimezone(timezone.utc)
        except OverflowError:
            raise UnkeyedError("a datetime outside the years 1 to 9999 has no encoding") from None
    return _sized(b"d", datetime.isoformat(value, timespec="microseconds").encode())


def _encode_members(value: Any, depth: int) -> bytes:
    return counted(b"l", [encode(member, depth + 1) for member in value])


def _encode_set(value: Any, depth: int) -> bytes:
    return counted(b"s", sorted({encode(member, depth + 1) for member in value}))


def _encode_mapping(value: Mapping[Any, Any], depth: int) -> bytes:
    """What holds nothing does not count: a default of None and a field never set are the same."""
    pairs = [
        encode(name, depth + 1) + encoded
        for name, member in value.items()
        if not NOTHING.fullmatch(encoded := encode(member, depth + 1))
    ]
    return counted(b"m", sorted(pairs))


# The order matters: an Enum may be a str or an int, a bool is an int, a datetime is a date. Methods
# are called by the name of the class: a subclass may have odd ones.
_ENCODERS: tuple[tuple[Any, Callable[[Any, int], bytes]], ...] = (
    (Enum, lambda value, depth: encode(value.value, depth + 1)),
    (str, lambda value, depth: encode(str.__str__(value), depth)),
    (bool, lambda value, _: b"b1" if value else b"b0"),
    (int, lambda value, depth: _encode_int(int.__index__(value), depth)),
    (float, _encode_float),
    (Decimal, _encode_decimal),
    (UUID, lambda value, depth: encode(UUID.__str__(value), depth)),
    ((bytes, bytearray), lambda value, _: _sized(b"y", bytes(value))),
    (datetime, _encode_datetime),
    (date, lambda value, _: _sized(b"d", date.isoformat(value).encode())),
    (time, lambda value, _: _sized(b"d", time.isoformat(value, "microseconds").encode())),
    (type(None), lambda _, __: b"n"),
    ((list, tuple), _encode_members),
    ((set, frozenset), _encode_set),
    (Mapping, _encode_mapping),
)
