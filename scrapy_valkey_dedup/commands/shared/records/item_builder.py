"""Builds the item that a spider would have yielded from a stored record."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from types import UnionType
from typing import Any

from itemadapter import ItemAdapter
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.identity.item_classes import declared
from scrapy_valkey_dedup.model import DedupError

Convert = Callable[[str], Any]
_NOT = {"true": True, "1": True, "false": False, "0": False}


class BadRecordError(DedupError, ValueError):
    """No item can be built from a record. The message has names and types, but no values."""


def _flag(text: str) -> bool:
    return _NOT[text.strip().lower()]


def _moment(text: str) -> datetime:
    # Before Python 3.11 fromisoformat does not take a final Z.
    return datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)


# Types that a feed stores as text, although their identity differs from that of the text.
CONVERSIONS: Mapping[str, tuple[type, Convert]] = {
    "bool": (bool, _flag),
    "bytes": (bytes, str.encode),
    "date": (date, date.fromisoformat),
    "datetime": (datetime, _moment),
    "decimal": (Decimal, Decimal),
    "float": (float, float),
    "time": (time, time.fromisoformat),
}


def item_class(path: str | None) -> type:
    """The item class of an import path; ``dict`` if the path is None.

    Raises:
        CommandError: it cannot be imported, or it is not an item class.

    """
    if path is None or path == "dict":
        return dict
    try:
        found = load_object(path)
    except Exception as error:  # an import may run any code
        raise CommandError(f"--item {path}: it cannot be imported: {error}") from error
    if not isinstance(found, type) or not ItemAdapter.is_item_class(found):
        raise CommandError(
            f"--item {path}: not an item class (scrapy.Item, dataclass, attrs, pydantic)"
        )
    return found


class ItemBuilder:
    """Builds items from records. Can be pickled if the item class can be imported."""

    def __init__(
        self,
        cls: type,
        renames: Mapping[str, str] | None = None,
        types: Mapping[str, str] | None = None,
    ) -> None:
        """``renames``: from a record's name to a field's; ``types``: conversions by field.

        Raises:
            CommandError: a type is not one of ``CONVERSIONS``.

        """
        self.cls = cls
        self._renames: dict[str, str] = dict(renames or {})
        self.unused_renames = set(self._renames)
        """Names to be renamed that no record has had so far."""
        for name in (types or {}).values():
            if name not in CONVERSIONS:
                raise CommandError(
                    f"--type: there is no {name!r}; there are {', '.join(CONVERSIONS)}"
                )
        self._conversions = {**_annotated(cls), **dict(types or {})}
        names = declared(cls)
        self._declared = None if cls is dict else names

    @property
    def changes_nothing(self) -> bool:
        """Whether records are used as items, unchanged."""
        return self.cls is dict and not self._renames and not self._conversions

    def build(self, record: Any) -> Any:
        """The item of a record.

        Raises:
            BadRecordError: no item can be built. The message says why.

        """
        if type(record) is not dict:
            raise BadRecordError(f"not an object, but a {type(record).__name__}")
        if self.changes_nothing:
            return record
        if self.unused_renames:
            self.unused_renames.difference_update(record)
        values: dict[str, Any] = {
            self._renames.get(str(name), str(name)): value for name, value in record.items()
        }
        for name, kind in self._conversions.items():
            if type(values.get(name)) is str and values[name]:
                values[name] = _converted(name, kind, values[name])
        if self._declared is not None:
            # An old feed may have fields that the class no longer has.
            values = {name: value for name, value in values.items() if name in self._declared}
        return values if self.cls is dict else self._built(values)

    def _built(self, values: dict[str, Any]) -> Any:
        try:
            return self.cls(**values)
        except Exception as error:
            raise BadRecordError(f"not a {self.cls.__qualname__}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Why an item class refused a record, without the record's values."""
    listed = getattr(error, "errors", None)  # pydantic's
    if callable(listed):
        places = (".".join(map(str, fault["loc"])) for fault in listed())
        return f"its fields {', '.join(places)} are missing or have another type"
    # The TypeError of a constructor names arguments, and has no values.
    return str(error) if isinstance(error, TypeError) else f"{type(error).__name__} was raised"


def _converted(name: str, kind: str, text: str) -> Any:
    try:
        return CONVERSIONS[kind][1](text)
    except (KeyError, ValueError, ArithmeticError):
        raise BadRecordError(f"its field {name!r} is not a {kind}") from None


def _annotated(cls: type) -> dict[str, str]:
    """Conversions by field, from the annotations of a dataclass; pydantic converts itself."""
    if not (dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__")):
        return {}
    try:
        hints = typing.get_type_hints(cls)
    except Exception:  # noqa: BLE001 (names that only a type checker knows)
        return {}
    found = {name: _kind(hint) for name, hint in hints.items()}
    return {name: kind for name, kind in found.items() if kind is not None}


def _kind(hint: Any) -> str | None:
    if typing.get_origin(hint) in (typing.Union, UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        return _kind(members[0]) if len(members) == 1 else None
    return next((kind for kind, (cls, _) in CONVERSIONS.items() if hint is cls), None)
