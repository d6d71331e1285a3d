"""Spiders for all that can become of a request, each with the site that it reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import ClassVar

import scrapy
from scrapy import signals
from scrapy.downloadermiddlewares.retry import get_retry_request
from scrapy.dupefilters import RFPDupeFilter
from scrapy.exceptions import CloseSpider, DontCloseSpider, IgnoreRequest, StopDownload
from scrapy.http import FormRequest, JsonRequest, TextResponse
from scrapy.pipelines.files import FilesPipeline

from scrapy_valkey_dedup import DupeFilter, RequestDedupMiddleware
from tests.support.servers.web import (
    RESET,
    Asked,
    Reply,
    error,
    flapping,
    gzip_bomb,
    picture,
    posts,
    redirect,
    refresh,
    robots,
)
from tests.support.spiders.component import Component
from tests.support.spiders.requests import REFUSED, Reader

HERE = "tests.support.spiders.scenarios"
STORE = "tests.support.spiders.requests.Store"


class Links(Reader):
    """Pages that link to each other, and to themselves."""

    name = "links"
    starts = ("/", "/", "/1")
    pages: ClassVar = {
        "/": posts("0", links=["/1", "/2", "/3", "/"]),
        "/1": posts("1", links=["/", "/2"]),
        "/2": posts(links=["/3#fragment", "/4?b=1&a=2", "/4?a=2&b=1"]),
        "/3": posts("3", "3b"),
        "/4?b=1&a=2": posts("4", links=["/1"]),
    }


class StartUrls(Reader):
    """``start_urls``, which Scrapy's own ``start()`` sends past the filter."""

    name = "start_urls"
    pages: ClassVar = {"/a": posts("a", links=["/b"]), "/b": posts("b", links=["/a"])}
    again = frozenset({"/a"})
    start = scrapy.Spider.start

    def __init__(self, job):
        super().__init__(job)
        self.start_urls = [self.site + "/a", self.site + "/a"]


class Redirects(Reader):
    """Redirects of every kind, also such as lead nowhere."""

    name = "redirects"
    custom_settings: ClassVar = {"REDIRECT_MAX_TIMES": 3}
    allowed_domains = ("127.0.0.1",)
    pages: ClassVar = {
        "/301": redirect("/a", 301),
        "/a": posts("a"),
        "/302": redirect("/b", 302),
        "/b": posts("b"),
        "/307": redirect("/c", 307),
        "/c": posts("c"),
        "/refresh": refresh("/d"),
        "/d": posts("d"),
        "/many/1": redirect("/hub"),
        "/many/2": redirect("/hub"),
        "/many/3": redirect("/hub"),
        "/hub": posts("hub", links=["/behind", "/301", "/a"]),
        "/behind": posts("behind"),
        "/unfiltered": redirect("/hub"),
        "/self": redirect("/self"),
        "/loop": redirect("/loop/1"),
        "/loop/1": redirect("/loop"),
        "/gate": [redirect("/gate"), posts("gate")],
        "/chain": redirect("/chain/1", 301),
        "/chain/1": redirect("/chain/2"),
        "/chain/2": refresh("/chain/3"),
        "/chain/3": posts("chain"),
        "/far": redirect("/far/1"),
        "/far/1": redirect("/far/2"),
        "/far/2": redirect("/far/3"),
        "/far/3": redirect("/far/4"),
        "/far/4": posts("never"),
        "/away": redirect("{other}/elsewhere"),
        "/elsewhere": posts("never"),
        "/lost": redirect("/missing"),
        "/mail": redirect("mailto:somebody@example.com"),
        "/handled": redirect("/never"),
        "/unfollowed": redirect("/never"),
    }
    starts = (
        "/301", "/302", "/307", "/refresh", "/many/1", "/many/2", "/many/3", "/self", "/loop",
        "/chain", "/away",
    )  # fmt: skip
    again = frozenset({
        "/far", "/far/1", "/far/2", "/far/3", "/lost", "/missing", "/mail", "/unfollowed",
        "/unfiltered", "/hub", "/gate",
    })  # fmt: skip
    either = frozenset({"/self", "/many/1", "/many/2", "/many/3", "/loop", "/loop/1", "/away"})
    unstored = frozenset({"/handled"})

    async def start(self):
        async for request in super().start():
            yield request
        for path in ("/far", "/lost", "/mail"):
            yield self.get(path, errback=self.failed)
        for path in ("/unfiltered", "/gate"):
            yield self.get(path, dont_filter=True)
        yield self.get("/handled", self.seen, meta={"handle_httpstatus_list": [302]})
        yield self.get("/unfollowed", errback=self.failed, meta={"dont_redirect": True})

    def seen(self, response):
        self.note("seen", response)


