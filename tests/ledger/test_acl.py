"""Least privilege: with the permissions in ``docs/security.md`` all works, without one nothing."""

from __future__ import annotations

import asyncio
import inspect
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.resources import files
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import valkey as valkey_py

from bench.servers import ValkeyCluster, ValkeyServer, free_port
from scrapy_valkey_dedup.ledger.history import COUNTERS, History
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import IN_SCRIPTS, RULES, WORDS
from scrapy_valkey_dedup.ledger.probe import Probe
from scrapy_valkey_dedup.ledger.runs import Runs
from scrapy_valkey_dedup.ledger.tokens import claim_token
from scrapy_valkey_dedup.model import LedgerRefusedError, ReleasedClaim
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.stats import REQUESTS
from tests.support.crawls.timelines import Readings, names, opened, timeline
from tests.support.crawls.world import World
from tests.support.ledgers import ledger_at
from tests.support.patience import PATIENCE, in_loop
from tests.support.runs import new_session
from tests.support.servers.site import pages_of
from tests.support.spiders.timelines import Timelines

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
BLOCKS = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
LINE = BLOCKS[0].split()
NAMESPACE_PATTERNS = BLOCKS[1].split()

SECRET = "hunter2"
KEYS = [bytes([number]) * 16 for number in range(100)]
_users = count()


def url_of(url: str, user: str) -> str:
    """The URL for a user."""
    return url.replace("://", f"://{user}:{SECRET}@")


@pytest.fixture(scope="module")
def guarded() -> Iterator[ValkeyServer]:
    """A server for users who may do little. One who may do more is there as well."""
    with ValkeyServer(port=free_port()) as server:
        yield server


def user_of(server: ValkeyServer, rules: Sequence[str]) -> str:
    """Makes a user who may do this; returns the URL with which it comes."""
    name = f"user-{next(_users)}"
    server.ask("ACL", "SETUSER", name, "on", f">{SECRET}", *rules)
    return url_of(server.url, name)


async def refusal(
    url: str, namespace: str = "posts", options: dict[str, Any] | None = None, **more: Any
) -> str:
    """What a run is told at its start, which must be a refusal with a cure and without a secret."""
    async with ledger_at(url, namespace, options=options, **more) as ledger:
        with pytest.raises(LedgerRefusedError, match=r"docs/security\.md") as caught:
            await ledger.open()
    told = "".join(traceback.format_exception(caught.value))
    assert SECRET not in told
    return str(caught.value)


def log_of(server: ValkeyServer) -> object:
    """What a server has refused since it was asked last."""
    refused = server.ask("ACL", "LOG")
    server.ask("ACL", "LOG", "RESET")
    return refused


# -- all that is granted suffices ----------------------------------------------------------------


def test_the_line_is_one() -> None:
    """The first block of the page is a whole ACL command, with the permissions of the code."""
    assert ["ACL", "SETUSER", "spider", "on", ">PASSWORD", *RULES] == LINE
    table = PAGE[PAGE.index("| words | needed for |") :].split("\n\n")[0].replace("\\", "")
    assert sorted(re.findall(r"`(\+[^`]+)`", table)) == sorted(WORDS)


def test_scripts_call_what_is_listed() -> None:
    """No script calls a command that is not in the list; nor is TIME there, or what is refused."""
    called = set()
    for file in (files("scrapy_valkey_dedup.ledger") / "lua").iterdir():
        code = re.sub(r"--.*", "", file.read_text("utf-8"))
        code = code.replace("local base, call, sub = KEYS[1], redis.call, string.sub", "")
        assert set(re.findall(r"redis\.\w+", code)) <= {"redis.sha1hex"}, file.name
        found = re.findall(r"\bcall\(\'(\w+)\'|\b(call)\b", code)
        assert ("", "call") not in found, f"{file.name} calls what it does not name"
        called |= {name.lower() for name, _ in found}
    assert called == set(IN_SCRIPTS)
    assert not called & {"time", "info", "memory", "config", "eval", "evalsha", "script", "wait"}


