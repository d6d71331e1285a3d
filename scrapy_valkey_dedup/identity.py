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
m     mappings and nested items: the encoded pairs, sorted
====  ==========================================================================================

An Enum counts as its value.
"""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timezone
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from uuid import UUID

from itemadapter import ItemAdapter, is_item

from scrapy_valkey_dedup.model import Key, UnkeyedError
from scrapy_valkey_dedup.settings import ClassRule, DedupSettings, FieldRule, field_rule

logger = logging.getLogger(__name__)

KEY_BYTES = 16
_DEPTH = 50
_DIGITS = 4000  # below the 4300 digits at which CPython refuses to turn an integer into text
_WHOLE_LIMIT = 10**_DIGITS
_WARNINGS = 100


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
    return b"%b%d:%b" % (letter, len(content), content)


def _encode(value: Any, depth: int) -> bytes:
    kind = type(value)
    if kind is str:
        # A lone surrogate, as JSON may carry, has no UTF-8 of its own.
        text = unicodedata.normalize("NFC", value).strip()
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
        raise UnkeyedError(f"{value} identifies nothing")
    return _encode_decimal(Decimal(repr(value)), depth)


def _encode_decimal(value: Decimal, depth: int) -> bytes:
    if not value.is_finite():
        raise UnkeyedError(f"{value} identifies nothing")
    sign, digits, exponent = value.as_tuple()
    if not any(digits):
        return _encode_int(0, depth)
    assert isinstance(exponent, int)  # noqa: S101 (it is a letter only if not finite)
    text = "".join(map(str, digits))
    stripped = text.rstrip("0")
    exponent += len(text) - len(stripped)
    if exponent >= 0 and len(stripped) + exponent < _DIGITS:
        return _encode_int((-1) ** sign * int(stripped) * 10**exponent, depth)
    return _sized(b"r", f"{'-' * sign}{stripped.lstrip('0')}e{exponent}".encode())


def _encode_datetime(value: datetime, _: int) -> bytes:
    if value.tzinfo is not None:
        value = value.astimezone(timezone.utc)
    return _sized(b"d", value.isoformat(timespec="microseconds").encode())


def _encode_members(value: Any, depth: int) -> bytes:
    members = [_encode(member, depth + 1) for member in value]
    return b"l%d:%b" % (len(members), b"".join(members))


def _encode_set(value: Any, depth: int) -> bytes:
    members = sorted(_encode(member, depth + 1) for member in value)
    return b"s%d:%b" % (len(members), b"".join(members))


def _encode_mapping(value: Mapping[Any, Any], depth: int) -> bytes:
    pairs = sorted(
        _encode(name, depth + 1) + _encode(member, depth + 1) for name, member in value.items()
    )
    return b"m%d:%b" % (len(pairs), b"".join(pairs))


# The order matters: an Enum may be a str or an int, a bool is an int, a datetime is a date.
_ENCODERS: tuple[tuple[Any, Callable[[Any, int], bytes]], ...] = (
    (Enum, lambda value, depth: _encode(value.value, depth + 1)),
    (str, lambda value, depth: _encode(str.__str__(value), depth)),
    (bool, lambda value, _: b"b1" if value else b"b0"),
    (int, lambda value, depth: _encode_int(int(value), depth)),
    (float, _encode_float),
    (Decimal, _encode_decimal),
    (UUID, lambda value, depth: _encode(str(value), depth)),
    ((bytes, bytearray, memoryview), lambda value, _: _sized(b"y", bytes(value))),
    (datetime, _encode_datetime),
    (date, lambda value, _: _sized(b"d", value.isoformat().encode())),
    (time, lambda value, _: _sized(b"d", value.isoformat(timespec="microseconds").encode())),
    (type(None), lambda _, __: b"n"),
    ((list, tuple), _encode_members),
    ((set, frozenset), _encode_set),
    (Mapping, _encode_mapping),
)


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (
        isinstance(value, (bytes, list, tuple, dict, set, frozenset)) and not value
    )


class Identifier:
    """Finds the key of an item, as the settings and the item's class say.

    What decides, in this order: ``IDENTITY``, ``FIELDS``, field metadata, all fields of the item.
    """

    def __init__(self, settings: DedupSettings) -> None:
        self._function = settings.identity
        self._rules = settings.fields
        self._by_class: dict[type, ClassRule] = {}
        self._warned: set[tuple[type, str]] = set()

    def key(self, item: Any, spider: Any) -> Key | None:
        """Returns the key, or None if the item has no identity: why is logged once a reason."""
        try:
            rule = self._rule(type(item))
            if self._function is not None:
                encoded = _from_function(self._function, item, spider)
            elif rule.fields is not None:
                encoded = _from_fields(item, rule.fields)
            else:
                encoded = _from_all_fields(ItemAdapter(item))
        except UnkeyedError as error:
            self._warn(type(item), error)
            return None
        return _digest(rule.kind or type(item).__name__, encoded)

    def _rule(self, cls: type) -> ClassRule:
        rule = self._by_class.get(cls)
        if rule is None:
            rule = self._by_class[cls] = self._find_rule(cls)
        return rule

    def _find_rule(self, cls: type) -> ClassRule:
        """The settings' rule for the class or its nearest ancestor, else its field metadata."""
        found = next((self._rules[base] for base in cls.__mro__ if base in self._rules), None)
        rule = found or self._rules.get(None) or ClassRule()
        if rule.fields is None and self._function is None:
            return ClassRule(_from_metadata(cls), rule.kind)
        return rule

    def _warn(self, cls: type, error: UnkeyedError) -> None:
        """Warns once for each class and reason: reasons name fields and types, never values."""
        logged = (cls, str(error))
        if logged in self._warned or len(self._warned) >= _WARNINGS:
            return
        self._warned.add(logged)
        logger.warning(
            "An item of class %s has no identity: %s. VALKEY_DEDUP_ON_UNKEYED says what becomes of "
            "such items; from here on the stat dedup/items/unkeyed counts them.",
            cls.__qualname__,
            error,
            exc_info=error.__cause__,
        )


