"""Items of every class that Scrapy knows, with the same name and the same fields."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import attr
import pydantic
import scrapy
from scrapy.settings import Settings

from scrapy_valkey_dedup.identity.identifier import Identifier
from scrapy_valkey_dedup.settings import DedupSettings

POST = "posts.items:Post"
"""The import path of the classes below that are called Post."""

FORMS = ("item", "dataclass", "attrs", "pydantic")


def class_of(form: str, name: str, marks: Mapping[str, Any]) -> type:
    """A class of items with these fields; ``marks`` are their ``dedup`` metadata (None: none).

    Classes of one name have one import path, whatever their form and the version of Python.
    """
    made = _class_of(form, name, marks)
    made.__module__, made.__qualname__ = "posts.items", name
    return made


def _class_of(form: str, name: str, marks: Mapping[str, Any]) -> type:
    meta = {field: {} if mark is None else {"dedup": mark} for field, mark in marks.items()}
    if form == "item":
        return type(name, (scrapy.Item,), {key: scrapy.Field(**meta[key]) for key in meta})
    if form == "dataclass":
        listed = [(key, Any, dataclasses.field(default=None, metadata=meta[key])) for key in meta]
        return dataclasses.make_dataclass(name, listed)
    if form == "attrs":
        return attr.make_class(
            name, {key: attr.ib(default=None, metadata=meta[key]) for key in meta}
        )
    listed = {key: (Any, pydantic.Field(None, json_schema_extra=meta[key])) for key in meta}
    return pydantic.create_model(name, **listed)


def post(form: str, name: str = "Post", /, **values: Any) -> Any:
    """An item of a class of that form, with these values."""
    if form == "dict":
        return dict(values)
    return class_of(form, name, dict.fromkeys(values))(**values)


def identifier(**settings: Any) -> Identifier:
    """An identifier with these settings, ``fields=...`` for ``VALKEY_DEDUP_FIELDS``."""
    named = {f"VALKEY_DEDUP_{name.upper()}": value for name, value in settings.items()}
    return Identifier(DedupSettings.parse(Settings(named), "spider"))


def key(item: Any, *, spider: Any = None, **settings: Any) -> bytes | None:
    """The key of an item under these settings."""
    return identifier(**settings).key(item, spider)


def origin(
    path: str, fields: list[str] | None = None, spider: str | None = None
) -> list[str | list[str] | None]:
    """The kind of the items of a class that no rule gives a kind."""
    return [spider, path, fields]


def spider_called(name: str) -> scrapy.Spider:
    """A spider."""
    return scrapy.Spider(name)


def of_one_kind(*fields: str) -> dict[str, Any]:
    """A rule for all classes whose posts are of one kind."""
    return {"*": {"fields": list(fields), "kind": "Post"}}


@contextmanager
def importable(module: str, **members: Any) -> Iterator[None]:
    """Has a module with these members, for rules that name it."""
    names = [module[:at] for at in range(len(module) + 1) if module[at : at + 1] in ("", ".")]
    before = {name: sys.modules.get(name) for name in names}
    for name in names:
        sys.modules[name] = ModuleType(name)
    vars(sys.modules[module]).update(members)
    try:
        yield
    finally:
        for name, found in before.items():
            del sys.modules[name]
            if found is not None:
                sys.modules[name] = found
