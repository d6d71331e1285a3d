"""Finds the one session of a crawler, for all its components."""

from __future__ import annotations

from functools import partial
from weakref import WeakKeyDictionary, ref

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.settings import SETTINGS_PRIORITIES, BaseSettings
from scrapy.utils.defer import deferred_from_coro
from twisted.internet.defer import Deferred

from scrapy_valkey_dedup.model import SettingsError
from scrapy_valkey_dedup.session.event_loop import refuse_without_asyncio
from scrapy_valkey_dedup.session.refusals import note_task, refuse
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import Stats

_closing: set[Deferred[None]] = set()
_sessions: WeakKeyDictionary[Crawler, ref[Session]] = WeakKeyDictionary()


def spider_name(crawler: Crawler) -> str:
    """The spider's name, also while Scrapy has only its class."""
    spider = crawler.spider or crawler.spidercls
    return getattr(spider, "name", None) or crawler.spidercls.__name__


def has_engine(crawler: Crawler) -> bool:
    """Whether the crawler crawls, or is about to: components are also built without an engine."""
    try:
        return crawler.engine is not None
    except RuntimeError:  # how Scrapy 2.19 says that there is no engine yet
        return False


def is_off(crawler: Crawler) -> NotConfigured | None:
    """Why the plugin does nothing in this crawl, None if it works.

    `scrapy parse`, `fetch`, `check` and `shell` try a page out. None of them waits for an item that
    is on its way through an asynchronous pipeline: with ours it would come to a storage that is
    closed. And a page that is looked at in a shell is not done: the job must fetch it still.
    """
    if not DedupSettings.is_enabled(crawler.settings):
        return NotConfigured("VALKEY_DEDUP_ENABLED is off")
    if _is_shell(crawler.settings):
        return NotConfigured()
    # They replace start() in the class: scrapy/commands/ of Scrapy 2.14 to 2.19.
    start = getattr(crawler.spidercls, "start", None)
    package, _, command = str(getattr(start, "__module__", "")).rpartition(".")
    if package != "scrapy.commands":
        return None
    if command != "parse":
        return NotConfigured()
    return NotConfigured(
        "in `scrapy parse` nothing is deduplicated: --pipelines stores every item, and none is "
        "remembered"
    )


def _is_shell(settings: BaseSettings) -> bool:
    """Whether `scrapy shell` runs: alone of all commands it comes with these, also a user's spider.

    Source: scrapy/commands/shell.py of Scrapy 2.14 to 2.19.
    """
    by_command = [
        name
        for name in ("DUPEFILTER_CLASS", "LOGSTATS_INTERVAL")
        if settings.getpriority(name) == SETTINGS_PRIORITIES["command"]
    ]
    if "DUPEFILTER_CLASS" in by_command:
        return True
    return "LOGSTATS_INTERVAL" in by_command and settings.getfloat("LOGSTATS_INTERVAL") == 0


def _close_spider(crawler: Crawler, reason: str) -> None:
    engine = crawler.engine
    if engine is None or engine.spider is None or _is_closing(crawler):
        return
    closing = deferred_from_coro(engine.close_spider_async(reason=reason))
    _closing.add(closing)  # nothing else holds it
    closing.addBoth(lambda _: _closing.discard(closing))


def _is_closing(crawler: Crawler) -> bool:
    """Whether the spider is being closed: Scrapy's signal comes only when it is closed."""
    slot = getattr(crawler.engine, "_slot", None)
    return slot is not None and slot.closing is not None


def session_of(crawler: Crawler) -> Session:
    """The crawler's one session, for all components.

    Raises:
        NotConfigured: see :func:`is_off`.
        SettingsError: a setting is wrong, or Scrapy runs without asyncio.

    """
    if (off := is_off(crawler)) is not None:
        raise off
    known = _sessions.get(crawler)
    session = known() if known is not None else None
    if session is None:
        note_task(crawler)
        try:
            refuse_without_asyncio(crawler.settings)
            settings = DedupSettings.parse(crawler.settings, spider_name(crawler))
        except SettingsError as error:
            refuse(crawler, error)
            raise
        session = Session(
            settings,
            Stats(crawler.stats),
            close_spider=partial(_close_spider, crawler),
            is_closing=partial(_is_closing, crawler),
            refused=partial(refuse, crawler),
            spider=spider_name(crawler),
        )
        _sessions[crawler] = ref(session)  # the session leads to the crawler: it must not hold it
        crawler.signals.connect(session.engine_started, signals.engine_started)
        crawler.signals.connect(session.spider_closed, signals.spider_closed)
        crawler.signals.connect(session.engine_stopped, signals.engine_stopped)
    return session
