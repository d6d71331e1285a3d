"""Which rule applies to a class of items: one of the settings, its metadata, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from itemadapter import ItemAdapter

from scrapy_valkey_dedup.identity.encoding import encode
from scrapy_valkey_dedup.identity.item_classes import class_path
from scrapy_valkey_dedup.identity.rules import (
    ClassRule,
    FieldRule,
    Normalisers,
    field_rule,
    undeclared,
)

_UNNAMED = ClassRule()
ALL_FIELDS = "nothing: all fields of the item count"
METADATA = "the dedup metadata of the item class"


@dataclass(frozen=True)
class ResolvedRule:
    """What identifies the items of one class."""

    fields: tuple[FieldRule, ...] | None = None
    """None: a function says it, or all fields count."""
    kind: str | None = None
    """The user's own word for what kind of post it is, if any."""
    fault: str | None = None
    """Why no item of the class has an identity."""
    overruled: str | None = None
    """The rule that another one takes precedence over: the user may expect this one to apply."""
    decided_by: str = ALL_FIELDS
    """The rule that says it, as the user wrote it."""

    def encoded_kind(self, cls: type, spider: str | None) -> bytes:
        """The encoding of the kind: the user's word, or all that may distinguish kinds.

        Posts of two spiders, two classes or two sets of fields may have the same values by chance:
        without the user's word they are different posts. ``spider``: None if all count as one.
        """
        if self.kind is not None:
            return encode(self.kind)
        names = None if self.fields is None else [str(rule) for rule in self.fields]
        return encode([spider, class_path(cls), names])


def resolve(
    cls: type, rules: Mapping[type | None, ClassRule], known: Normalisers, *, by_function: bool
) -> ResolvedRule:
    """The settings' rule for the class or its nearest ancestor, its metadata, the rule for all."""
    base = next((base for base in cls.__mro__ if base in rules), None)
    own = rules[base] if base is not None else None
    others = rules.get(None, _UNNAMED)
    if by_function:
        return ResolvedRule(kind=(own or others).kind, decided_by="VALKEY_DEDUP_IDENTITY")
    try:
        marked = _from_metadata(cls, known)
    except ValueError as error:
        return ResolvedRule(fault=str(error))
    if own is not None and own.fields is not None:
        overruled = "its dedup metadata" if marked else None
        named = f"VALKEY_DEDUP_FIELDS, for {class_path(base)}" if base is not None else ""
        return _checked(cls, ResolvedRule(own.fields, own.kind, None, overruled, named))
    if marked is None:
        named = "VALKEY_DEDUP_FIELDS, for all classes" if others.fields else ALL_FIELDS
        kind = (own or others).kind
        return _checked(cls, ResolvedRule(others.fields, kind, decided_by=named))
    overruled = "the rule for all classes in VALKEY_DEDUP_FIELDS" if others.fields else None
    # The kind of a rule for all classes is that of its fields, if it names any.
    kind = (own or others).kind if own or not others.fields else None
    return ResolvedRule(marked, kind, overruled=overruled, decided_by=METADATA)


def _checked(cls: type, found: ResolvedRule) -> ResolvedRule:
    wrong = undeclared(cls, found.fields or ())
    if wrong is None:
        return found
    return replace(found, fault=f"VALKEY_DEDUP_FIELDS: {wrong}")


def _from_metadata(cls: type, known: Normalisers) -> tuple[FieldRule, ...] | None:
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