def _from_metadata(cls: type) -> tuple[FieldRule, ...] | None:
    """The fields declared with ``dedup=True`` or ``dedup="url"`` (a normaliser), in their order."""
    rules = []
    for name in ItemAdapter.get_field_names_from_class(cls) or ():
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


def _named(name: str, value: Any) -> bytes:
    try:
        return _encode(value, 0)
    except UnkeyedError as error:
        raise UnkeyedError(f"{name}: {error}") from None


def _from_function(function: Callable[..., Any], item: Any, spider: Any) -> bytes:
    try:
        found = function(item, spider)
    except Exception as error:
        raise UnkeyedError(
            f"the function in VALKEY_DEDUP_IDENTITY raised {type(error).__name__}"
        ) from error
    values = list(found) if isinstance(found, (list, tuple)) else [found]
    if not values or any(_is_empty(value) for value in values):
        raise UnkeyedError(
            "the function in VALKEY_DEDUP_IDENTITY returned nothing, or an empty value"
        )
    return _named("what the function in VALKEY_DEDUP_IDENTITY returned", values)


def _from_fields(item: Any, rules: tuple[FieldRule, ...]) -> bytes:
    return b"l%d:%b" % (len(rules), b"".join([_field(item, rule) for rule in rules]))


def _field(item: Any, rule: FieldRule) -> bytes:
    value = item
    for step in rule.path:
        value = _step(value, step)
    if rule.normalise is not None:
        try:
            value = rule.normalise(value)
        except Exception as error:
            reason = f"its field {str(rule)!r} cannot be normalised: {type(error).__name__}"
            raise UnkeyedError(reason) from error
    if _is_empty(value):
        raise UnkeyedError(f"its field {str(rule)!r} is missing or empty")
    return _named(f"its field {str(rule)!r}", value)


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
    """Empty fields do not count: a default of None and a field never set are the same."""
    pairs = sorted(
        _encode(str(name), 0) + _named(f"its field {name!r}", value)
        for name, value in adapter.items()
        if not _is_empty(value)
    )
    if not pairs:
        raise UnkeyedError("all its fields are empty")
    return b"m%d:%b" % (len(pairs), b"".join(pairs))