class AwayAllowed(Reader):
    """A redirect to another host, where the spider may go anywhere."""

    name = "away"
    starts = ("/away",)
    pages: ClassVar = {"/away": redirect("{other}/elsewhere"), "/elsewhere": posts("elsewhere")}


class Retries(Reader):
    """A site that flaps; pages that never come; retries that a callback asks for."""

    name = "retries"
    custom_settings: ClassVar = {"RETRY_TIMES": 2}
    pages: ClassVar = {
        "/500": flapping(2, posts("500")),
        "/reset": flapping(2, posts("reset"), RESET),
        "/late": [posts("too late", delay=4), posts("late")],
        "/hop": flapping(1, redirect("/hop/1")),
        "/hop/1": flapping(1, posts("hop")),
        "/page": flapping(1, posts("page", links=["/500", "/linked"]), error(503)),
        "/linked": flapping(2, posts("linked"), error(504)),
        "/gone": error(503),
        "/gone/silently": error(503),
        "/cut": RESET,
        "/cut/silently": RESET,
        "/once": error(500),
        "/soon": [posts(ready=False), posts(ready=False), posts("soon", ready=True)],
        "/never": posts(ready=False),
        "/turned": [posts(ready=False), error(404)],
        "/later": [posts(ready=False), error(500), posts("later", ready=True)],
    }
    starts = ("/500", "/reset", "/hop", "/page", "/gone/silently", "/cut/silently")
    again = frozenset({"/gone", "/gone/silently", "/cut", "/cut/silently", "/once", "/turned"})
    either = frozenset({"/never", "/soon", "/later"})

    async def start(self):
        async for request in super().start():
            yield request
        yield self.get("/gone", errback=self.failed)
        yield self.get("/cut", errback=self.failed)
        yield self.get("/once", errback=self.failed, meta={"dont_retry": True})
        yield self.get("/late", meta={"download_timeout": 1})
        for path in ("/soon", "/never", "/later", "/turned"):
            yield self.get(path, self.when_ready)

    def when_ready(self, response):
        self.note("when_ready", response)
        if not response.json()["ready"]:
            return get_retry_request(response.request, spider=self, reason="not ready")
        return self.posts(response)


class Failures(Reader):
    """Errors of HTTP and of the network, with errbacks of every kind and without."""

    name = "failures"
    custom_settings: ClassVar = {"RETRY_ENABLED": False}
    handle_httpstatus_list = (418,)
    pages: ClassVar = {
        "/404": error(404),
        "/403": error(403),
        "/500": error(500),
        "/500/errback": error(500),
        "/418": error(418),
        "/410": error(410),
        "/slow": posts("too late", delay=4),
        "/cut": RESET,
        "/big": posts(*range(1000)),
        "/bomb": gzip_bomb(1_000_000),
        "/stopped": posts("never"),
        "/stopped/well": posts("stopped"),
        "/ok": posts("ok"),
        "/second": [error(404), posts("second")],
        "/found": posts("found"),
        "/found/2": posts("found/2"),
        "/found/3": posts("found/3"),
    }
    starts = ("/404", "/500", "/418", "/ok", REFUSED + "/silently", "gopher://127.0.0.1/silently")
    again = frozenset({
        "/404", "/403", "/500", "/500/errback", "/slow", "/cut", "/big", "/bomb", "/stopped",
        "/returned", "/raising", "/raising/2", "/waiting", "/generating", "/sending", "/ok",
    })  # fmt: skip
    either = frozenset({"/second"})
    unstored = frozenset({"/418", "/410", "/stopped/well"})

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.headers_received, signals.headers_received)
        return spider

    def headers_received(self, request):
        if request.url.endswith("/stopped"):
            raise StopDownload(fail=True)
        if request.url.endswith("/stopped/well"):
            raise StopDownload(fail=False)

    async def start(self):
        async for request in super().start():
            yield request
        failing = ("/403", "/cut", "/500/errback", REFUSED, "gopher://127.0.0.1/", "/stopped")
        for path in failing:
            yield self.get(path, errback=self.failed)
        yield self.get("/410", self.seen, meta={"handle_httpstatus_list": [410]})
        yield self.get("/stopped/well", self.seen)
        yield self.get("/slow", errback=self.failed, meta={"download_timeout": 1})
        yield self.get("/big", errback=self.failed, meta={"download_maxsize": 1000})
        yield self.get("/bomb", errback=self.failed, meta={"download_maxsize": 100_000})
        yield self.get("/sending", errback=self.sends)
        yield self.get("/second", errback=self.asks_again)
        yield self.get("/returned", errback=self.returns_it)
        yield self.get("/raising", errback=self.raises)
        yield self.get("/raising/2", errback=self.raises_late)
        yield self.get("/waiting", errback=self.waits)
        yield self.get("/generating", errback=self.generates)

    def parse(self, response):
        if response.status == 418:
            return self.seen(response)
        return super().parse(response)

    def seen(self, response):
        self.note("seen", response)

    def sends(self, failure):
        self.note_failure(failure)
        yield {"post_id": "from an errback"}
        yield self.get("/found", meta=failure.request.meta)
        yield self.get("/ok", meta=failure.request.meta, dont_filter=True)
        yield failure.request  # the filter knows it

    def asks_again(self, failure):
        self.note_failure(failure)
        yield failure.request.replace(dont_filter=True, errback=self.failed)

    def returns_it(self, failure):
        self.note_failure(failure)
        return failure

    def raises(self, failure):
        self.note_failure(failure)
        raise ValueError("in an errback")

    def raises_late(self, failure):
        self.note_failure(failure)
        yield {"post_id": "before it raised"}
        raise ValueError("in an errback, later")

    async def waits(self, failure):
        await asyncio.sleep(0.05)
        self.note_failure(failure)
        return [{"post_id": "after a while"}, self.get("/found/2", meta=failure.request.meta)]

    async def generates(self, failure):
        self.note_failure(failure)
        await asyncio.sleep(0.05)
        yield {"post_id": "one by one"}
        yield self.get("/found/3", meta=failure.request.meta.copy())


