"""Loads a project's spiders with their settings, and finds what they yield in their code."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import scrapy
from itemadapter import ItemAdapter
from scrapy.addons import AddonManager
from scrapy.crawler import Crawler
from scrapy.loader import ItemLoader
from scrapy.settings import Settings
from scrapy.spiderloader import get_spider_loader

from scrapy_valkey_dedup.model import SettingsError
from scrapy_valkey_dedup.settings import DedupSettings


@dataclass(frozen=True)
class SpiderInfo:
    """A spider with the settings that a crawl would have."""

    name: str
    cls: type[scrapy.Spider]
    crawler: Crawler
    settings: DedupSettings | None
    """None if they are invalid."""
    faults: tuple[str, ...] = ()
    """What is invalid in the settings."""


def load_spiders(settings: Settings, only: str | None = None) -> list[SpiderInfo]:
    """Loads the spiders, without building them; a placeholder if the project has none."""
    settings = settings.copy()
    if hasattr(AddonManager, "load_pre_crawler_settings"):
        AddonManager.load_pre_crawler_settings(settings)
    loader = get_spider_loader(settings)
    classes = {name: loader.load(name) for name in loader.list() if only in (None, name)}
    if not classes:
        name = only or "spider"
        classes = {name: type("NoSpider", (scrapy.Spider,), {"name": name})}
    return [_seen(name, cls, settings) for name, cls in classes.items()]


def _seen(name: str, cls: type[scrapy.Spider], settings: Settings) -> SpiderInfo:
    crawler = Crawler(cls, settings.copy())
    try:
        crawler.addons.load_settings(crawler.settings)
        return SpiderInfo(name, cls, crawler, DedupSettings.parse(crawler.settings, name))
    except SettingsError as error:
        return SpiderInfo(name, cls, crawler, None, tuple(error.faults))
    except Exception as error:  # noqa: BLE001 (modules of the user's, which may raise anything)
        fault = f"what the settings name cannot be loaded: {type(error).__name__}: {error}"
        return SpiderInfo(name, cls, crawler, None, (fault,))


def item_classes(seen: SpiderInfo) -> list[type]:
    """The item classes in the modules of a spider and its bases; ``dict`` if it yields dicts."""
    root = seen.cls.__module__.partition(".")[0]
    if root == __name__.partition(".")[0]:  # the placeholder: this package has no items
        return []
    found: dict[type, None] = {}
    for base in seen.cls.__mro__:
        if base.__module__.partition(".")[0] == root:
            for value in list(vars(sys.modules[base.__module__]).values()):
                found.update(dict.fromkeys(_items_in(value, root)))
    if yielded_dicts(seen):
        found[dict] = None
    return list(found)


def _items_in(value: Any, root: str) -> Iterator[type]:
    """The item classes that a value in a spider's module is, or refers to."""
    if isinstance(value, ModuleType) and value.__name__.partition(".")[0] == root:
        yield from filter(_is_item, vars(value).values())
    elif isinstance(value, type) and issubclass(value, ItemLoader):
        if _is_item(value.default_item_class):
            yield value.default_item_class
    elif _is_item(value):
        yield value


def _is_item(value: Any) -> bool:
    """Whether a value is an item class with fields; one without fields is only a base."""
    if not isinstance(value, type) or value is dict:
        return False
    try:
        return bool(ItemAdapter.get_field_names_from_class(value))
    except TypeError:
        return False


@dataclass(frozen=True)
class YieldedDict:
    """A dict literal that a spider yields."""

    spider: str
    line: int
    """Its line in the spider's file."""
    names: frozenset[str]
    """Its keys that are literal strings."""


def yielded_dicts(seen: SpiderInfo) -> list[YieldedDict]:
    """The dict literals after a ``yield`` in a spider's source code."""
    try:
        lines, first = inspect.getsourcelines(seen.cls)
        tree = ast.parse(inspect.cleandoc("\n" + "".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return []
    return [
        YieldedDict(seen.name, first + node.lineno - 1, names)
        for node in ast.walk(tree)
        if isinstance(node, ast.Yield) and (names := _names_in(node.value))
    ]


def _names_in(value: ast.expr | None) -> frozenset[str]:
    if not isinstance(value, ast.Dict):
        return frozenset()
    return frozenset(_constants(value))


def _constants(value: ast.Dict) -> Iterator[Any]:
    for key in value.keys:
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            return  # the other keys are not known
        yield key.value
