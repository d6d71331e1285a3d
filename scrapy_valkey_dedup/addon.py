"""The add-on: one line in ``ADDONS`` enables the plugin."""

from __future__ import annotations

from scrapy.crawler import Crawler
from scrapy.settings import BaseSettings
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.pipeline import DedupPipeline, spider_name
from scrapy_valkey_dedup.settings import DedupSettings

PIPELINE_PRIORITY = 100
"""Before any storage: project templates place theirs at 300."""


class Addon:
    """Enables the item pipeline where the user has not placed it already.

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
        placed = settings.getdict("ITEM_PIPELINES")
        if not any(_is_ours(path) for path, place in placed.items() if place is not None):
            settings.setdefault_in_component_priority_dict(
                "ITEM_PIPELINES", DedupPipeline, PIPELINE_PRIORITY
            )


def _is_ours(path: object) -> bool:
    """Whether the user has placed the pipeline, or one of his own that extends it."""
    found = load_object(path)  # type: ignore[arg-type]
    return isinstance(found, type) and issubclass(found, DedupPipeline)
