"""A user's request filters, fingerprinters and middlewares, of the plugin's and of others' kind."""

from __future__ import annotations

from scrapy.dupefilters import RFPDupeFilter

from scrapy_valkey_dedup import DupeFilter, RequestDedupMiddleware
from tests.support.spiders.requests import Reader

FILTERS = __name__


class Counts:
    """Before a filter among the bases of a class: counts its questions in the stat ``name``."""

    @classmethod
    def from_crawler(cls, crawler):
        made = super().from_crawler(crawler)
        made.stats = crawler.stats
        return made

    def request_seen(self, request):
        self.stats.inc_value(self.name)
        return super().request_seen(request)


class OwnFilter(Counts, DupeFilter):
    """A user's filter that extends the plugin's."""

    name = "own filter"


class WithoutQuery:
    """A fingerprinter for which a URL's query means nothing."""

    def fingerprint(self, request):
        return request.url.partition("?")[0].encode()


class FilterWithoutQuery(DupeFilter):
    """A user's filter that says itself what is the same page, as Scrapy's old docs show it."""

    def request_fingerprint(self, request):
        return request.url.partition("?")[0].encode().hex()


class FilterOfTexts(DupeFilter):
    """One whose fingerprints are no hexadecimal numbers, which newer Scrapy refuses."""

    def request_fingerprint(self, request):
        return request.url.partition("?")[0]


class FilterWithFingerprinter(DupeFilter):
    """A user's filter that is given another fingerprinter than the crawler's."""

    @classmethod
    def from_crawler(cls, crawler):
        made = super().from_crawler(crawler)
        made.fingerprinter = WithoutQuery()
        return made


class OwnMiddleware(RequestDedupMiddleware):
    """A user's middleware that extends the plugin's."""

    async def process_request(self, request):
        self._crawler.stats.inc_value("own middleware")
        return await super().process_request(request)


class ForeignFilter(Counts, RFPDupeFilter):
    """A user's filter that has nothing to do with the plugin."""

    name = "foreign filter"


class OneObject(Reader):
    """Asks for the plugin's middleware in all ways there are."""

    name = "one_object"

    async def start(self):
        asked = [
            self.crawler.get_downloader_middleware(RequestDedupMiddleware),
            self.crawler.get_spider_middleware(RequestDedupMiddleware),
            RequestDedupMiddleware.from_crawler(self.crawler),
            RequestDedupMiddleware.from_crawler(self.crawler),
        ]
        middlewares = {id(middleware) for middleware in asked}
        self.notes["callbacks"].append("one middleware" if len(middlewares) == 1 else "several")
        return
        yield
