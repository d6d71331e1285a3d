"""Which rule holds for a class of items: of the settings, of its metadata, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from itemadapter import ItemAdapter

from scrapy_valkey_dedup.encoding import encode
from scrapy_valkey_dedup.item_classes import class_path
from scrapy_valkey_dedup.rules import ClassRule, FieldRule, Known, field_rule, undeclared

_UNNAMED = ClassRule()


@dataclass(frozen=True)
class Resolved:
    """What identifies the items of one class."""

    fields: tuple[FieldRule, ...] | None = None
    """None: a function says it, or all fields count."""
    kind: str | None = None
    """The user's own word for what kind of post it is, if any."""
    fault: str | None = None
    """Why no item of the class has an identity."""
    overruled: str | None = None
    """The rule that another one goes before: the user may take it for the one that holds."""

    def encoded_kind(self, cls: type, spider: str | None) -> bytes:
        """What the values are values of: the user's word, or all that may tell kinds apart.

        Posts of two spiders, two classes or two sets of fields may have the same values by chance:
        without the user's word they are different posts. ``spider``: None if all count as one.
        """
        if self.kind is not None:
            return encode(self.kind)
        names = None if self.fields is None else [str(rule) for rule in self.fields]
        return encode([spider, class_path(cls), names])


def resolve(
    cls: type, rules: Mapping[type | None, ClassRule], known: Known, *, by_function: bool
) -> Resolved:
    """The settings' rule for the class or its nearest ancestor, its metadata, the rule for all."""
    own = next((rules[base] for base in cls.__mro__ if base in rules), None)
    others = rules.get(None, _UNNAMED)
    if by_function:
        return Resolved(kind=(own or others).kind)
    try:
        marked = _from_metadata(cls, known)
    except ValueError as error:
        return Resolved(fault=str(error))
    if own is not None and own.fields is not None:
        overruled = "its dedup metadata" if marked else None
        return _checked(cls, Resolved(own.fields, own.kind, overruled=overruled))
    if marked is None:
        return _checked(cls, Resolved(others.fields, (own or others).kind))
    overruled = "the rule for all classes in VALKEY_DEDUP_FIELDS" if others.fields else None
    # The kind of a rule for all classes is that of its fields, if it names any.
    kind = (own or others).kind if own or not others.fields else None
    return Resolved(marked, kind, overruled=overruled)


def _checked(cls: type, found: Resolved) -> Resolved:
    wrong = undeclared(cls, found.fields or ())
    if wrong is None:
        return found
    return Resolved(found.fields, found.kind, f"VALKEY_DEDUP_FIELDS: {wrong}", found.overruled)


def _from_metadata(cls: type, known: Known) -> tuple[FieldRule, ...] | None:
    """The fields declared with ``dedup=True`` or ``dedup="url"`` (a normaliser), by name.

    Not in the order of their declaration: Scrapy 2.14 does not know that of an Item.

    Raises:
        ValueError: says which field is declared wrongly.

    """
    rules = []
    for name in sorted(ItemAdapter.get_field_names_from_class(cls) or ()):
        mark = _mark(cls, name)
        if not mark:
            continue
        try:
            rules.append(field_rule(name if mark is True else f"{name}:{mark}", known))
        except ValueError as error:
            raise ValueError(
                f"its field {name!r} is declared with dedup={mark!r}: {error}"
            ) from None
    return tuple(rules) or None


def _mark(cls: type, name: str) -> Any:
    meta = ItemAdapter.get_field_meta_from_class(cls, name)
    extra = meta.get("json_schema_extra")  # where pydantic keeps what it does not know
    return meta.get("dedup") or (extra.get("dedup") if isinstance(extra, dict) else None)
