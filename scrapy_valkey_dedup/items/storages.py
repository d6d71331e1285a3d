"""What a crawl stores its posts with, as far as its settings show, and so when a post is stored."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.extensions.feedexport import (
    FeedExporter,
    FileFeedStorage,
    FTPFeedStorage,
    GCSFeedStorage,
    S3FeedStorage,
)
from scrapy.pipelines.media import MediaPipeline
from scrapy.settings import BaseSettings
from scrapy.utils.conf import build_component_list
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.valkey.urls import without_user

SCRAPED, EXPORTED, MANUAL, CLAIMED = "scraped", "exported", "manual", "claimed"
NOWHERE = "nowhere"
"""Nothing stores the posts, so none is remembered."""

_OF_LINES = "jsonlines", "jsonl", "jl", "csv"
"""Formats of which two files, one behind the other, are one. (JSON and XML have an end.)"""
_TIMES = re.compile(r"%\((?:batch_)?time\)s")
# A word of a class's name: "MongoPipeline", "save_posts", not "HistoryFilter" or "Restored".
_SOUNDS_LIKE_STORING = re.compile(
    r"(?:^|_|(?=[A-Z]))(?i:stor(?:e|age|ing)|mongo|postgres|mysql|mariadb|sqlite|sqlalchemy|"
    r"elastic|opensearch|kafka|redis|s3|dynamo|bigquery|export|writ|save|insert|database|db|"
    r"images|files)"
)


@dataclass(frozen=True)
class Feed:
    """One feed of the crawl. ``overwrites``: in each run it replaces what an earlier one stored."""

    uri: str
    overwrites: bool
    shares_seconds: bool = False
    """Two runs that start in the same second overwrite each other's file."""
    may_append: bool = False
    """Its file is still one of its format if a run appends to it."""


@dataclass(frozen=True)
class Storages:
    """What stores the posts of one crawl: its feeds, and its pipelines but for ours."""

    feeds_wanted: bool
    """Whether the settings name feeds."""
    feeds: Sequence[Feed] | None
    """None: Scrapy has not enabled its feed exporter."""
    before: Sequence[Any]
    """The pipelines that an item comes to before ours."""
    behind: Sequence[Any]
    number: Any
    """Ours in ITEM_PIPELINES."""

    @property
    def when_stored(self) -> str:
        """When a post is stored, where ``VALKEY_DEDUP_CONFIRM`` does not say it."""
        pipelines = any(may_store(pipeline) for pipeline in self.behind)
        lasting = self.feeds is None or not all(feed.overwrites for feed in self.feeds)
        if self.feeds_wanted and (lasting or pipelines):
            return EXPORTED
        return SCRAPED if pipelines else NOWHERE


def storages_of(crawler: Crawler, ours: object) -> Storages:
    """The storages of a crawl whose engine is built; ``ours`` is the deduplication's pipeline."""
    before, behind = _around(crawler, ours)
    exporter = crawler.get_extension(FeedExporter)
    return _storages(crawler.settings, exporter, before, behind, type(ours))


def storages_in(crawler: Crawler, ours: type) -> Storages:
    """The same of a crawl that is not to be: of pipelines the classes, none of which is built.

    Raises:
        ValueError: none of them is ours.

    """
    listed = build_component_list(crawler.settings.getwithbase("ITEM_PIPELINES"))
    pipelines = [load_object(each) for each in listed]
    are_ours = [isinstance(each, type) and issubclass(each, ours) for each in pipelines]
    if True not in are_ours:
        raise ValueError("the deduplication is not in ITEM_PIPELINES")
    place = are_ours.index(True)
    exporter = None
    with suppress(NotConfigured):
        exporter = FeedExporter(crawler)
    before, behind = pipelines[:place], pipelines[place + 1 :]
    return _storages(crawler.settings, exporter, before, behind, pipelines[place])


def _storages(
    settings: BaseSettings, exporter: Any, before: Sequence[Any], behind: Sequence[Any], ours: type
) -> Storages:
    wanted = [*settings.getdict("FEEDS"), *filter(None, [settings.get("FEED_URI")])]
    feeds = None
    if exporter is not None:
        feeds = [
            _feed(uri, options, exporter.storages)
            for uri, options in exporter.feeds.items()
            if uri != os.devnull
        ]
    number = _number_of(ours, settings)
    return Storages(any(str(uri) != os.devnull for uri in wanted), feeds, before, behind, number)


def _number_of(pipeline: type, settings: BaseSettings) -> Any:
    """As messages show it. A pipeline whose number is None is off, and may not even be there."""
    listed = settings.getwithbase("ITEM_PIPELINES").items()
    enabled = [(each, number) for each, number in listed if number is not None]
    found = (number for each, number in enabled if load_object(each) is pipeline)
    return next(found, f"{pipeline.__name__}'s")


def _feed(uri: str, options: dict[str, Any], storages: dict[str, Any]) -> Feed:
    overwrites = _overwrites(uri, options, storages)
    times = _TIMES.findall(uri)  # what uri_params makes of other names cannot be known
    by_second = overwrites and times and not any("batch_time" in time for time in times)
    return Feed(
        without_user(uri),
        overwrites and not times,
        shares_seconds=bool(by_second),
        may_append=options.get("format") in _OF_LINES and not _cannot_append(uri, storages),
    )


def _overwrites(uri: str, options: dict[str, Any], storages: dict[str, Any]) -> bool:
    """Whether a file that is there already is replaced."""
    if _cannot_append(uri, storages):
        return True
    storage = _storage(uri, storages)
    by_default = isinstance(storage, type) and issubclass(storage, FTPFeedStorage)
    return bool(options.get("overwrite", by_default))


def _cannot_append(uri: str, storages: dict[str, Any]) -> bool:
    storage = _storage(uri, storages)
    return isinstance(storage, type) and issubclass(storage, (S3FeedStorage, GCSFeedStorage))


def _storage(uri: str, storages: dict[str, Any]) -> Any:
    return storages.get(urlparse(uri).scheme, FileFeedStorage)


def _around(crawler: Crawler, ours: object) -> tuple[list[Any], list[Any]]:
    """The enabled pipelines before and behind ours, in order."""
    engine = crawler.engine
    assert engine is not None  # noqa: S101 (it opens the pipelines)
    pipelines = list(engine.scraper.itemproc.middlewares)
    place = pipelines.index(ours)
    return pipelines[:place], pipelines[place + 1 :]


def may_store(pipeline: Any) -> bool:
    """Whether a pipeline may store posts: not if it fetches files, or only hands the item on."""
    if issubclass(_class_of(pipeline), MediaPipeline):
        return False
    code = getattr(getattr(pipeline, "process_item", None), "__code__", None)
    return code is None or bool(code.co_names or code.co_cellvars or code.co_freevars)


def _class_of(pipeline: Any) -> type:
    """Its class; or itself, where it is one that is not built."""
    return pipeline if isinstance(pipeline, type) else type(pipeline)


def name_of(pipeline: Any) -> str:
    """Module and name of a pipeline's class."""
    cls = _class_of(pipeline)
    return f"{cls.__module__}.{cls.__qualname__}"


def seems_to_store(pipeline: Any) -> bool:
    """Whether it is one of Scrapy's media pipelines, or is named like a storage."""
    cls = _class_of(pipeline)
    return (
        issubclass(cls, MediaPipeline) or _SOUNDS_LIKE_STORING.search(cls.__qualname__) is not None
    )
