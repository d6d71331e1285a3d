"""The pages "coming from ..." are carried out as they stand, and leave out no setting or key."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scrapy
from scrapy.http import Response
from scrapy.settings import Settings
from scrapy.utils.request import RequestFingerprinter

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.settings import DedupSettings
from tests.support.crawls.readers import Reader
from tests.support.processes.dedup_command import environment
from tests.support.processes.scrapy_command import Command
from tests.support.servers.standin import not_on_serverless
from tests.support.servers.web import Reply, Web

pytestmark = not_on_serverless("scrapy-redis speaks to the session's server itself")

DOCS = Path(__file__).parents[2] / "docs"
REDIS = (DOCS / "coming-from-scrapy-redis.md").read_text("utf-8")
CRAWL_ONCE = (DOCS / "coming-from-scrapy-crawl-once.md").read_text("utf-8")
DELTAFETCH = (DOCS / "coming-from-scrapy-deltafetch.md").read_text("utf-8")
POSTS = range(1, 7)
PROGRAM = re.compile(r"scrapy dedup |scrapy crawl forum |redis-cli ")


def settings_of(page: str) -> list[str]:
    """The blocks of settings of a page."""
    return re.findall(r"```python\n(# settings.py.*?)```", page, re.DOTALL)


def command_of(page: str, beginning: str) -> list[str]:
    """The words of the page's command that begins so, but for those which name the program."""
    (found,) = re.findall(rf"^ {{4}}({beginning}.*)$", page, re.MULTILINE)
    return shlex.split(PROGRAM.sub("", found, count=1))


def on(server: ValkeyServer, text: str) -> str:
    """A text of the page, with the test's server instead of its own."""
    return text.replace("redis://localhost:6379", server.url.replace("valkey://", "redis://"))


def first_column(page: str, heading: str) -> list[str]:
    """What stands in the code of a table's first column."""
    table = page[page.index(heading) :].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    return [word for line in table for word in re.findall(r"`([^`]+)`", line.split("|")[1])]


def constants_of(package: str) -> Counter[str]:
    """The texts in the source of a package that is installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return Counter(
        node.value
        for path in Path(spec.submodule_search_locations[0]).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.fixture
def forum(tmp_path: Path) -> Iterator[Reader]:
    """A project whose spider is that of the pages."""
    made = Reader(tmp_path, "forum")
    yield made
    made.site.close()


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """A server of the module's own, as the pages name no namespace."""
    with ValkeyServer() as made:
        yield made


@pytest.fixture
def empty(server: ValkeyServer) -> ValkeyServer:
    """It has nothing yet."""
    server.ask("FLUSHALL")
    return server


def test_every_command_is_carried_out_here() -> None:
    """The pages have no command but those that tests below name by how they begin."""
    here = Path(__file__).read_text("utf-8")
    named = tuple(re.findall(r'command_of\(\w+, "([^"]+)"\)', here))
    for page in (REDIS, DELTAFETCH, CRAWL_ONCE):
        for line in re.findall(
            r"^ {4}(\S.*)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE
        ):
            assert line.startswith(named), line


@pytest.mark.parametrize(
    "page",
    [REDIS, DELTAFETCH, CRAWL_ONCE],
    ids=["scrapy-redis", "scrapy-deltafetch", "scrapy-crawl-once"],
)
def test_the_settings_are_valid(page: str) -> None:
    """Every block of settings is accepted as it stands."""
    blocks = settings_of(page)
    assert blocks
    for block in blocks:
        given: dict[str, Any] = {}
        exec(block, given)
        ours = {name: value for name, value in given.items() if name.isupper()}
        DedupSettings.parse(Settings(ours), "forum")