async def use_all_of(ledger: Ledger) -> None:
    """Calls every method of a ledger and of its parts."""
    left = {
        prefix + name
        for prefix, cls in (("", Ledger), ("probe.", Probe), ("runs.", Runs), ("history.", History))
        for name, _ in inspect.getmembers(cls, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }

    async def call(name: str, *arguments: Any, **options: Any) -> None:
        left.discard(name)
        await attrgetter(name)(ledger)(*arguments, **options)

    await call("exists")
    await call("open")
    await call("probe.check_permissions")
    await call("probe.check_partitions")
    await call("probe.check_keys")
    await call("ping")
    await call("runs.write_heartbeat", 1, 30, idle=True)
    await call("runs.read_heartbeats", ["a-run", "another"])
    await call("runs.write_info", b"{}", 30)
    await call("runs.read_infos", ["a-run", "another"])
    numbers = [1] * len(COUNTERS)
    await call("history.add", "a spider", numbers, [0] * len(COUNTERS), 1e9, 10)
    await call("history.read_hours", [1e9])
    await call("history.read_days", [1e9])
    for _ in range(2):
        await call("claim_many", KEYS, [claim_token("a-dead")])
        await call(
            "settle_many", KEYS[:50], [ReleasedClaim(key, 0, key < KEYS[60]) for key in KEYS[50:90]]
        )
        await call("renew_many", KEYS, range(len(KEYS)))
        await call("confirm_many", KEYS[80:90])
        await call("release_many", KEYS)
        await call("seen_many", KEYS)
        await call("count_posts")
        await call("look_many", KEYS)
        await call("inspect_many", KEYS)
    await call("forget_many", KEYS)
    await call("runs.sign_off", b"{}", 30)
    assert not left, "a method that this test does not know"


@pytest.mark.parametrize("shelf", ["", "pages"])
@pytest.mark.parametrize("refresh", [True, False])
@pytest.mark.parametrize("record", [True, False])
@in_loop
async def test_a_ledger_needs_no_more(
    guarded: ValkeyServer, namespace: str, *, record: bool, refresh: bool, shelf: str
) -> None:
    """Every method works in every mode, with retentions that change; nothing else was tried."""
    url = user_of(guarded, RULES)
    modes = {"record": record, "refresh": refresh, "shelf": shelf}
    for retention in (60.0, None, 120.0, 5.0):
        async with ledger_at(url, namespace, retention=retention, **modes) as ledger:
            await use_all_of(ledger)
    assert log_of(guarded) == []


def session_at(url: str, namespace: str, directory: Path) -> Session:
    """The session of a run that shares posts and pages."""
    settings = {
        "VALKEY_DEDUP_URL": url,
        "VALKEY_DEDUP_NAMESPACE": namespace,
        "VALKEY_DEDUP_JOB": "a-job",
        "VALKEY_DEDUP_DATA_DIR": str(directory),
    }
    session = new_session(settings)

    def make_shelves() -> None:  # as the request middleware does
        session.shelf_claims("pages", REQUESTS, retention=3600)
        session.shelf("timelines", retention=3600)

    session.when_ledger_opens(make_shelves)
    return session


@in_loop
async def test_a_session_needs_no_more(
    guarded: ValkeyServer, namespace: str, tmp_path: Path
) -> None:
    """A run comes, claims, and leaves."""
    session = session_at(user_of(guarded, RULES), namespace, tmp_path)
    await session.open()
    claim = await session.claim(KEYS[0])
    claim.confirm()
    await session.close()
    assert guarded.ask("EXISTS", f"vd1:{{{namespace}}}:run:{session.run}") == 0
    assert log_of(guarded) == []


@pytest.fixture
def site(guarded: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[Readings]:
    """Crawls, and looks at the ledger with more rights than they have."""
    yield from opened(guarded.url, namespace, tmp_path)


@pytest.mark.parametrize("confirm", ["scraped", "claimed"])
def test_crawls_need_no_more(site: Readings, guarded: ValkeyServer, confirm: str) -> None:
    """A job of two crawls at once that read timelines stores all, once; the next reads page one."""
    url = user_of(guarded, RULES)
    settings = {"VALKEY_DEDUP_URL": url, "VALKEY_DEDUP_CONFIRM": confirm, "timelines": ["/named"]}
    posts = names("named", 200)
    site.show(timeline("named", posts))
    pair = [site.start(Timelines, "job", VALKEY_DEDUP_JOB="one-job", **settings) for _ in range(2)]
    for run in pair:
        run.wait()
    later = site.crawl(Timelines, "job", **settings)
    site.crawl(Timelines, "stored", **settings)
    assert site.stored == dict.fromkeys(posts, 1)
    assert later.served.total() < 8
    assert not [run.stats for run in site.crawls if "dedup/valkey/outages" in run.stats]
    assert log_of(guarded) == []


# -- and nothing less ----------------------------------------------------------------------------


@pytest.mark.parametrize("word", [*WORDS, "~vd1:*"])
@pytest.mark.parametrize("retention", [60.0, None])
@in_loop
async def test_every_word_is_needed(
    guarded: ValkeyServer, namespace: str, retention: float | None, word: str
) -> None:
    """Without it a run is refused at its start, also by a server that knows the scripts already.

    Also one that remembers forever: it meets what others remember for a while.
    """
    async with ledger_at(guarded.url, namespace) as ledger:
        await ledger.open()
    less = user_of(guarded, [rule for rule in RULES if rule != word])
    told = await refusal(less, namespace, retention=retention)
    assert "permissions" in told
    if word.startswith("+") and "server_name" in guarded.info():  # Redis 7.0 names not all
        assert f"'{word[1:]}' command" in told
    log_of(guarded)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("retention", [60.0, None])
@in_loop
async def test_a_refused_start_leaves_nothing(
    guarded: ValkeyServer, namespace: str, retention: float | None, word: str
) -> None:
    """No key but layout and identity stays, however far the start came."""
    less = user_of(guarded, [rule for rule in RULES if rule != word])
    async with ledger_at(less, namespace, retention=retention) as ledger:
        with suppress(LedgerRefusedError):
            await ledger.open()
    names = guarded.ask("KEYS", f"vd1:{{{namespace}*")
    stays = {name for name in names if guarded.ask("PTTL", name) == -1}
    root = f"vd1:{{{namespace}}}"
    allowed = {f"{root}:layout", f"{root}:id"}
    if word == "+del":  # nothing can be taken away then
        assert len(stays - allowed) <= 1
    else:
        assert stays <= allowed
    log_of(guarded)


def test_a_crawl_does_not_start_without_one(guarded: ValkeyServer, tmp_path: Path) -> None:
    """Not even under a policy that would go on without Valkey, or wait for it."""
    url = user_of(guarded, [*RULES, "-mget"])
    for policy in ("pass", "pause", "close"):
        world = World(url, "refused", tmp_path / policy)
        try:
            crawl = world.start(world.site(pages_of(range(20))), VALKEY_DEDUP_ON_OUTAGE=policy)
            crawl.process.join(PATIENCE)
            assert "docs/security.md" in crawl.log
            assert world.stored == {}
            assert SECRET not in crawl.log
        finally:
            world.close()
    log_of(guarded)


@in_loop
async def test_another_database_needs_select(guarded: ValkeyServer) -> None:
    """``+select``, and no more."""
    url = user_of(guarded, [*RULES, "+select"])
    async with ledger_at(f"{url}/1") as ledger:
        await use_all_of(ledger)
    assert "select" in await refusal(f"{user_of(guarded, RULES)}/1")
    log_of(guarded)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """A cluster of one node."""
    with ValkeyCluster(1, 0, persistent=False) as made:
        yield made


@in_loop
async def test_a_cluster_needs_its_slots(cluster: ValkeyCluster) -> None:
    """``+cluster|slots``, and no more."""
    added = "+cluster|slots"
    assert f"`{added}`" in PAGE.replace("\\", "")
    (node,) = cluster.nodes
    for name, rules in (("enough", [*RULES, added]), ("less", RULES)):
        node.ask("ACL", "SETUSER", name, "on", f">{SECRET}", *rules)
    async with ledger_at(url_of(cluster.url, "enough")) as ledger:
        await use_all_of(ledger)
    assert log_of(node) == []
    assert "cluster" in await refusal(url_of(cluster.url, "less"))


@in_loop
async def test_a_sentinel_needs_one_word(guarded: ValkeyServer) -> None:
    """The Sentinels' user may ask for the primary, and no more; the servers' user is another."""
    (line,) = re.findall(r"`(ACL SETUSER [^`]*sentinel[^`]*)`", PAGE.replace("\\", ""))
    rules = line.split()[5:]
    host, port = "127.0.0.1", free_port()
    config = f"sentinel monitor posts {host} {guarded.port} 1\n"
    user = user_of(guarded, RULES).removeprefix("valkey://").partition("@")[0]
    with ValkeyServer("--sentinel", port=port, config=config) as sentinel:
        for name, granted in (("enough", rules), ("less", rules[:-1])):
            sentinel.ask("ACL", "SETUSER", name, "on", f">{SECRET}-s", *granted)
        sentinel.ask("ACL", "SETUSER", "default", "off")
        url = f"valkey+sentinel://{user}@{host}:{port}/posts"

        def options(name: str) -> dict[str, Any]:
            return {"sentinel_kwargs": {"username": name, "password": f"{SECRET}-s"}}

        async with ledger_at(url, options=options("enough")) as ledger:
            await use_all_of(ledger)
        assert "sentinel" in await refusal(url, options=options("less"))
        await refusal(url)
    assert log_of(guarded) == []


# -- namespaces ----------------------------------------------------------------------------------


@in_loop
async def test_an_acl_may_name_a_namespace(guarded: ValkeyServer, tmp_path: Path) -> None:
    """With the patterns of the page a user has its namespace, with all shelves, and no other."""
    url = user_of(guarded, [*NAMESPACE_PATTERNS, *RULES[1:]])
    for shelf in ("", "pages", "timelines"):
        async with ledger_at(url, "posts", shelf=shelf) as ledger:
            await use_all_of(ledger)
    session = session_at(url, "posts", tmp_path)
    await session.open()
    await session.close()
    assert log_of(guarded) == []
    strangers = (
        "post",
        "posts2",
        "posts-",
        "posts.x",
        "Posts",
        "p*",
        "posts:00",
        "posts+pages",
        "*",
    )
    for stranger in strangers:
        await refusal(url, stranger)
    for key in ("vd1:{posts2}:layout", "vd1:{posts2:00}", "vd1:{posts2+pages:00}", "vd2:{posts}"):
        with (
            valkey_py.Valkey.from_url(url) as client,
            pytest.raises(valkey_py.exceptions.NoPermissionError),
        ):
            client.get(key)
    log_of(guarded)


@pytest.mark.parametrize("pattern", NAMESPACE_PATTERNS)
@in_loop
async def test_every_pattern_is_needed(guarded: ValkeyServer, tmp_path: Path, pattern: str) -> None:
    """Without it a run is refused at its start."""
    rules = [rule for rule in [*NAMESPACE_PATTERNS, *RULES[1:]] if rule != pattern]
    session = session_at(user_of(guarded, rules), "posts", tmp_path)
    with pytest.raises(LedgerRefusedError, match=r"docs/security\.md"):
        await session.open()
    await asyncio.wait_for(session.close(), PATIENCE)
    log_of(guarded)
