"""From an item to its key: which of its values tell a post apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from itemadapter import ItemAdapter

from scrapy_valkey_dedup.encoding import NOTHING, counted, encode, key_of
from scrapy_valkey_dedup.model import Key, UnkeyedError
from scrapy_valkey_dedup.rules import ClassRule, FieldRule, field_rule
from scrapy_valkey_dedup.settings import DedupSettings

logger = logging.getLogger(__name__)

_WARNINGS = 100


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
        return key_of(rule.kind or cls.__name__, encoded)

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
        return encode(read(), 0)
    except UnkeyedError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 (properties and normalisers are the user's)
        reason = _raised(error)
    raise UnkeyedError(f"its field {str(name)!r:.100}: {reason}")


def _from_function(function: Callable[..., Any], item: Any, spider: Any) -> bytes:
    try:
        found = function(item, spider)
        values = list(found) if isinstance(found, (list, tuple)) else [found]
        encoded = [encode(value, 1) for value in values]
    except UnkeyedError as error:
        reason = f"returned what identifies no post: {error}"
    except Exception as error:  # noqa: BLE001 (it is the user's)
        reason = f"failed: {_raised(error)}"
    else:
        if encoded and not any(map(NOTHING.fullmatch, encoded)):
            return counted(b"l", encoded)
        reason = "returned nothing, or an empty value"
    raise UnkeyedError(f"the function in VALKEY_DEDUP_IDENTITY {reason}")


def _from_fields(item: Any, rules: tuple[FieldRule, ...]) -> bytes:
    return counted(b"l", [_field(item, rule) for rule in rules])


def _field(item: Any, rule: FieldRule) -> bytes:
    encoded = _named(rule, lambda: _value(item, rule))
    if NOTHING.fullmatch(encoded):
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
        encode(name, 0) + encoded
        for name in adapter
        if not NOTHING.fullmatch(encoded := _named(name, partial(adapter.__getitem__, name)))
    ]
    if not pairs:
        raise UnkeyedError("all its fields are empty")
    return counted(b"m", sorted(pairs))
