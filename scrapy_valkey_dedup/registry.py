"""Finds the one session of a crawler, for whatever component of it asks."""

from __future__ import annotations

from functools import partial
from weakref import WeakKeyDictionary, ref

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.utils.asyncio import is_asyncio_available
from scrapy.utils.defer import deferred_from_coro
from twisted.internet.defer import Deferred

from scrapy_valkey_dedup.model import SettingsError
from scrapy_valkey_dedup.session import Session
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import Stats

_closing: set[Deferred[None]] = set()
_sessions: WeakKeyDictionary[Crawler, ref[Session]] = WeakKeyDictionary()


def spider_name(crawler: Crawler) -> str:
    """The spider's name, also while Scrapy has only its class."""
    spider = crawler.spider or crawler.spidercls
    return getattr(spider, "name", None) or crawler.spidercls.__name__


def has_engine(crawler: Crawler) -> bool:
    """Whether the crawler crawls: components may be built and opened without one, by a test."""
    try:
        return crawler.engine is not None
    except RuntimeError:  # how Scrapy 2.19 says that there is no engine yet
        return False


def _close_spider(crawler: Crawler, reason: str) -> None:
    engine = crawler.engine
    if engine is None or engine.spider is None or _is_closing(crawler):
        return
    closing = deferred_from_coro(engine.close_spider_async(reason=reason))
    _closing.add(closing)  # nobody else holds it
    closing.addBoth(lambda _: _closing.discard(closing))


def _is_closing(crawler: Crawler) -> bool:
    """Whether the spider is on its way to its end: Scrapy tells its extensions only when it is."""
    slot = getattr(crawler.engine, "_slot", None)
    return slot is not None and slot.closing is not None


def session_of(crawler: Crawler) -> Session:
    """The crawler's one session, for all components.

    Raises:
        NotConfigured: ``VALKEY_DEDUP_ENABLED`` is off.
        SettingsError: a setting is wrong, or Scrapy runs without asyncio.

    """
    if not DedupSettings.wanted(crawler.settings):
        raise NotConfigured("VALKEY_DEDUP_ENABLED is off")
    known = _sessions.get(crawler)
    session = known() if known is not None else None
    if session is None:
        if not is_asyncio_available():
            found = crawler.settings.get("TWISTED_REACTOR")
            cure = "remove it, or set 'twisted.internet.asyncioreactor.AsyncioSelectorReactor'"
            raise SettingsError([f"TWISTED_REACTOR = {found!r}: the plugin needs asyncio; {cure}"])
        settings = DedupSettings.parse(crawler.settings, spider_name(crawler))
        session = Session(
            settings,
            Stats(crawler.stats),
            close_spider=partial(_close_spider, crawler),
            is_closing=partial(_is_closing, crawler),
        )
        _sessions[crawler] = ref(session)  # the session leads to the crawler: it must not hold it
        crawler.signals.connect(session.engine_started, signals.engine_started)
        crawler.signals.connect(session.spider_closed, signals.spider_closed)
        crawler.signals.connect(session.engine_stopped, signals.engine_stopped)
    return session
