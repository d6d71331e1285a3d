"""The add-on: one line in ``ADDONS`` enables the plugin."""

from __future__ import annotations

from scrapy.crawler import Crawler
from scrapy.pipelines import ItemPipelineManager
from scrapy.settings import BaseSettings
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.dupefilter import DupeFilter
from scrapy_valkey_dedup.pipeline import DedupPipeline
from scrapy_valkey_dedup.processor import DedupItemProcessor
from scrapy_valkey_dedup.registry import spider_name
from scrapy_valkey_dedup.requests import RequestDedupMiddleware
from scrapy_valkey_dedup.settings import DedupSettings

PIPELINE_PRIORITY = 100
"""Before any storage: project templates place theirs at 300."""
MIDDLEWARE_PRIORITY = 10
"""Closest to the engine: Scrapy's own begin at 25."""


class Addon:
    """Enables item pipeline and request filter where the user has not placed them already.

    .. code-block:: python

        ADDONS = {"scrapy_valkey_dedup.Addon": 500}
    """

    def __init__(self, spider: str) -> None:
        self._spider = spider

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Addon:
        """Built by Scrapy."""
        return cls(spider_name(crawler))

    def update_settings(self, settings: BaseSettings) -> None:
        """Checks all settings, and adds the components.

        Raises:
            SettingsError: names every fault.

        """
        if not DedupSettings.wanted(settings):
            return
        DedupSettings.parse(settings, self._spider)
        _place(settings, "ITEM_PIPELINES", DedupPipeline, PIPELINE_PRIORITY)
        for role in ("DOWNLOADER_MIDDLEWARES", "SPIDER_MIDDLEWARES"):
            _place(settings, role, RequestDedupMiddleware, MIDDLEWARE_PRIORITY)
        settings.set("DUPEFILTER_CLASS", DupeFilter, "addon")
        if load_object(settings["ITEM_PROCESSOR"]) is ItemPipelineManager:
            settings.set("ITEM_PROCESSOR", DedupItemProcessor, "addon")


def _place(settings: BaseSettings, name: str, component: type, priority: int) -> None:
    """Adds a component, unless the user has placed it, or one of his own that extends it."""
    placed = settings.getdict(name)
    if not any(_extends(path, component) for path, place in placed.items() if place is not None):
        settings.setdefault_in_component_priority_dict(name, component, priority)


def _extends(path: object, component: type) -> bool:
    found = load_object(path)  # type: ignore[arg-type]
    return isinstance(found, type) and issubclass(found, component)