class Callbacks(Reader):
    """Callbacks of every kind, and what they do with the request that they were called for."""

    name = "callbacks"
    pages: ClassVar = {
        f"/{name}": posts(name)
        for name in (
            "nothing", "none", "an_item", "a_list", "a_request", "a_generator", "waits",
            "waits_for_nothing", "generates", "many", "raises", "raises_late", "raises_later",
            "takes_arguments", "downloads", "hands_meta_on", "hands_request_on", "clears_meta",
            "sends_itself", "polls", "dropped", "refused", "dropped_some",
        )
    } | {
        f"/child/{number}": posts(f"child {number}") for number in range(1, 12)
    } | {
        "/detail": posts("detail"),
        "/polled": [posts(ready=False), posts(ready=False), posts("polled", ready=True)],
    }  # fmt: skip
    again = frozenset({"/raises", "/raises_late", "/raises_later", "/refused"})
    either = frozenset({"/polled"})
    unstored = frozenset({
        "/nothing", "/none", "/waits_for_nothing", "/a_request", "/dropped", "/dropped_some",
        "/downloads", "/detail",
    })  # fmt: skip

    async def start(self):
        for page in self.pages:
            if not page.startswith(("/child", "/detail", "/polled", "/takes")):
                name = page[1:] if hasattr(self, page[1:]) else "parse"
                yield self.get(page, getattr(self, name))
        yield self.get("/polled", self.polls)
        yield self.get("/takes_arguments", self.takes_arguments, cb_kwargs={"post": "argument"})

    def nothing(self, response):
        self.note("nothing", response)
        yield from ()

    def none(self, response):
        self.note("none", response)

    def an_item(self, response):
        self.note("an_item", response)
        return self.posts(response)[0]

    def a_list(self, response):
        self.note("a_list", response)
        return [*self.posts(response), {"post_id": "listed"}, self.get("/child/1"), None]

    def a_request(self, response):
        self.note("a_request", response)
        return self.get("/child/2")

    async def waits(self, response):
        await asyncio.sleep(0.05)
        self.note("waits", response)
        return self.posts(response)

    async def waits_for_nothing(self, response):
        await asyncio.sleep(0.05)
        self.note("waits_for_nothing", response)

    async def generates(self, response):
        self.note("generates", response)
        for post in self.posts(response):
            await asyncio.sleep(0.05)
            yield post
        await asyncio.sleep(0.05)

    def many(self, response):
        self.note("many", response)
        return ({"post_id": f"many {number}"} for number in range(300))

    def raises(self, response):
        self.note("raises", response)
        raise ValueError("before it yields")

    def raises_late(self, response):
        self.note("raises_late", response)
        yield from self.posts(response)
        yield self.get("/child/3")
        raise ValueError("after it has yielded")

    async def raises_later(self, response):
        self.note("raises_later", response)
        for post in self.posts(response):
            yield post
        await asyncio.sleep(0.05)
        raise ValueError("after a while")

    def takes_arguments(self, response, post):
        self.note("takes_arguments", response)
        response.cb_kwargs["post"] = "changed"
        yield {"post_id": post}

    async def downloads(self, response):
        """Downloads in the callback, past the scheduler."""
        self.note("downloads", response)
        detail = await self.crawler.engine.download_async(self.get("/detail"))
        self.note("downloaded", detail)

    def hands_meta_on(self, response):
        """The most common of all ways to tell the next callback something."""
        self.note("hands_meta_on", response)
        yield self.get("/child/4", meta=response.meta, dont_filter=True)
        yield self.get("/child/5", meta=response.meta)
        yield self.get("/child/6", self.raises, meta=response.meta.copy(), dont_filter=True)
        yield from self.posts(response)

    def hands_request_on(self, response):
        self.note("hands_request_on", response)
        url = self.site + "/child/"
        yield response.request.replace(url=url + "7", callback=self.parse, dont_filter=True)
        yield response.request.replace(url=url + "8", callback=self.raises, dont_filter=True)
        yield response.request.replace(url=url + "9", callback=self.parse)
        yield response.follow("/child/10", self.parse, meta=response.meta)
        yield from self.posts(response)

    def clears_meta(self, response):
        self.note("clears_meta", response)
        response.meta.clear()
        yield from self.posts(response)

    def sends_itself(self, response):
        """The filter knows it."""
        self.note("sends_itself", response)
        yield response.request
        yield from self.posts(response)

    def polls(self, response):
        self.note("polls", response)
        if not response.json().get("ready", True):
            yield response.request.replace(dont_filter=True)
        yield from self.posts(response)

    def dropped_some(self, response):
        self.note("dropped_some", response)
        return [{"post_id": "not dropped"}, {"post_id": "dropped, this one"}]


