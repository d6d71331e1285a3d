"""The ways to crawl that are compared: plain Scrapy, this plugin, its peers as their docs say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.suite.environments import NEWEST, SCRAPY_2_11, SCRAPY_2_15

POST, PAGE, NOTHING = "each post", "each page", "nothing"
_PIPELINES = "bench.suite.pipelines"


@dataclass(frozen=True)
class Place:
    """Where a way remembers: a server's port, a name of its own there, a folder of its own."""

    port: int
    name: str
    folder: str


@dataclass(frozen=True)
class Way:
    """One way to crawl."""

    name: str
    asks: str
    """What it asks about."""
    shares: bool
    """Whether processes on several machines share what it remembers."""
    settings: Callable[[Place], dict[str, Any]]
    """What its user writes into the settings."""
    environments: tuple[str, ...] = ("",)
    """Where to try it, the newest Scrapy first."""
    package: str = ""
    """Its name on PyPI."""
    pipelines: dict[str, int] = field(default_factory=dict)
    blocks: bool = False
    """Whether the spider's event loop stands still while it waits for an answer."""
    slow: bool = False
    """Whether it writes each post to a disk before it goes on: it gets fewer posts to crawl."""


def _nothing(_: Place) -> dict[str, Any]:
    return {}


def _ours(place: Place) -> dict[str, Any]:
    return {
        "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
        "VALKEY_DEDUP_URL": f"valkey://127.0.0.1:{place.port}",
        "VALKEY_DEDUP_FIELDS": ["platform", "post_id"],
        "VALKEY_DEDUP_NAMESPACE": place.name,
        # The storage of these benchmarks is a pipeline, as most are; one that costs nothing cannot
        # be told from none, so the plugin is told.
        "VALKEY_DEDUP_CONFIRM": "scraped",
        "VALKEY_DEDUP_DATA_DIR": place.folder,
    }


def _server(place: Place) -> dict[str, Any]:
    return {"BENCH_URL": f"valkey://127.0.0.1:{place.port}", "BENCH_NAME": place.name}


def _scrapy_redis(place: Place) -> dict[str, Any]:
    return {
        "SCHEDULER": "scrapy_redis.scheduler.Scheduler",
        "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
        "SCHEDULER_PERSIST": True,
        "SCHEDULER_DUPEFILTER_KEY": f"{place.name}:dupefilter",
        "SCHEDULER_QUEUE_KEY": f"{place.name}:requests",
        "REDIS_URL": f"redis://127.0.0.1:{place.port}",
    }


def _bloom_filter(place: Place) -> dict[str, Any]:
    return _scrapy_redis(place) | {
        "SCHEDULER": "scrapy_redis_bloomfilter.scheduler.Scheduler",
        "DUPEFILTER_CLASS": "scrapy_redis_bloomfilter.dupefilter.RFPDupeFilter",
    }


def _jobdir(place: Place) -> dict[str, Any]:
    return {"JOBDIR": place.folder}


def _deltafetch(place: Place) -> dict[str, Any]:
    return {
        "SPIDER_MIDDLEWARES": {"scrapy_deltafetch.DeltaFetch": 100},
        "DELTAFETCH_ENABLED": True,
        "DELTAFETCH_DIR": place.folder,
    }


def _crawl_once(place: Place) -> dict[str, Any]:
    return {
        "SPIDER_MIDDLEWARES": {"scrapy_crawl_once.CrawlOnceMiddleware": 100},
        "DOWNLOADER_MIDDLEWARES": {"scrapy_crawl_once.CrawlOnceMiddleware": 50},
        "CRAWL_ONCE_DEFAULT": True,
        "CRAWL_ONCE_PATH": place.folder,
    }


PLAIN = Way("plain Scrapy", NOTHING, shares=False, settings=_nothing)
OURS = Way("scrapy-valkey-dedup", POST, shares=True, settings=_ours)
BLOGS = Way(
    "pipeline, SET NX EX", POST, shares=True, settings=_server,
    pipelines={f"{_PIPELINES}.SetPipeline": 100},
)  # fmt: skip
SADD = Way(
    "pipeline, synchronous SADD", POST, shares=True, settings=_server,
    pipelines={f"{_PIPELINES}.SaddPipeline": 100}, blocks=True,
)  # fmt: skip
REDIS = Way(
    "scrapy-redis", PAGE, shares=True, settings=_scrapy_redis, environments=(NEWEST,),
    package="scrapy-redis", blocks=True,
)  # fmt: skip
BLOOM = Way(
    "scrapy-redis-bloomfilter", PAGE, shares=True, settings=_bloom_filter,
    environments=(NEWEST,), package="scrapy-redis-bloomfilter", blocks=True,
)  # fmt: skip
JOBDIR = Way("Scrapy's JOBDIR", PAGE, shares=False, settings=_jobdir)
DELTAFETCH = Way(
    "scrapy-deltafetch", PAGE, shares=False, settings=_deltafetch,
    environments=(NEWEST, SCRAPY_2_15), package="scrapy-deltafetch", slow=True,
)  # fmt: skip
CRAWL_ONCE = Way(
    "scrapy-crawl-once", PAGE, shares=False, settings=_crawl_once,
    environments=(NEWEST, SCRAPY_2_11), package="scrapy-crawl-once",
)  # fmt: skip
WAYS = (PLAIN, OURS, BLOGS, SADD, REDIS, BLOOM, JOBDIR, DELTAFETCH, CRAWL_ONCE)
