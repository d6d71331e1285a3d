"""From an item to its key: which values tell a post apart, and their unambiguous encoding.

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

import logging
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timezone
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Any
from uuid import UUID

from itemadapter import ItemAdapter, is_item

from scrapy_valkey_dedup.model import KEY_BYTES, Key, UnkeyedError
from scrapy_valkey_dedup.normalise import normal_form
from scrapy_valkey_dedup.rules import ClassRule, FieldRule, field_rule
from scrapy_valkey_dedup.settings import DedupSettings

logger = logging.getLogger(__name__)

_DEPTH = 50
_SIZE = 32 * 2**20  # bytes; a list that holds itself twice on every level would have no end
_DIGITS = 640  # CPython turns as many into text whatever its limit (str_digits_check_threshold)
_WHOLE_LIMIT = 10**_DIGITS
_WARNINGS = 100
_NOTHING = re.compile(rb"(?:n|[ty]0:|[lsm]\d+:)+")
"""The encodings of what identifies nothing."""


def digest(kind: str, values: Any) -> Key:
    """The key of an identity: blake2b of the kind and the values (a list, or a dict by name).

    Raises:
        UnkeyedError: a value has no encoding.

    """
    return _digest(kind, _encode(values, 0))


def _digest(kind: str, encoded: bytes) -> Key:
    content = b"l2:" + _encode(kind, 0) + encoded
    return blake2b(content, digest_size=KEY_BYTES, person=b"vd1").digest()


def _sized(letter: bytes, content: bytes) -> bytes:
    _check_size(len(content))
    return b"%b%d:%b" % (letter, len(content), content)


def _counted(letter: bytes, members: list[bytes]) -> bytes:
    content = b"".join(members)
    _check_size(len(content))
    return b"%b%d:%b" % (letter, len(members), content)


def _check_size(size: int) -> None:
    if size > _SIZE:
        raise UnkeyedError(f"it holds more than {_SIZE >> 20} MB")


def _encode(value: Any, depth: int) -> bytes:
    kind = type(value)
    if kind is str:
        # A lone surrogate, as JSON may carry, has no UTF-8 of its own.
        text = normal_form("NFC", value).strip()
        return _sized(b"t", text.encode("utf-8", "surrogatepass"))
    if kind is int:
        return _encode_int(value, depth)
    if depth > _DEPTH:
        raise UnkeyedError(f"it is nested more than {_DEPTH} levels deep, or contains itself")
    for types, encode in _ENCODERS:
        if isinstance(value, types):
            return encode(value, depth)
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
    return _counted(b"l", [_encode(member, depth + 1) for member in value])


def _encode_set(value: Any, depth: int) -> bytes:
    return _counted(b"s", sorted({_encode(member, depth + 1) for member in value}))


def _encode_mapping(value: Mapping[Any, Any], depth: int) -> bytes:
    """What holds nothing does not count: a default of None and a field never set are the same."""
    pairs = [
        _encode(name, depth + 1) + encoded
        for name, member in value.items()
        if not _NOTHING.fullmatch(encoded := _encode(member, depth + 1))
    ]
    return _counted(b"m", sorted(pairs))


# The order matters: an Enum may be a str or an int, a bool is an int, a datetime is a date. Methods
# are called by the name of the class: a subclass may have odd ones.
_ENCODERS: tuple[tuple[Any, Callable[[Any, int], bytes]], ...] = (
    (Enum, lambda value, depth: _encode(value.value, depth + 1)),
    (str, lambda value, depth: _encode(str.__str__(value), depth)),
    (bool, lambda value, _: b"b1" if value else b"b0"),
    (int, lambda value, depth: _encode_int(int.__index__(value), depth)),
    (float, _encode_float),
    (Decimal, _encode_decimal),
    (UUID, lambda value, depth: _encode(UUID.__str__(value), depth)),
    ((bytes, bytearray), lambda value, _: _sized(b"y", bytes(value))),
    (datetime, _encode_datetime),
    (date, lambda value, _: _sized(b"d", date.isoformat(value).encode())),
    (time, lambda value, _: _sized(b"d", time.isoformat(value, "microseconds").encode())),
    (type(None), lambda _, __: b"n"),
    ((list, tuple), _encode_members),
    ((set, frozenset), _encode_set),
    (Mapping, _encode_mapping),
)


class Identifier:
    """Finds the key of an item, as the settings and the item's class say.

    What decides, in this order: ``IDENTITY``, ``FIELDS``, field metadata, all fields of the item.
    """

    def __init__(self, settings: DedupSettings) -> None:
        self._function = settings.identity
        self._rules = settings.fields
        self._by_class: dict[type, ClassRule] = {}
        self._warned: set[tuple[str, str]] = set()

    def key(self, item: Any, spider: Any) -> Key | None:
        """Returns the key, or None if the item has no identity: why is logged once a reason.

        Never raises: items, normalisers and functions of the user's may hold any code.
        """
        try:
            return self._key(item, spider)
        except UnkeyedError as error:
            self._warn(type(item).__qualname__, str(error))
        except Exception as error:  # noqa: BLE001
            self._warn(type(item).__qualname__, _raised(error))
        return None

    def _key(self, item: Any, spider: Any) -> Key:
        cls = type(item)
        rule = self._by_class.get(cls)
        if rule is None:
            rule = self._by_class[cls] = self._find_rule(cls)
        if self._function is not None:
            encoded = _from_function(self._function, item, spider)
        elif rule.fields is not None:
            encoded = _from_fields(item, rule.fields)
        else:
            encoded = _from_all_fields(ItemAdapter(item))
        return _digest(rule.kind or cls.__name__, encoded)

    def _find_rule(self, cls: type) -> ClassRule:
        """The settings' rule for the class or its nearest ancestor, else its field metadata."""
        others = self._rules.get(None, ClassRule())
        rule = next((self._rules[base] for base in cls.__mro__ if base in self._rules), others)
        fields = rule.fields or others.fields
        if fields is None and self._function is None:
            fields = _from_metadata(cls)
        return ClassRule(fields, rule.kind)

    def _warn(self, cls: str, reason: str) -> None:
        """Warns once for each class and reason: reasons name fields and types, never values."""
        if (cls, reason) in self._warned or len(self._warned) >= _WARNINGS:
            return
        self._warned.add((cls, reason))
        logger.warning(
            "An item of class %s has no identity: %s. VALKEY_DEDUP_ON_UNKEYED says what becomes of "
            "such items; from here on the stat dedup/items/unkeyed counts them.",
            cls,
            reason,
        )