class Inline(Reader):
    """Callbacks that download in the middle, with the meta of their response, and with its URL."""

    name = "inline"
    pages: ClassVar = {
        "/a": posts("a"),
        "/b": posts("b"),
        "/b/detail": posts("b, detail"),
        "/moved": redirect("/c"),
        "/c": posts("c"),
    }

    async def start(self):
        yield self.get("/a", self.downloads_itself)
        yield self.get("/b", self.downloads_detail)
        yield self.get("/moved", self.downloads_itself)

    async def downloads_itself(self, response):
        self.note("downloads_itself", response)
        for request in (response.request, response.request.copy(), response.request):
            self.note("again", await self.crawler.engine.download_async(request))
        return self.posts(response)

    async def downloads_detail(self, response):
        self.note("downloads_detail", response)
        request = self.get("/b/detail", meta=response.meta)
        detail = await self.crawler.engine.download_async(request)
        self.note("detail", detail)
        return [*self.posts(response), *self.posts(detail)]


class AsksMore(Component):
    """A pipeline that sends requests: through the scheduler, and past it."""

    async def process_item(self, item):
        engine, spider = self.crawler.engine, self.crawler.spider
        if item["post_id"] == "a":
            for path in ("/piped", "/piped", "/b"):
                engine.crawl(spider.get(path))
            for _ in range(2):
                response = await engine.download_async(scrapy.Request(spider.site + "/fetched"))
                spider.note("fetched", response)
        return item


class AsksWhenIdle:
    """An extension that sends requests when an item is scraped, and when nothing is left to do."""

    @classmethod
    def from_crawler(cls, crawler):
        extension = cls()
        extension.crawler, extension.done = crawler, False
        crawler.signals.connect(extension.item_scraped, signals.item_scraped)
        crawler.signals.connect(extension.idle, signals.spider_idle)
        return extension

    def item_scraped(self, item):
        spider = self.crawler.spider
        self.crawler.engine.crawl(spider.get("/scraped?" + item["post_id"], spider.seen))

    def idle(self):
        if not self.done:
            self.done = True
            self.crawler.engine.crawl(self.crawler.spider.get("/idle"))
            self.crawler.engine.crawl(self.crawler.spider.get("/a"))
            raise DontCloseSpider


class StartsMore(Component):
    """A spider middleware that adds to what start() yields."""

    async def process_start(self, start):
        async for sent in start:
            yield sent
        yield scrapy.Request(self.crawler.spider.site + "/added")


class Senders(Reader):
    """Requests from all who can send one."""

    name = "senders"
    custom_settings: ClassVar = {
        "ITEM_PIPELINES": {f"{HERE}.AsksMore": 200, STORE: 300},
        "EXTENSIONS": {f"{HERE}.AsksWhenIdle": 0},
        "SPIDER_MIDDLEWARES": {f"{HERE}.StartsMore": 543},
    }
    pages: ClassVar = {
        "/a": posts("a"),
        "/b": posts("b"),
        "/piped": posts("piped"),
        "/fetched": posts("fetched"),
        "/idle": posts("idle", links=["/a"]),
        "/added": posts("added"),
        **{
            f"/scraped?{post}": Reply(b"noted")
            for post in ("a", "b", "piped", "idle", "added", "started")
        },
    }

    async def start(self):
        yield {"post_id": "started"}
        yield self.get("/a")
        await asyncio.sleep(0.05)
        yield self.get("/a")

    def seen(self, response):
        self.note("seen", response)


