"""Why a crawl does not start, said once and in one line: Scrapy adds only tracebacks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, ref

from scrapy.crawler import Crawler
from scrapy.extensions.corestats import CoreStats

from scrapy_valkey_dedup.model import DedupError, SettingsError

logger = logging.getLogger(__name__)

_tasks: WeakKeyDictionary[Crawler, ref[asyncio.Task[Any]]] = WeakKeyDictionary()


def note_task(crawler: Crawler) -> None:
    """Call it where Scrapy builds a component: Scrapy does that in the task of the crawl."""
    with suppress(RuntimeError):  # there is no loop yet, as under CrawlerProcess
        task = asyncio.current_task()
        if task is not None:
            _tasks.setdefault(crawler, ref(task))


def refused(crawler: Crawler, faults: list[str]) -> SettingsError:
    """What is to be raised for faults in the settings."""
    error = SettingsError(faults)
    refuse(crawler, error)
    return error


def refuse(crawler: Crawler, error: DedupError) -> None:
    """Says why the crawl does not start. The error must be raised next, which is what ends it.

    Scrapy has no other way that is safe: a spider that is closed instead has been opened, so that
    feeds which overwrite replace what they held before.
    """
    logger.error("%s", error)
    _open_core_stats(crawler)
    known = _tasks.get(crawler)
    task = known() if known is not None else None
    if task is not None:
        task.add_done_callback(_heard(error))


def _heard(error: DedupError) -> Callable[[asyncio.Task[Any]], None]:
    def look(task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        # A caller that awaits the task gets it all the same; where none does, as in `scrapy crawl`,
        # asyncio would log its traceback, unless it was asked for.
        found = task.exception()
        if found is not None and found is not error:
            context = {"message": "The crawl failed", "exception": found, "task": task}
            task.get_loop().call_exception_handler(context)

    return look


def _open_core_stats(crawler: Crawler) -> None:
    """Opens them: CoreStats fails an assertion if a spider is closed that was never opened."""
    with suppress(RuntimeError):  # no extensions yet
        stats = crawler.get_extension(CoreStats)
        if stats is not None and stats.start_time is None and crawler.spider is not None:
            stats.spider_opened(crawler.spider)
