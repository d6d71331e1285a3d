"""`scrapy dedup import --from`: what other plugins have noted is not fetched again."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import scrapy
from scrapy.http import Request

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.fingerprints import ScrapyRedisFingerprinter
from tests.conftest import SCRAPY_VERSION
from tests.support.crawls.readers import Reader
from tests.support.processes.dedup_command import dedup
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("scrapy-redis speaks to the session's server itself")

POSTS = range(1, 7)
OURS = {
    "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
    "VALKEY_DEDUP_REQUESTS": "stored",
    "VALKEY_DEDUP_REQUEST_RETENTION": None,
}
REDIS = {
    "SCHEDULER": "scrapy_redis.scheduler.Scheduler",
    "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
    "SCHEDULER_PERSIST": True,
}
# A Python lacks those whose libraries were not there when it was built.
DATABASES = ["dbm.dumb"]
DATABASES += ["dbm.gnu"] if importlib.util.find_spec("_gdbm") else []
DATABASES += ["dbm.ndbm"] if importlib.util.find_spec("_dbm") else []
DATABASES += ["dbm.sqlite3"] if importlib.util.find_spec("dbm.sqlite3") else []
DELTAFETCH = {
    "SPIDER_MIDDLEWARES": {"scrapy_deltafetch.DeltaFetch": 100},
    "DELTAFETCH_ENABLED": True,
}


class Moving(Reader):
    """A project whose crawls run with other plugins, and with this one."""

    def __init__(self, directory: Path, url: str, namespace: str) -> None:
        super().__init__(directory)
        self.ours = {**OURS, "VALKEY_DEDUP_URL": url, "VALKEY_DEDUP_NAMESPACE": namespace}

    def crawl_with(self, *options: str, **settings: Any) -> list[int]:
        """A crawl with another plugin's settings."""
        self.write(**settings)
        return self.crawl(*options, numbers=POSTS)

    def import_and_crawl(self, *given: str, **settings: Any) -> None:
        """What was imported is not fetched; a page that was not is, and is stored."""
        self.write(**self.ours, **settings)
        assert str(len(POSTS)) in self.dedup("import", "--from", *given).out
        assert self.crawl(numbers=range(1, 8)) == [7]


@pytest.fixture
def reader(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Any:
    """A project for each test."""
    made = Moving(tmp_path, valkey.url, namespace)
    yield made
    made.site.close()


def test_from_scrapys_own_jobdir(reader: Moving) -> None:
    """Pages that Scrapy has noted in a JOBDIR."""
    assert reader.crawl_with("-s", "JOBDIR=job") == list(POSTS)
    reader.import_and_crawl("scrapy-jobdir", "job")


def test_from_scrapy_redis(reader: Moving, valkey: ValkeyServer) -> None:
    """Pages in scrapy-redis's set, by the fingerprints that it computes."""
    assert reader.crawl_with(REDIS_URL=valkey.url.replace("valkey:", "redis:"), **REDIS) == list(
        POSTS
    )
    reader.import_and_crawl(
        "scrapy-redis", valkey.url, "reader:dupefilter",
        REQUEST_FINGERPRINTER_CLASS="scrapy_valkey_dedup.fingerprints.ScrapyRedisFingerprinter",
    )  # fmt: skip
    ended = dedup(
        "import", "--from", "scrapy-redis", valkey.url, "gone", directory=reader.directory
    )
    assert (ended.code, ended.err.splitlines()[-1].count("has no set 'gone'")) == (2, 1)


# scrapy-deltafetch 2.1.0 fails from Scrapy 2.16 on: `make test-oldest` has this test.
if SCRAPY_VERSION < (2, 16) and importlib.util.find_spec("scrapy_deltafetch"):

    def test_from_deltafetch(reader: Moving) -> None:
        """Pages in the database that scrapy-deltafetch has made for the spider."""
        assert reader.crawl_with(**DELTAFETCH) == list(POSTS)
        assert reader.crawl_with(**DELTAFETCH) == []
        reader.import_and_crawl("deltafetch", ".scrapy/deltafetch")


@pytest.mark.parametrize("kind", DATABASES)
def test_every_kind_of_database(reader: Moving, kind: str) -> None:
    """Fingerprints, old ones in hexadecimal digits, and keys of the user's own, of any dbm."""
    module = importlib.import_module(kind)
    folder = reader.directory / "deltafetch"
    folder.mkdir()
    with module.open(str(folder / "reader.db"), "c") as database:
        for number in range(300):
            database[bytes([number % 256, number // 256]) * 10] = b"1700000000.0"
        database[b"0123456789" * 4] = database[b"my own key"] = b"1700000000.0"
    reader.write(**reader.ours)
    ended = dedup(
        "import", "--from", "deltafetch", "deltafetch", "--json", directory=reader.directory
    )
    assert ended.code == 0, ended.err
    assert ended.json == {"reader": {"records": 302, "remembered": 303}}


WRONG = {
    "no folder": (["deltafetch", "gone"], "gone: there is no such folder"),
    "no such spider": (["deltafetch", "deltafetch", "--spider", "raeder"], "did you mean reader?"),
    "no database": (["deltafetch", "deltafetch"], "not a database that Python's dbm can read"),
    "no jobdir": (["scrapy-jobdir", "gone"], "gone/requests.seen: there is no such file"),
    "a wrong URL": (["scrapy-redis", "valkey://x:port", "k"], "--from scrapy-redis: the URL"),
    "no key": (["scrapy-redis", "redis://localhost"], "takes URL KEY"),
    "no such plugin": (["crawl-once", "x"], "choose from"),
    "pages are not shared": (
        ["scrapy-jobdir", "x", "-s", "VALKEY_DEDUP_REQUESTS=job"],
        "-s VALKEY_DEDUP_REQUESTS=stored",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_imported(reader: Moving, name: str) -> None:
    """It is told in one line, behind the one that says what such pages are."""
    (reader.directory / "deltafetch").mkdir()
    (reader.directory / "deltafetch" / "reader.db").write_text("something else")
    reader.write(**reader.ours)
    given, said = WRONG[name]
    ended = dedup("import", "--from", *given, directory=reader.directory)
    assert ended.code == 2
    assert said in ended.err.splitlines()[-1], ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "request_",
    [
        Request("https://x.example/?b=2&a=1#top"),
        Request("https://x.example/", method="POST", body=b"\xff{}"),
    ],
)
def test_fingerprints_of_scrapy_redis(request_: scrapy.Request) -> None:
    """They are those of its filter."""
    filters = pytest.importorskip("scrapy_redis.dupefilter")
    theirs = filters.RFPDupeFilter(None, "key").request_fingerprint(request_)
    assert ScrapyRedisFingerprinter().fingerprint(request_).hex() == theirs
