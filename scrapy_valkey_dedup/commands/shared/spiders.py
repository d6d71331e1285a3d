"""The spiders of a project with their settings, and what they yield, as far as it can be read."""

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
    """One spider, as a crawl would have it."""

    name: str
    cls: type[scrapy.Spider]
    crawler: Crawler
    settings: DedupSettings | None
    """None: they have faults."""
    faults: tuple[str, ...] = ()


def load_spiders(settings: Settings, only: str | None = None) -> list[SpiderInfo]:
    """The spiders; of a project without any one that stands for all. None is built."""
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
    """The classes of items that a spider's module knows; dict, if it yields any."""
    root = seen.cls.__module__.partition(".")[0]
    found: dict[type, None] = {}
    for base in seen.cls.__mro__:
        if base.__module__.partition(".")[0] == root:
            for value in list(vars(sys.modules[base.__module__]).values()):
                found.update(dict.fromkeys(_items_in(value, root)))
    if yielded_dicts(seen):
        found[dict] = None
    return list(found)


def _items_in(value: Any, root: str) -> Iterator[type]:
    """What a name of a spider's module leads to."""
    if isinstance(value, ModuleType) and value.__name__.partition(".")[0] == root:
        yield from filter(_is_item, vars(value).values())
    elif isinstance(value, type) and issubclass(value, ItemLoader):
        if _is_item(value.default_item_class):
            yield value.default_item_class
    elif _is_item(value):
        yield value


def _is_item(value: Any) -> bool:
    """Whether it is a class of items; one without fields leaves them to its subclasses."""
    if not isinstance(value, type) or value is dict:
        return False
    try:
        return bool(ItemAdapter.get_field_names_from_class(value))
    except TypeError:
        return False


@dataclass(frozen=True)
class YieldedDict:
    """A dict that a spider yields, as its source has it."""

    spider: str
    line: int
    names: frozenset[str]


def yielded_dicts(seen: SpiderInfo) -> list[YieldedDict]:
    """The dicts that stand behind a ``yield`` in a spider's source, with the names they have."""
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
            return  # it may have any others
        yield key.value
