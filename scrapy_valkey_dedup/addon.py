"""The add-on: one line in ``ADDONS`` enables the plugin."""

from __future__ import annotations

from scrapy.crawler import Crawler
from scrapy.pipelines import ItemPipelineManager
from scrapy.settings import BaseSettings
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.items.pipeline import DedupPipeline
from scrapy_valkey_dedup.items.processor import DedupItemProcessor
from scrapy_valkey_dedup.model import SettingsError
from scrapy_valkey_dedup.requests.dupefilter import DupeFilter, scheduler_faults
from scrapy_valkey_dedup.requests.middleware import RequestDedupMiddleware
from scrapy_valkey_dedup.session.refusals import note_task, refuse
from scrapy_valkey_dedup.session.registry import is_off, spider_name
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

    def __init__(self, spider: str, crawler: Crawler | None = None) -> None:
        self._spider = spider
        self._crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Addon:
        """Built by Scrapy."""
        note_task(crawler)
        return cls(spider_name(crawler), crawler)

    def update_settings(self, settings: BaseSettings) -> None:
        """Checks all settings, and adds the components.

        Raises:
            NotConfigured: nothing is deduplicated in this command of Scrapy.
            SettingsError: names every fault.

        """
        if not DedupSettings.is_enabled(settings):
            return
        if self._crawler is not None and (off := is_off(self._crawler)) is not None:
            raise off
        try:
            DedupSettings.parse(settings, self._spider)
            self._add_components(settings)
        except SettingsError as error:
            if self._crawler is not None:
                refuse(self._crawler, error)
            raise

    def _add_components(self, settings: BaseSettings) -> None:
        _place(settings, "ITEM_PIPELINES", DedupPipeline, PIPELINE_PRIORITY)
        for role in ("DOWNLOADER_MIDDLEWARES", "SPIDER_MIDDLEWARES"):
            _place(settings, role, RequestDedupMiddleware, MIDDLEWARE_PRIORITY)
        settings.set("DUPEFILTER_CLASS", DupeFilter, "addon")
        if load_object(settings["ITEM_PROCESSOR"]) is ItemPipelineManager:
            settings.set("ITEM_PROCESSOR", DedupItemProcessor, "addon")
        if faults := list(scheduler_faults(settings)):
            raise SettingsError(faults)


def _place(settings: BaseSettings, name: str, component: type, priority: int) -> None:
    """Adds a component, unless the user has placed it, or a subclass of it."""
    placed = settings.getdict(name)
    if not any(_extends(path, component) for path, place in placed.items() if place is not None):
        settings.setdefault_in_component_priority_dict(name, component, priority)


def _extends(path: object, component: type) -> bool:
    found = load_object(path)  # type: ignore[arg-type]
    return isinstance(found, type) and issubclass(found, component)