def _from_metadata(cls: type) -> tuple[FieldRule, ...] | None:
    """The fields declared with ``dedup=True`` or ``dedup="url"`` (a normaliser), by name.

    Not in the order of their declaration: Scrapy 2.14 does not know that of an Item.
    """
    rules = []
    for name in sorted(ItemAdapter.get_field_names_from_class(cls) or ()):
        meta = ItemAdapter.get_field_meta_from_class(cls, name)
        extra = meta.get("json_schema_extra")  # where pydantic keeps what it does not know
        mark = meta.get("dedup") or (extra.get("dedup") if isinstance(extra, dict) else None)
        if not mark:
            continue
        try:
            rules.append(field_rule(name if mark is True else f"{name}:{mark}"))
        except ValueError as error:
            raise UnkeyedError(
                f"its field {name!r} is declared with dedup={mark!r}: {error}"
            ) from None
    return tuple(rules) or None


def _raised(error: Exception) -> str:
    """The error's type and place. Not its message: that may hold values of the post."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return f"{type(error).__name__} was raised"
    place = trace.tb_frame.f_code.co_filename
    return f"{type(error).__name__} was raised in {place}, line {trace.tb_lineno}"


def _named(name: object, read: Callable[[], Any]) -> bytes:
    """The encoding of what is read; an error says where it stood, not what it was."""
    try:
        return _encode(read(), 0)
    except UnkeyedError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 (properties and normalisers are the user's)
        reason = _raised(error)
    raise UnkeyedError(f"its field {str(name)!r:.100}: {reason}")


def _from_function(function: Callable[..., Any], item: Any, spider: Any) -> bytes:
    try:
        found = function(item, spider)
        values = list(found) if isinstance(found, (list, tuple)) else [found]
        encoded = [_encode(value, 1) for value in values]
    except UnkeyedError as error:
        reason = f"returned what identifies no post: {error}"
    except Exception as error:  # noqa: BLE001 (it is the user's)
        reason = f"failed: {_raised(error)}"
    else:
        if encoded and not any(map(_NOTHING.fullmatch, encoded)):
            return _counted(b"l", encoded)
        reason = "returned nothing, or an empty value"
    raise UnkeyedError(f"the function in VALKEY_DEDUP_IDENTITY {reason}")


def _from_fields(item: Any, rules: tuple[FieldRule, ...]) -> bytes:
    return _counted(b"l", [_field(item, rule) for rule in rules])


def _field(item: Any, rule: FieldRule) -> bytes:
    encoded = _named(rule, lambda: _value(item, rule))
    if _NOTHING.fullmatch(encoded):
        raise UnkeyedError(f"its field {str(rule)!r} is missing or empty")
    return encoded


def _value(item: Any, rule: FieldRule) -> Any:
    value = item
    for step in rule.path:
        value = _step(value, step)
    return value if rule.normalise is None else rule.normalise(value)


def _step(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):  # dicts and scrapy.Item
        return value.get(name)
    if isinstance(value, (list, tuple)):
        return value[int(name)] if name.isdecimal() and int(name) < len(value) else None
    names = _field_names(type(value))  # type: ignore[arg-type] # (mypy: a type is not Hashable)
    return getattr(value, name, None) if name in names else None


@lru_cache(maxsize=1000)
def _field_names(cls: type) -> frozenset[str]:
    """The fields of a dataclass, an attrs class or a pydantic model; none for any other class."""
    return frozenset(ItemAdapter.get_field_names_from_class(cls) or ())


def _from_all_fields(adapter: ItemAdapter) -> bytes:
    pairs = [
        _encode(name, 0) + encoded
        for name in adapter
        if not _NOTHING.fullmatch(encoded := _named(name, partial(adapter.__getitem__, name)))
    ]
    if not pairs:
        raise UnkeyedError("all its fields are empty")
    return _counted(b"m", sorted(pairs))
