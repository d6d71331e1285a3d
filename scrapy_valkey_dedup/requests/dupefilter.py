"""The request filter that Scrapy calls: drops what this process has seen, and marks the rest."""

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
    """Scrapy's request fingerprint filter, which also marks requests to be shared with a fleet.

    For ``DUPEFILTER_CLASS``. It needs :class:`~scrapy_valkey_dedup.RequestDedupMiddleware`, which
    asks Valkey. What this process has seen, the filter knows from memory or from ``JOBDIR``.
    """

    marks_requests = True
    """The middleware refuses a ``DUPEFILTER_CLASS`` without this."""
    middleware: RequestDedupMiddleware | None = None
    """The crawl's middleware; None where there is no crawl, or the plugin is off."""

    crawler: Crawler | None = None

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> DupeFilter:
        """Schedulers of other packages may build the filter so. That cannot work.

        Raises:
            SettingsError: with the setting to remove.

        """
        raise SettingsError(list(scheduler_faults(settings)))

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> DupeFilter:
        """Built by Scrapy."""
        dupefilter = super().from_crawler(crawler)
        dupefilter.crawler = crawler
        return dupefilter

    def open(self) -> Deferred[None] | None:
        """Connects to Valkey, if requests are shared.

        Raises:
            SettingsError: the middleware is not enabled.

        """
        # Not in from_crawler(): Scrapy does not end cleanly if its scheduler cannot be built.
        crawler, opened = self.crawler, super().open()
        if crawler is None or not has_engine(crawler) or is_off(crawler) is not None:
            return opened
        _refuse_without_middleware(crawler)
        self.middleware = RequestDedupMiddleware.from_crawler(crawler)
        self.middleware.use_fingerprint(self.page_fingerprint)
        return deferred_from_coro(self.middleware.open()) if self.middleware.asks else opened

    def page_fingerprint(self, request: Request) -> bytes:
        """The fingerprint that this filter uses; the fleet identifies pages by it, too."""
        if not method_is_overridden(type(self), RFPDupeFilter, "request_fingerprint"):
            return self.fingerprinter.fingerprint(request)
        fingerprint = self.request_fingerprint(request)
        try:
            return bytes.fromhex(
                fingerprint
            )  # as without the override, if that returns one of Scrapy's
        except ValueError:
            return fingerprint.encode("utf-8", "surrogatepass")

    def request_seen(self, request: Request) -> bool:
        """Whether the request is a duplicate. If not, it is marked to claim its page."""
        if self.middleware is None:
            return super().request_seen(request)
        if self.middleware.is_known(request):
            return True
        seen = super().request_seen(request)
        self.middleware.filtered(request, seen=seen)
        return seen


def scheduler_faults(settings: BaseSettings) -> Iterator[str]:
    """What is wrong with a scheduler that builds its filter without a crawler: scrapy-redis's.

    It shares requests over a fleet, as this plugin does, so one of them must be removed.
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
