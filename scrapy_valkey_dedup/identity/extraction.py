"""The values of an item that identify it, by a rule, by a function or all of them, encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from itemadapter import ItemAdapter

from scrapy_valkey_dedup.identity.encoding import NOTHING, counted, encode
from scrapy_valkey_dedup.identity.item_classes import attributes, extra_fields
from scrapy_valkey_dedup.identity.placeholders import refuse_placeholder
from scrapy_valkey_dedup.identity.rules import FieldRule
from scrapy_valkey_dedup.model import UnkeyedError


def raised(error: Exception) -> str:
    """The error's type and place. Not its message: that may hold values of the post."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return f"{type(error).__name__} was raised"
    place = trace.tb_frame.f_code.co_filename
    return f"{type(error).__name__} was raised in {place}, line {trace.tb_lineno}"


def from_function(function: Callable[..., Any], item: Any, spider: Any) -> bytes:
    """The encoding of what the user's function returns.

    Raises:
        UnkeyedError: it fails, or returns nothing that identifies a post.

    """
    try:
        found = function(item, spider)
        values = list(found) if isinstance(found, (list, tuple)) else [found]
        for value in values:
            refuse_placeholder(_sole(value))
        encoded = [encode(_sole(value), 1) for value in values]
    except UnkeyedError as error:
        reason = f"returned what identifies no post: {error}"
    except Exception as error:  # noqa: BLE001 (it is the user's)
        reason = f"failed: {raised(error)}"
    else:
        if encoded and not any(map(NOTHING.fullmatch, encoded)):
            return counted(b"l", encoded)
        reason = "returned nothing, or an empty value"
    raise UnkeyedError(f"the function in VALKEY_DEDUP_IDENTITY {reason}")


def encoded_field(item: Any, rule: FieldRule) -> bytes:
    """The encoding of a field. An error names the field, not the value."""
    try:
        encoded = encode(_value(item, rule))
    except Exception as error:  # noqa: BLE001 (properties and normalisers are the user's)
        raise _located(rule, error) from None
    if NOTHING.fullmatch(encoded):
        raise UnkeyedError(f"its field {str(rule)!r} is missing or empty")
    return encoded


def _located(name: object, error: Exception) -> UnkeyedError:
    reason = str(error) if isinstance(error, UnkeyedError) else raised(error)
    return UnkeyedError(f"its field {str(name)!r:.100}: {reason}")


def _value(item: Any, rule: FieldRule) -> Any:
    value = item
    for step in rule.path:
        value = _step(value, step)
    refuse_placeholder(_sole(value))
    if rule.normalise is not None:
        value = rule.normalise(value)
        refuse_placeholder(_sole(value))
    return _sole(value)


def field_values(item: Any, rule: FieldRule) -> tuple[Any, Any]:
    """The value that a rule finds in an item, and what its normalisers make of it."""
    value = item
    for step in rule.path:
        value = _step(value, step)
    return _sole(value), _sole(rule.normalise(value) if rule.normalise is not None else value)


def _sole(value: Any) -> Any:
    """A list with one member, as item loaders make them, counts as that member."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _step(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):  # dicts and scrapy.Item
        return value.get(name)
    if isinstance(value, (list, tuple)):
        if name.isdecimal():
            return value[int(name)] if int(name) < len(value) else None
        return _step(value[0], name) if len(value) == 1 else None
    if name in attributes(type(value)):  # type: ignore[arg-type] # (mypy: a type is not Hashable)
        return getattr(value, name, None)
    return dict(extra_fields(value)).get(name)


def from_all_fields(item: Any) -> bytes:
    """The encoding of all fields that are not empty, with their names."""
    adapter, extra = ItemAdapter(item), dict(extra_fields(item))
    pairs = []
    for name in (*adapter, *extra):
        try:
            encoded = encode(_sole(extra[name] if name in extra else adapter[name]))
        except Exception as error:  # noqa: BLE001 (properties are the user's)
            raise _located(name, error) from None
        if not NOTHING.fullmatch(encoded):
            pairs.append(encode(name) + encoded)
    if not pairs:
        raise UnkeyedError("all its fields are empty")
    return counted(b"m", sorted(pairs))