def _with_files(post, *names):
    return {"post_id": str(post), "file_urls": [f"{{site}}{name}.png" for name in names]}


class Files(Reader):
    """Posts with files: shared, redirected, flapping, missing, and one that is a page as well."""

    name = "files"
    custom_settings: ClassVar = {
        "ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 200, STORE: 300},
        "FILES_STORE": "files",
        "MEDIA_ALLOW_REDIRECTS": True,
    }
    pages: ClassVar = {
        "/": posts(_with_files(1, "/a"), _with_files(2, "/a"), links=["/more", "/more/2"]),
        "/more": posts(
            _with_files(3, "/a", "/b"), _with_files(4, "/moved"), _with_files(5, "/none")
        ),
        "/more/2": posts(_with_files(6, "/flap"), _with_files(7, "/a"), 8),
        "/a.png": picture(1),
        "/b.png": picture(2),
        "/moved.png": redirect("/c.png"),
        "/c.png": picture(3),
        "/flap.png": flapping(1, picture(4)),
    }
    starts = ("/",)
    unstored = frozenset({"/a.png"})

    async def start(self):
        yield self.get("/a.png", self.seen)
        async for request in super().start():
            yield request

    def seen(self, response):
        self.note("seen", response)


class FilesFirst(Files):
    """The same with the media pipeline where Scrapy's manual puts it: before all others."""

    name = "files_first"
    custom_settings: ClassVar = Files.custom_settings | {
        "ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 1, STORE: 300}
    }


class CopiesMeta(FilesPipeline):
    """A media pipeline that hands on the meta of the page."""

    def get_media_requests(self, item, info):
        return [scrapy.Request(url, meta=item["meta"]) for url in item.get("file_urls", ())]


class FilesWithMeta(Files):
    """The same with a media pipeline whose requests have the meta of the page."""

    name = "files_with_meta"
    custom_settings: ClassVar = Files.custom_settings | {
        "ITEM_PIPELINES": {f"{HERE}.CopiesMeta": 200, STORE: 300}
    }

    def posts(self, response):
        for post in super().posts(response):
            yield {**post, "meta": response.meta}


class Images(Reader):
    """Two posts with the same image."""

    name = "images"
    custom_settings: ClassVar = {
        "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 200, STORE: 300},
        "IMAGES_STORE": "images",
    }
    pages: ClassVar = {"/": posts("1", "2", "3"), "/a.png": picture(1), "/b.png": picture(2)}
    starts = ("/",)

    def posts(self, response):
        for post in super().posts(response):
            name = "/b.png" if post["post_id"] == "3" else "/a.png"
            yield {**post, "image_urls": [self.site + name]}


class Robots(Reader):
    """A robots.txt that forbids pages, those that errbacks wait for as well."""

    name = "robots"
    # One by one: of several requests that wait for a robots.txt Scrapy asks it for the first only.
    custom_settings: ClassVar = {"ROBOTSTXT_OBEY": True, "CONCURRENT_REQUESTS": 1}
    pages: ClassVar = {
        "/robots.txt": robots("/private"),
        "/": posts("open", links=["/private/3", "/linked"]),
        "/linked": posts("linked"),
        "/moved": redirect("/private/4"),
        "/private/free": posts("free"),
    }
    starts = ("/", "/private/1", "/moved")
    either = frozenset({"/robots.txt", "/moved"})

    async def start(self):
        async for request in super().start():
            yield request
        yield self.get("/private/2", errback=self.failed)
        yield self.get("/private/free", meta={"dont_obey_robotstxt": True})


