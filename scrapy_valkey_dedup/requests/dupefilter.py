"""The request fingerprint filter: what the process itself has seen is told from memory."""

from __future__ import annotations

from collections.abc import Iterator

from scrapy.crawler import Crawler
from scrapy.dupefilters import RFPDupeFilter
from scrapy.http import Request
from scrapy.settings import BaseSettings
from scrapy.utils.defer import deferred_from_coro
from scrapy.utils.deprecate import method_is_overridden
from scrapy.utils.misc import load_object
from twisted.internet.defer import Deferred

from scrapy_valkey_dedup.model import SettingsError
from scrapy_valkey_dedup.requests.middleware import RequestDedupMiddleware
from scrapy_valkey_dedup.session.refusals import refused
from scrapy_valkey_dedup.session.registry import has_engine, is_off


class DupeFilter(RFPDupeFilter):
    """Scrapy's request fingerprint filter, which also marks requests for the fleet's.

    For ``DUPEFILTER_CLASS``; needs :class:`~scrapy_valkey_dedup.RequestDedupMiddleware`. What this
    process has seen is answered from memory, or from ``JOBDIR``.
    """

    marks_requests = True
    """What the middleware looks for in ``DUPEFILTER_CLASS``."""
    middleware: RequestDedupMiddleware | None = None
    """The asynchronous half; None where there is no crawl, or the plugin is off."""

    crawler: Crawler | None = None

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> DupeFilter:
        """How schedulers of other packages would build it, which cannot work.

        Raises:
            SettingsError: says what to remove.

        """
        raise SettingsError(list(scheduler_faults(settings)))

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> DupeFilter:
        """Built by Scrapy."""
        dupefilter = super().from_crawler(crawler)
        dupefilter.crawler = crawler
        return dupefilter

    def open(self) -> Deferred[None] | None:
        """Connects to Valkey, if it is to be asked about requests.

        Raises:
            SettingsError: the middleware is not enabled.

        """
        # Not earlier: Scrapy cannot end well if its scheduler cannot be built.
        crawler, opened = self.crawler, super().open()
        if crawler is None or not has_engine(crawler) or is_off(crawler) is not None:
            return opened
        _refuse_without_middleware(crawler)
        self.middleware = RequestDedupMiddleware.from_crawler(crawler)
        self.middleware.tell_pages_apart_by(self.page_fingerprint)
        return deferred_from_coro(self.middleware.open()) if self.middleware.asks else opened

    def page_fingerprint(self, request: Request) -> bytes:
        """What this filter goes by: so the fleet tells pages apart as the process does."""
        if not method_is_overridden(type(self), RFPDupeFilter, "request_fingerprint"):
            return self.fingerprinter.fingerprint(request)
        fingerprint = self.request_fingerprint(request)
        try:
            return bytes.fromhex(fingerprint)  # the same as without the override, if it says so
        except ValueError:
            return fingerprint.encode("utf-8", "surrogatepass")

    def request_seen(self, request: Request) -> bool:
        """Whether the request is a duplicate; if not, it is marked to be asked for."""
        if self.middleware is None:
            return super().request_seen(request)
        if self.middleware.is_known(request):
            return True
        seen = super().request_seen(request)
        self.middleware.mark(request, seen=seen)
        return seen


def scheduler_faults(settings: BaseSettings) -> Iterator[str]:
    """What is wrong with a scheduler, such as scrapy-redis's, that knows filters without a crawler.

    Both share requests over a fleet, so one of them has to go.
    """
    scheduler, dupefilter = settings["SCHEDULER"], settings["DUPEFILTER_CLASS"]
    if hasattr(load_object(scheduler), "from_settings") and (
        getattr(load_object(dupefilter), "marks_requests", False)
    ):
        yield (
            f"SCHEDULER = {scheduler!r} cannot use this plugin's request filter. Remove it: with "
            "VALKEY_DEDUP_JOB no page is fetched twice by a fleet. Or keep it, and set "
            "DUPEFILTER_CLASS to the filter that belongs to it, such as "
            "'scrapy_redis.dupefilter.RFPDupeFilter': then the plugin is for posts only"
        )


def _refuse_without_middleware(crawler: Crawler) -> None:
    found = {
        "DOWNLOADER_MIDDLEWARES": crawler.get_downloader_middleware(RequestDedupMiddleware),
        "SPIDER_MIDDLEWARES": crawler.get_spider_middleware(RequestDedupMiddleware),
    }
    missing = [setting for setting, middleware in found.items() if middleware is None]
    if missing:
        cure = "add scrapy_valkey_dedup.RequestDedupMiddleware there, or use the add-on"
        raise refused(
            crawler,
            [
                f"{setting} does not have the middleware that DUPEFILTER_CLASS = "
                f"{crawler.settings['DUPEFILTER_CLASS']!r} needs: {cure}"
                for setting in missing
            ],
        )
