"""The rules of identity, as ``VALKEY_DEDUP_FIELDS`` and field metadata state them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from scrapy_valkey_dedup.identity.item_classes import declared, nearest
from scrapy_valkey_dedup.identity.normalise import NORMALISERS, Normaliser, compose
from scrapy_valkey_dedup.parsing import decoded, loaded, text


@dataclass(frozen=True)
class FieldRule:
    """One field of an identity: the way to its value, and what is done to the value."""

    path: tuple[str, ...]
    normalise: Normaliser | None = None
    normalisers: tuple[str, ...] = ()
    """Their names, as the user wrote them."""

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True)
class ClassRule:
    """What identifies the items of one class: fields (None: not said), and the kind they are of."""

    fields: tuple[FieldRule, ...] | None = None
    kind: str | None = None


Normalisers = Mapping[str, Callable[[str], str]]
"""Normalisers by name: see :func:`scrapy_valkey_dedup.identity.normalise.normalisers`."""


def field_rule(rule: str, known: Normalisers = NORMALISERS) -> FieldRule:
    """Parses ``"author.id"``, ``"url:url"``, ``"text:nfkc,casefold"``.

    Raises:
        ValueError: an empty name or an unknown normaliser.

    """
    path, colon, names = rule.partition(":")
    steps = tuple(step.strip() for step in path.split("."))
    if not all(steps):
        raise ValueError(f"{rule!r} has an empty field name")
    if not colon:
        return FieldRule(steps)
    listed = [name.strip() for name in names.split(",")]
    return FieldRule(steps, compose(listed, known), tuple(listed))


def _field_rules(value: Any, known: Normalisers) -> tuple[FieldRule, ...]:
    if isinstance(value, str):
        if ":" in value and "," in value:
            raise ValueError(
                "write a list: a comma between names cannot be told from one between normalisers"
            )
        value = value.split(",")
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError('write a list of field names such as ["platform", "post_id"]')
    return tuple(field_rule(text(name), known) for name in value)


def _class_rule(value: Any, known: Normalisers) -> ClassRule:
    if not isinstance(value, Mapping):
        return ClassRule(_field_rules(value, known))
    if unknown := sorted(set(value) - {"fields", "kind"}):
        raise ValueError(f"{unknown[0]!r} is not known here; a class may have 'fields' and 'kind'")
    listed = value.get("fields")
    return ClassRule(
        _field_rules(listed, known) if listed is not None else None,
        text(value["kind"]) if "kind" in value else None,
    )


def _item_class(name: Any) -> type | None:
    if name == "*":
        return None
    found = dict if name == "dict" else loaded(name)
    if not isinstance(found, type):
        raise ValueError(f"{name!r} is not a class")  # noqa: TRY004
    return found


def undeclared(cls: type, rules: Iterable[FieldRule]) -> str | None:
    """Which field of a rule items of the class cannot have, and what may be meant; None if none."""
    names = declared(cls)
    if names is None:
        return None
    wrong = next((rule.path[0] for rule in rules if rule.path[0] not in names), None)
    if wrong is None:
        return None
    return f"{cls.__qualname__} has no field {wrong!r}; {nearest(wrong, names)}".rstrip("; ")


def _refuse_undeclared(cls: type | None, rule: ClassRule) -> None:
    """A field that neither the class nor a subclass has would leave every item unkeyed."""
    if cls is None or rule.fields is None or not declared(cls):
        return  # a base without fields leaves them to its subclasses
    fault = undeclared(cls, rule.fields)
    if fault and all(undeclared(other, rule.fields) for other in _subclasses(cls)):
        raise ValueError(fault)


def _subclasses(cls: type) -> Iterator[type]:
    found: list[type] = type.__subclasses__(cls)
    for subclass in found:
        yield subclass
        yield from _subclasses(subclass)


def class_rules(value: Any, known: Normalisers = NORMALISERS) -> Mapping[type | None, ClassRule]:
    """Parses the setting: the rule of each item class; None stands for any other class."""
    value = decoded(value)
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none")):
        value = {}
    if not isinstance(value, Mapping):
        value = {"*": value}
    rules = {}
    for name, rule in value.items():
        try:
            cls, parsed = _item_class(name), _class_rule(rule, known)
            _refuse_undeclared(cls, parsed)
            rules[cls] = parsed
        except (TypeError, ValueError) as error:
            raise ValueError(f"for the item class {name!r}: {error}") from error
    return MappingProxyType(rules)