class Meddler(Component):
    """A middleware of both kinds that does what the request's meta says, once."""

    place = "inner"

    def told(self, request, *actions):
        action = request.meta.get(self.place)
        return action if action in actions else None

    def instead(self, request, **changes):
        """Another request, which is left alone."""
        meta = {key: value for key, value in request.meta.items() if key != self.place}
        return request.replace(meta=meta, **changes)

    def page(self, request, post):
        body = json.dumps({"posts": [{"post_id": post}], "links": []})
        return TextResponse(request.url, body=body, encoding="utf-8")

    def elsewhere(self, request):
        site = self.crawler.spider.site
        return self.instead(request, url=request.url.replace(site, site + "/for"))

    # -- as a downloader middleware --------------------------------------------------------------

    def process_request(self, request):
        action = self.told(request, "ignore", "break", "answer", "send elsewhere", "send again")
        if action == "ignore":
            raise IgnoreRequest("not this one")
        if action == "break":
            raise ValueError("on the way out")
        if action == "answer":
            return self.page(request, f"made by {self.place}")
        if action == "send elsewhere":
            return self.elsewhere(request)
        if action == "send again":
            return self.instead(request, dont_filter=True)
        return None

    def process_response(self, request, response):
        action = self.told(
            request, "ignore it", "break it", "change it", "go elsewhere", "go again"
        )
        if action == "ignore it":
            raise IgnoreRequest("not this answer")
        if action == "break it":
            raise ValueError("on the way in")
        if action == "change it":
            return self.page(request, f"changed by {self.place}")
        if action == "go elsewhere":
            return self.elsewhere(request)
        if action == "go again":
            return self.instead(request, dont_filter=True)
        return response

    def process_exception(self, request, exception):
        action = self.told(request, "make good", "try elsewhere", "try again")
        if action == "make good":
            return self.page(request, f"made good by {self.place}")
        if action == "try elsewhere":
            return self.elsewhere(request)
        if action == "try again":
            return self.instead(request, dont_filter=True)
        return None

    # -- as a spider middleware ------------------------------------------------------------------

    def process_spider_input(self, response):
        if self.told(response.request, "refuse"):
            raise ValueError("not this response")

    async def process_spider_output(self, response, result):
        action = self.told(response.request, "drop all", "keep one", "fail late", "add")
        if action == "drop all":
            return
        async for sent in result:
            yield sent
            if action == "keep one":
                return
            if action == "fail late":
                raise ValueError("in a middleware")
        if action == "add":
            yield {"post_id": f"added by {self.place}"}
            yield self.crawler.spider.get(f"/added/{self.place}", meta=response.meta)

    def process_spider_exception(self, response, exception):
        action = self.told(response.request, "swallow", "replace")
        if action == "swallow":
            return []
        if action == "replace":
            return [{"post_id": f"instead, by {self.place}"}]
        return None


class OuterMeddler(Meddler):
    """The same, closer to the engine than the plugin."""

    place = "outer"


_UNASKED = ("ignore", "break")
_FAILED = ("ignore it", "break it", "fail late", "refuse")
_ANSWERED = ("answer", "send elsewhere", "change it", "go again", "add", "make good", "try again")
_OPEN = (
    "send again", "go elsewhere", "drop all", "keep one", "try elsewhere", "swallow", "replace",
)  # fmt: skip


def _path(place, action):
    return f"/{place}/{action}".replace(" ", "-")


def _paths(*actions):
    return {_path(place, action): None for place in ("inner", "outer") for action in actions}


class Middlewares(Reader):
    """A user's middlewares that drop, answer, replace, break and swallow, on both sides of ours."""

    name = "middlewares"
    custom_settings: ClassVar = {
        "DOWNLOADER_MIDDLEWARES": {f"{HERE}.Meddler": 543, f"{HERE}.OuterMeddler": 5},
        "SPIDER_MIDDLEWARES": {f"{HERE}.Meddler": 543, f"{HERE}.OuterMeddler": 5},
        "RETRY_ENABLED": False,
    }
    paths: ClassVar = {
        _path(place, action): (place, action)
        for place in ("inner", "outer")
        for action in (*_UNASKED, *_FAILED, *_ANSWERED, *_OPEN)
    }
    pages: ClassVar = {
        **{path: posts(path + "#1", path + "#2") for path in paths},
        **{path + "/e": posts(path + "/e#1", path + "/e#2") for path in paths},
        **{"/for" + path: posts("for" + path) for path in paths},
        **{
            path: [RESET, posts(path)] for path in _paths("make good", "try elsewhere", "try again")
        },
        "/added/inner": posts("added 1"),
        "/added/outer": posts("added 2"),
    }
    again = frozenset(path + suffix for path in _paths(*_FAILED) for suffix in ("", "/e"))
    # What a middleware refuses and an errback deals with looks like a page that was done.
    either = frozenset(_paths(*_OPEN)) | {
        "/outer/make-good",
        "/outer/try-again",
        "/inner/refuse/e",
    }

    async def start(self):
        for path, (place, action) in self.paths.items():
            callback = self.raises if action in ("swallow", "replace") else self.parse
            yield self.get(path, callback, meta={place: action})
            if action in (*_UNASKED, *_FAILED):
                yield self.get(path + "/e", callback, meta={place: action}, errback=self.failed)

    def raises(self, response):
        self.note("raises", response)
        raise ValueError("in a callback")


