"""Explains why a post has its key, rule by rule, with the code that spiders use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scrapy_valkey_dedup.identity.encoding import encode
from scrapy_valkey_dedup.identity.extraction import field_values
from scrapy_valkey_dedup.identity.identifier import Identifier
from scrapy_valkey_dedup.identity.item_classes import class_path
from scrapy_valkey_dedup.identity.rules import FieldRule
from scrapy_valkey_dedup.model import Key, UnkeyedError

_LONGEST = 200  # characters of a value


@dataclass(frozen=True)
class FieldShown:
    """One field of an identity, for display."""

    name: str
    value: str
    """The ``repr`` of the item's value."""
    normalisers: tuple[str, ...]
    normalised: str
    """The value after the normalisers; the reason in brackets if it identifies nothing."""


@dataclass(frozen=True)
class Explanation:
    """The identity of an item, and the rule that decides it."""

    item_class: str
    decided_by: str
    kind: str
    fields: tuple[FieldShown, ...]
    key: Key | None
    reason: str = ""
    """Why the item has no key."""
    overruled: str | None = None


@dataclass(frozen=True)
class RuleShown:
    """How the items of a class are identified, for display."""

    item_class: str
    decided_by: str
    kind: str
    fields: tuple[str, ...]
    """Names with normalisers; empty if a function decides, or all fields count."""

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Names and texts for :meth:`Screen.facts`."""
        by = ", ".join(self.fields)
        text = f"{by} ({self.decided_by})" if by else self.decided_by
        return [("class", self.item_class), ("identified by", text), ("kind", self.kind)]


def rule_of(identifier: Identifier, cls: type, spider: Any, scope: str) -> RuleShown:
    """How the pipeline identifies the items of a class."""
    rule, _ = identifier.rule_for(cls, spider)
    if rule.kind is not None:
        kind = repr(rule.kind)
    else:
        parts = [f"spider {spider.name!r}"] if scope == "spider" else []
        parts.append(f"class {class_path(cls)}")
        if rule.fields is not None:
            parts.append(f"fields {', '.join(map(str, rule.fields))}")
        kind = ", ".join(parts)
    fields = tuple(":".join((str(field), *field.normalisers)) for field in rule.fields or ())
    return RuleShown(class_path(cls), rule.decided_by, kind, fields)


def explain(identifier: Identifier, item: Any, spider: Any, scope: str) -> Explanation:
    """The identity of an item, as the pipeline computes it."""
    cls = type(item)
    rule, _ = identifier.rule_for(cls, spider)
    key, reason = None, ""
    try:
        key = identifier.identify(item, spider)
    except UnkeyedError as error:
        reason = str(error)
    shown = rule_of(identifier, cls, spider, scope)
    return Explanation(
        shown.item_class,
        shown.decided_by,
        shown.kind,
        tuple(_shown(item, field) for field in rule.fields or ()),
        key,
        reason,
        rule.overruled,
    )


def _shown(item: Any, field: FieldRule) -> FieldShown:
    names = field.normalisers
    try:
        value, _ = field_values(item, FieldRule(field.path))
    except Exception as error:  # noqa: BLE001 (properties are user code)
        return FieldShown(str(field), f"({type(error).__name__} was raised)", names, "")
    try:
        _, normalised = field_values(item, field)
        encode(normalised)
    except Exception as error:  # noqa: BLE001 (normalisers are user code)
        said = str(error) if isinstance(error, UnkeyedError) else f"{type(error).__name__} raised"
        return FieldShown(str(field), _text(value), names, f"({said})")
    return FieldShown(str(field), _text(value), names, _text(normalised))


def _text(value: Any) -> str:
    if value is None or value in ("", []):
        return "(nothing)"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
