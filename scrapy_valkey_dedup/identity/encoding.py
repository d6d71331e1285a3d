"""The unambiguous encoding of values, and the key that it leads to.

The encoding is a promise: a release must never forget what an older one stored. Golden vectors in
the tests pin it. Every value becomes a one-letter type, a length or a count, and its content, so
that no two different identities share an encoding:

====  ==========================================================================================
type  values
====  ==========================================================================================
t     text (NFC, stripped, UTF-8); integers, whole floats and whole Decimals as their decimal text;
      UUIDs, URL objects and ObjectIds as their canonical text
b     booleans
r     floats and Decimals that are not whole, as the shortest decimal text without trailing zeros
y     bytes
d     dates, times and datetimes in ISO 8601, to the microsecond, or finer if they are; aware
      datetimes in UTC
n     None
l     lists and tuples: the members in order
s     sets: the encoded members, sorted
m     mappings and nested items: the encoded pairs, sorted, without those whose value holds nothing
====  ==========================================================================================

An Enum counts as its value, an instance of a subclass as its base's value if it says that it equals
that. What holds nothing: None, an empty text, bytes or collection, and a collection of nothing but
these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from typing import Any
from uuid import UUID

from itemadapter import ItemAdapter, is_item

from scrapy_valkey_dedup.identity.item_classes import extra_fields
from scrapy_valkey_dedup.identity.normalise import normal_form
from scrapy_valkey_dedup.identity.subclasses import class_name, value_of_base
from scrapy_valkey_dedup.identity.third_party import (
    PreciseTime,
    builtin_value,
    check_digits,
    in_utc,
)
from scrapy_valkey_dedup.model import KEY_BYTES, Key, UnkeyedError

NOTHING = re.compile(rb"(?:n|[ty]0:|[lsm]\d+:)+")
"""The encodings of what identifies nothing."""

_DEPTH = 50
_SIZE = 32 * 2**20  # bytes; a list that holds itself twice on every level would have no end
_DIGITS = 640  # CPython turns as many into text whatever its limit (str_digits_check_threshold)
_WHOLE_LIMIT = 10**_DIGITS


def digest(kind: str | list[Any], values: Any) -> Key:
    """The key of an identity: blake2b of the kind and the values (a list, or a dict by name).

    The kind is a text that the user gave, or a list of where the post can come from: spider, class,
    names of the fields.

    Raises:
        UnkeyedError: a value has no encoding.

    """
    return key_of(encode(kind), encode(values))


def key_of(kind: bytes, values: bytes) -> Key:
    """The key of an encoded kind and encoded values."""
    return hasher(kind + values).digest()


def hasher(content: bytes) -> blake2b:
    """The hash of which a key is the digest, with the first of its content."""
    return blake2b(b"l2:" + content, digest_size=KEY_BYTES, person=b"vd2")


def _sized(letter: bytes, content: bytes) -> bytes:
    check_size(len(content))
    return b"%b%d:%b" % (letter, len(content), content)


def counted(letter: bytes, members: list[bytes]) -> bytes:
    """The encoding of a collection whose members are encoded."""
    content = b"".join(members)
    check_size(len(content))
    return b"%b%d:%b" % (letter, len(members), content)


def check_size(size: int) -> None:
    """Refuses an encoding of more than 32 MB."""
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
    encoder = _EXACT.get(kind)
    return _encode_other(value, depth) if encoder is None else encoder(value, depth)


def _encode_other(value: Any, depth: int) -> bytes:
    """The encoding of an instance of a subclass."""
    if isinstance(value, Enum):  # first: it may be a str or an int
        return encode(value.value, depth + 1)
    plain = value_of_base(value)
    return _encode_foreign(value, depth) if plain is None else encode(plain, depth)


def _encode_foreign(value: Any, depth: int) -> bytes:
    """The encoding of what has no built-in type among its bases."""
    if isinstance(value, PreciseTime):
        return _sized(b"d", value.text.encode())
    if isinstance(value, Mapping):
        return _encode_mapping(value.items(), depth)
    if is_item(value):
        return _encode_mapping([*ItemAdapter(value).items(), *extra_fields(value)], depth)
    known = builtin_value(value)
    if known is None:
        raise UnkeyedError(f"a {class_name(type(value))} has no encoding")
    return encode(known, depth)


def _encode_int(value: int, _: int) -> bytes:
    if not -_WHOLE_LIMIT < value < _WHOLE_LIMIT:
        raise UnkeyedError(f"an integer of more than {_DIGITS} digits has no encoding")
    return _sized(b"t", b"%d" % value)


def _encode_float(value: float, depth: int) -> bytes:
    if not math.isfinite(value):
        raise UnkeyedError("a float that is not finite identifies nothing")
    check_digits(value)
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
    return _sized(b"d", in_utc(value).isoformat(timespec="microseconds").encode())


def _encode_members(value: Any, depth: int) -> bytes:
    return counted(b"l", [encode(member, depth + 1) for member in value])


def _encode_set(value: Any, depth: int) -> bytes:
    return counted(b"s", sorted({encode(member, depth + 1) for member in value}))


def _encode_mapping(items: Iterable[tuple[Any, Any]], depth: int) -> bytes:
    """What holds nothing does not count: a default of None and a field never set are the same."""
    pairs = [
        encode(name, depth + 1) + encoded
        for name, member in items
        if not NOTHING.fullmatch(encoded := encode(member, depth + 1))
    ]
    return counted(b"m", sorted(pairs))


_EXACT: dict[type, Callable[[Any, int], bytes]] = {
    float: _encode_float,
    bool: lambda value, _: b"b1" if value else b"b0",
    type(None): lambda _, __: b"n",
    list: _encode_members,
    tuple: _encode_members,
    dict: lambda value, depth: _encode_mapping(value.items(), depth),
    set: _encode_set,
    frozenset: _encode_set,
    Decimal: _encode_decimal,
    UUID: lambda value, depth: encode(str(value), depth),
    bytes: lambda value, _: _sized(b"y", value),
    bytearray: lambda value, _: _sized(b"y", bytes(value)),
    datetime: _encode_datetime,
    date: lambda value, _: _sized(b"d", value.isoformat().encode()),
    time: lambda value, _: _sized(b"d", value.isoformat("microseconds").encode()),
}