class Posting(Reader):
    """POST requests, which their body tells apart."""

    name = "posting"

    @staticmethod
    def _search(asked: Asked) -> Reply:
        word = json.loads(asked.body)["word"]
        return posts(word, links=["/linked"])

    @staticmethod
    def _form(asked: Asked) -> Reply:
        return posts(asked.body.decode())

    pages: ClassVar = {
        "POST /search": _search.__func__,
        "POST /form": _form.__func__,
        "POST /moved": redirect("/got", 302),
        "POST /kept": redirect("/search", 307),
        "/got": posts("got"),
        "/linked": posts("linked"),
        "/form": posts("form by GET"),
    }

    async def start(self):
        for word in ("a", "b", "b", "c"):
            yield JsonRequest(self.site + "/search", data={"word": word})
        for number in (1, 2, 2):
            yield FormRequest(self.site + "/form", formdata={"number": str(number)})
        yield self.get("/form")
        yield FormRequest(self.site + "/moved", formdata={"number": "1"})
        yield JsonRequest(self.site + "/kept", data={"word": "d"})


class Exempt(Reader):
    """Requests that are none of the ledger's business."""

    name = "exempt"
    custom_settings: ClassVar = {"VALKEY_DEDUP_REQUESTS_MATCH": [r"/post/\d", "/kept$"]}
    pages: ClassVar = {
        "/": posts("0", links=["/post/1", "/post/2", "/kept", "/kept/not"]),
        "/post/1": posts("1"),
        "/post/2": posts("2"),
        "/post/3": posts("3"),
        "/post/4": posts("4", links=["/post/1"]),
        "/kept": posts("kept"),
        "/kept/not": posts("kept not"),
    }
    starts = ("/",)
    again = frozenset({"/", "/post/3", "/post/4", "/kept/not"})

    async def start(self):
        async for request in super().start():
            yield request
        for _ in range(2):
            yield self.get("/post/3", dont_filter=True)
            yield self.get("/post/4", meta={"dedup": False})


class Tree(Reader):
    """Forty pages, each of which leads to others. ``options["close"]``: the page that ends it."""

    name = "tree"
    custom_settings: ClassVar = {"CONCURRENT_REQUESTS": 4}
    pages: ClassVar = {
        f"/{number}": posts(
            number,
            links=[f"/{other % 40}" for other in range(2 * number, 2 * number + 3)],
            delay=0.02,
        )
        for number in range(40)
    }

    async def start(self):
        for path in self.pages if self.job.options.get("starts") == "all" else ["/1"]:
            yield self.get(path)

    def parse(self, response):
        yield from super().parse(response)
        if response.url.endswith(self.job.options.get("close", "never")):
            raise CloseSpider("enough")


class Held(Reader):
    """A page that a run holds, with ``options["hold"]`` until it is killed, and another page."""

    name = "held"
    pages: ClassVar = {"/held": posts("held"), "/free": posts("free")}

    async def start(self):
        yield self.get("/held", self.holds, priority=1)
        if not self.job.options.get("hold"):
            yield self.get("/free")

    async def holds(self, response):
        while self.job.options.get("hold"):
            await asyncio.sleep(0.05)
        return self.posts(response)


class Rescuer(Component):
    """A spider middleware that recovers: with what the request's meta names, from any error."""

    def process_spider_exception(self, response, exception):
        rescue = response.meta.get("rescue")
        spider = self.crawler.spider
        if rescue == "item":
            return [{"post_id": f"instead of {spider.place(response.url)}"}]
        if rescue == "request":
            return iter([spider.get("/for" + spider.place(response.url))])
        if rescue == "if new":
            meta = {"dedup": "if_new"}
            place = spider.place(response.url)
            return [{"post_id": f"instead of {place}"}, spider.get("/for" + place, meta=meta)]
        if rescue == "again":  # as scrapy-poet does
            request = get_retry_request(response.request, spider=spider, reason="rescued")
            del request.meta["rescue"]
            return [request]
        return None


_RESCUED = {
    f"/{callback}/{rescue[:2]}": (callback, rescue)
    for callback in ("late", "at_once", "awaiting")
    for rescue in ("item", "request", "if new", "again")
}