def test_no_setting_of_scrapy_redis_is_left_out() -> None:
    """The table has each setting that scrapy-redis reads, once, and no other."""
    names = constants_of("scrapy_redis")
    read = {name for name in names if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", name)}
    listed = first_column(REDIS, "| setting | here |")
    assert len(listed) == len(set(listed))
    assert set(listed) - {"SCHEDULER"} == read


def test_no_word_of_deltafetch_is_left_out() -> None:
    """The table has each setting, key, spider argument and stat of scrapy-deltafetch."""
    own = re.compile(r"(?i)deltafetch[_/]\w+")
    read = set(filter(own.fullmatch, constants_of("scrapy_deltafetch")))
    listed = " ".join(first_column(DELTAFETCH, "| scrapy-deltafetch | here |"))
    assert read
    assert set(own.findall(listed)) == read


def test_scrapy_redis_is_replaced(forum: Reader, empty: ValkeyServer) -> None:
    """Its crawl, the import, and a crawl with the new settings: only what is new is fetched.

    After `forget` all is fetched again.
    """
    _, before, after = settings_of(REDIS)
    forum.write(on(empty, before))
    assert forum.crawl(numbers=POSTS) == list(POSTS)
    assert empty.ask(*command_of(REDIS, "redis-cli zcard")) == 0
    forum.write(on(empty, after))
    words = [on(empty, word) for word in command_of(REDIS, "scrapy dedup import")]
    assert forum.dedup(*words, "--json").json["remembered"] == len(POSTS)
    assert forum.crawl(numbers=range(1, 8)) == [7]
    assert forum.crawl(numbers=range(1, 8)) == []
    (words,) = re.findall(r"`scrapy dedup (forget .*)`", REDIS)
    forum.dedup(*words.split(), "--yes")
    assert forum.crawl(numbers=range(1, 8)) == list(range(1, 8))


def test_each_crawl_starts_from_nothing(forum: Reader, empty: ValkeyServer) -> None:
    """Under one name no page is fetched twice, under another each page is fetched again."""
    after = settings_of(REDIS)[2]
    forum.write(on(empty, "".join(after.splitlines(keepends=True)[:-3])))
    named = command_of(REDIS, "scrapy crawl forum")
    assert forum.crawl(*named, numbers=POSTS) == list(POSTS)
    assert forum.crawl(*named, numbers=POSTS) == []
    assert forum.crawl("-s", "VALKEY_DEDUP_JOB=2026-11-27", numbers=POSTS) == list(POSTS)


def test_scrapy_redis_is_kept(forum: Reader, empty: ValkeyServer) -> None:
    """Its scheduler and filter go on as they are; a post that is fetched again is not stored."""
    forum.write(on(empty, settings_of(REDIS)[0]))
    stored = forum.directory / "posts.jl"
    assert forum.crawl(numbers=POSTS) == list(POSTS)
    assert forum.crawl(numbers=POSTS) == []
    empty.ask("DEL", "forum:dupefilter")
    assert forum.crawl(numbers=POSTS) == list(POSTS)
    assert len(stored.read_text("utf-8").splitlines()) == len(POSTS)


def test_start_urls_come_from_redis(empty: ValkeyServer, tmp_path: Path) -> None:
    """The spider on the page reads its start URLs from the list, and each page once."""
    pytest.importorskip("scrapy_redis")
    (code,) = re.findall(r"```python\n(# forum.py.*?)```", REDIS, re.DOTALL)
    (tmp_path / "forum.py").write_text(code.replace('CLOSE": 60', 'CLOSE": 1'), "utf-8")
    push = command_of(REDIS, "redis-cli rpush")
    post = "<article id='{0}'><p>hello</p></article><a href='/'>back</a>"
    pages = {f"/{number}": post.format(number) for number in POSTS}
    pages["/"] = "".join(f"<a href='/{number}'>more</a>" for number in POSTS)
    html = {"Content-Type": "text/html"}
    routes = {path: Reply(page.encode(), headers=html) for path, page in pages.items()}
    with Web(routes) as web:
        empty.ask(*(word.replace("https://forum.example", web.url) for word in push))
        given = {
            "ADDONS": json.dumps({"scrapy_valkey_dedup.Addon": 500}),
            "VALKEY_DEDUP_URL": empty.url,
            "VALKEY_DEDUP_FIELDS": "post_id",
            "VALKEY_DEDUP_JOB": "one",
            "REDIS_URL": on(empty, "redis://localhost:6379"),
        }
        options = [f"-s{name}={value}" for name, value in given.items()]
        log = tmp_path / "log"
        ended = Command(
            "runspider", "forum.py", "-o", "posts.jl", *options,
            folder=tmp_path, environment=environment(), out=log,
        )  # fmt: skip
        assert ended.wait() == 0, log.read_text()
        assert dict(web.served) == dict.fromkeys(pages, 1) | {"/": 2}
    assert len((tmp_path / "posts.jl").read_text("utf-8").splitlines()) == len(POSTS)


def test_deltafetch_is_replaced(forum: Reader) -> None:
    """What its middleware has noted is imported, and not fetched with the new settings.

    The middleware is called without a crawl, as that fails on newer versions of Scrapy.
    """
    deltafetch = pytest.importorskip("scrapy_deltafetch")
    _, after = settings_of(DELTAFETCH)
    middleware = deltafetch.DeltaFetch(str(forum.directory / ".scrapy" / "deltafetch"))
    middleware.fingerprint = RequestFingerprinter().fingerprint
    middleware.spider_opened(scrapy.Spider("forum"))
    for number in POSTS:
        url = f"{forum.site.url}/{number}"
        response = Response(url, request=scrapy.Request(url))
        list(middleware.process_spider_output(response, [{"post_id": number}], None))
    middleware.spider_closed(None)

    forum.write(after)
    assert forum.dedup(*command_of(DELTAFETCH, "scrapy dedup import"), "--json").json == {
        "forum": {"records": len(POSTS), "remembered": len(POSTS)}
    }
    assert forum.crawl(numbers=range(1, 8)) == [7]