class Rescued(Reader):
    """Callbacks that raise, of all kinds, and a spider middleware that recovers."""

    name = "rescued"
    custom_settings: ClassVar = {"SPIDER_MIDDLEWARES": {f"{HERE}.Rescuer": 543}}
    pages: ClassVar = {
        "/plain": posts("plain"),
        **{path: posts(path) for path in _RESCUED},
        **{f"/for{path}": posts(f"/for{path}") for path in _RESCUED},
    }
    again = frozenset(path for path in _RESCUED if not path.startswith("/at_once"))
    unstored = frozenset({"/at_once/re", "/for/late/if", "/for/awaiting/if"})

    async def start(self):
        yield self.get("/plain")
        for path, (callback, rescue) in _RESCUED.items():
            yield self.get(path, getattr(self, callback), meta={"rescue": rescue})

    def late(self, response):
        """Raises after it has yielded something."""
        self.note("late", response)
        yield from self.posts(response)
        if "rescue" in response.meta:
            raise ValueError("late")

    def at_once(self, response):
        """Raises before there is anything to iterate over."""
        self.note("at_once", response)
        if "rescue" in response.meta:
            raise ValueError("at once")
        return self.posts(response)

    async def awaiting(self, response):
        """Is asynchronous, and raises."""
        self.note("awaiting", response)
        for post in self.posts(response):
            yield post
        if "rescue" in response.meta:
            raise ValueError("awaiting")


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


class OwnFilter(DupeFilter):
    """A user's filter that extends the plugin's."""

    @classmethod
    def from_crawler(cls, crawler):
        made = super().from_crawler(crawler)
        made.stats = crawler.stats
        return made

    def request_seen(self, request):
        self.stats.inc_value("own filter")
        return super().request_seen(request)


class Asking(Reader):
    """Asks for what ``options["asks"]`` says: paths, each with more arguments for the request.

    ``options``: ``copies``, whether links get the meta of their page; ``linger``, whether a
    callback waits until the test says go.
    """

    name = "asking"
    custom_settings: ClassVar = {"RETRY_TIMES": 1}

    async def start(self):
        for path, more in self.job.options["asks"]:
            errback = self.failed if more.pop("errback", False) else None
            yield self.get(path, errback=errback, **more)

    async def parse(self, response):
        self.note("parse", response)
        page = response.json()
        for post in page["posts"]:
            yield post
        copied = response.meta if self.job.options.get("copies") else None
        for link in page["links"]:
            yield self.get(link, meta=copied)
        while self.job.options.get("linger") and not self.told_to_go:
            await asyncio.sleep(0.01)

    @property
    def told_to_go(self) -> bool:
        return Path(self.job.directory, "go").exists()


class Lazy(Reader):
    """Asks for pages as Scrapy's docs show it: when there is nothing else to do."""

    name = "lazy"

    async def start(self):
        for path in ("/1", "/2", "/4"):
            if self.crawler.engine.needs_backout():
                await self.crawler.signals.wait_for(signals.scheduler_empty)
            yield self.get(path)

    def parse(self, response):
        yield from map(self.get, response.json()["links"])
        yield from self.posts(response)


class Urgent(Reader):
    """Many pages, sent at once, each of which leads to one that is urgent."""

    name = "urgent"

    async def start(self):
        for number in range(self.job.options["pages"]):
            yield self.get(f"/{number}")

    def parse(self, response):
        for link in response.json()["links"]:
            yield self.get(link, priority=10)
        yield from self.posts(response)


class Sessions(Reader):
    """Pages whose URLs have the number of a session in them, another one in each run."""

    name = "sessions"
    pages: ClassVar = {
        f"/{page}?session={number}": posts(page) for page in ("a", "b") for number in (1, 2)
    }

    async def start(self):
        for page in ("a", "b", "a"):
            yield self.get(f"/{page}?session={self.job.options['session']}")


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


class ForeignFilter(RFPDupeFilter):
    """A user's filter that has nothing to do with the plugin."""

    @classmethod
    def from_crawler(cls, crawler):
        made = super().from_crawler(crawler)
        made.stats = crawler.stats
        return made

    def request_seen(self, request):
        self.stats.inc_value("foreign filter")
        return super().request_seen(request)


class Parked(Reader):
    """A retry, a redirect and a retry that a callback wants, all of which come last."""

    name = "parked"
    custom_settings: ClassVar = {
        "CONCURRENT_REQUESTS": 1,
        "RETRY_PRIORITY_ADJUST": -20,
        "REDIRECT_PRIORITY_ADJUST": -20,
    }
    pages: ClassVar = {
        "/flap": [error(500), posts("flap")],
        "/moved": redirect("/target"),
        "/target": posts("target"),
        "/soon": [posts(), posts("soon")],
        **{f"/{number}": posts(number, delay=0.03) for number in range(20)},
    }

    async def start(self):
        for number, path in enumerate(self.pages):
            if path != "/target":
                callback = self.when_ready if path == "/soon" else self.parse
                yield self.get(path, callback, priority=10 if number < 4 else 0)

    def when_ready(self, response):
        self.note("when_ready", response)
        found = self.posts(response)
        return found or get_retry_request(response.request, spider=self, reason="not ready")
