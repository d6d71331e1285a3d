"""The stand-in of ElastiCache Serverless has the rules that are reported of the real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from hashlib import sha1
from typing import Any

import pytest
import valkey as valkey_py
from valkey import exceptions

from bench.serverless import SPIDER, Serverless
from bench.serverless.meter import Meter
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.crawls.world import World
from tests.support.patience import in_loop, wait_until
from tests.support.servers.iam import KEYS, WHO, signed
from tests.support.servers.site import pages_of
from tests.support.servers.standin import a_serverless, as_admin

CACHE = {
    "name": WHO["cache"],
    "region": WHO["region"],
    "key": KEYS["AWS_ACCESS_KEY_ID"],
    "secret": KEYS["AWS_SECRET_ACCESS_KEY"],
}
POSTS = [bytes([number]) * 16 for number in range(200)]


@pytest.fixture(scope="module")
def standin() -> Iterator[Serverless]:
    """One for tests that change no rule of it, whose spider may do everything that it allows."""
    with a_serverless(permissions="~* +@all", by_token={"bot": "~* +@all"}, cache=CACHE) as made:
        yield made


@pytest.fixture
def client(standin: Serverless) -> Iterator[valkey_py.Valkey]:
    """A connection of that spider."""
    with valkey_py.Valkey.from_url(standin.url) as made:
        yield made


def said(client: valkey_py.Valkey, *words: Any) -> str:
    """The error to a command, with its first word."""
    with pytest.raises(exceptions.ResponseError) as caught:
        client.execute_command(*words)
    return str(caught.value)


# -- what is refused -------------------------------------------------------------------------------

UNLISTED = (
    "CONFIG GET maxmemory", "KEYS *", "FUNCTION LIST", "FCALL f 1 k", "MONITOR", "WAIT 0 0",
    "DEBUG SLEEP 0", "MEMORY USAGE k", "OBJECT ENCODING k", "SLOWLOG GET", "LATENCY LATEST",
    "SWAPDB 0 1", "BGSAVE", "SHUTDOWN", "REPLICAOF NO ONE", "MIGRATE h 1 k 0 1",
)  # fmt: skip
UNLISTED_PARTS = (
    "SCRIPT KILL", "CLIENT LIST", "CLIENT ID", "CLIENT KILL TYPE normal", "ACL SETUSER x",
    "CLUSTER MEET h 1",
)  # fmt: skip


@pytest.mark.parametrize("words", UNLISTED)
def test_what_aws_does_not_list_is_unknown(client: valkey_py.Valkey, words: str) -> None:
    """A command that is not on AWS's list is not there."""
    name, _, _ = words.partition(" ")
    assert said(client, *words.split()).startswith(f"unknown command '{name}'")


@pytest.mark.parametrize("words", UNLISTED_PARTS)
def test_so_are_parts_of_what_it_lists(client: valkey_py.Valkey, words: str) -> None:
    """The same with one of several deeds of a command."""
    assert said(client, *words.split()).startswith(f"unknown subcommand '{words.split()[1]}'")


@pytest.mark.parametrize("words", ["TIME", "MEMORY USAGE k", "PING", "INFO", "RANDOMKEY", "DBSIZE"])
def test_scripts_may_call_commands_on_keys_only(client: valkey_py.Valkey, words: str) -> None:
    """Within a script TIME is refused, as it is reported, and what else is no data command."""
    call = ", ".join(f"'{word}'" for word in words.split())
    told = said(client, "EVAL", f"return redis.call({call})", 1, "k")
    assert told.startswith("This Redis command is not allowed from script script:")
    assert "@user_script:1" in told


def test_time_is_allowed_outside(client: valkey_py.Valkey) -> None:
    """TIME itself is on the list."""
    assert abs(client.time()[0] - time.time()) < 60


def test_scripts_need_keys_of_one_slot(client: valkey_py.Valkey) -> None:
    """One key at least; others may be derived from it if they share its hash tag."""
    get = "return redis.call('SET', ARGV[1], 'x')"
    no_keys = "Lua scripts without any input keys are not supported."
    assert said(client, "EVAL", get, 0, "k") == no_keys
    assert client.eval(get, 1, "{a}1", "{a}2") == b"OK"
    assert "key" in said(client, "EVAL", get, 1, "{a}1", "{b}2")
    assert said(client, "EVAL", get, 2, "{a}1", "{b}2", "k").startswith("CROSSSLOT")


def test_plain_commands_need_keys_of_one_slot(client: valkey_py.Valkey) -> None:
    """Keys of two slots are refused, though both are here; never is anybody sent elsewhere."""
    assert client.mget("{a}1", "{a}3") == [client.get("{a}1"), None]
    assert said(client, "MGET", "{a}1", "{b}1").startswith("CROSSSLOT")
    for number in range(100):
        client.set(f"key-{number}", number)
    assert {int(client.get(f"key-{number}")) for number in range(100)} == set(range(100))


def test_a_request_has_a_size(client: valkey_py.Valkey) -> None:
    """At most 3,999 arguments, and 4 MiB."""
    assert len(client.mget(["k"] * 3998)) == 3998
    assert said(client, "MGET", *["k"] * 3999).startswith("too many arguments")
    assert client.set("k", b"x" * (4 << 20 - 1))
    assert said(client, "SET", "k", b"x" * (4 << 20)).startswith("request is larger than 4 MiB")


def test_there_are_no_databases(client: valkey_py.Valkey) -> None:
    """SELECT is refused."""
    assert said(client, "SELECT", 1) == "SELECT is not allowed in cluster mode"


# -- one address -----------------------------------------------------------------------------------


def test_all_slots_are_one_node(standin: Serverless, client: valkey_py.Valkey) -> None:
    """A client that asks for the topology is told this address, for all slots."""
    ((first, last, (host, port, _)),) = client.execute_command("CLUSTER", "SLOTS")
    assert (first, last, host, port) == (0, 16383, b"127.0.0.1", standin.port)
    assert client.execute_command("CLUSTER", "NODES").count(b"\n") == 1
    (shard,) = client.execute_command("CLUSTER", "SHARDS")
    assert shard[1] == [0, 16383]


@in_loop
@pytest.mark.parametrize("scheme", ["valkeys://", "valkeys+cluster://"])
async def test_the_ledger_works_as_with_any_other(
    standin: Serverless, namespace: str, scheme: str
) -> None:
    """Over TLS, whether it is taken for one server or for a cluster."""
    server = Client(standin.url.replace("valkeys://", scheme), "valkeys://place", {}, timeout=20)
    try:
        ledger = Ledger(server, namespace, "run-a", retention=60.0)
        await ledger.open()
        await ledger.confirm_many(POSTS[:100])
        assert await ledger.seen_many(POSTS) == [True] * 100 + [False] * 100
    finally:
        await server.close()


def test_a_scan_meets_the_keys_of_all_backends(client: valkey_py.Valkey) -> None:
    """The cursor goes on from one backend to the next."""
    for number in range(300):
        client.set(f"scanned-{number}", 1)
    found = set(client.scan_iter("scanned-*", count=7))
    assert found == {b"scanned-%d" % number for number in range(300)}


def test_each_backend_has_its_scripts(standin: Serverless, client: valkey_py.Valkey) -> None:
    """SCRIPT LOAD reaches one of them; EVAL teaches the one that answers; nothing is flushed."""
    source = "return redis.call('GET', KEYS[1])"
    sha = sha1(source.encode()).hexdigest()
    assert client.script_load(source) == sha
    keys = [f"key-{number}" for number in range(20)]

    def lacking() -> set[int]:
        found = set()
        for key in keys:
            try:
                client.evalsha(sha, 1, key)
            except exceptions.NoScriptError:
                found.add(standin.backend_of(key))
        return found

    assert len(lacking()) == 1
    client.eval(source, 1, next(key for key in keys if {standin.backend_of(key)} == lacking()))
    assert client.script_flush()
    assert lacking() == set()


def test_a_user_must_sign_in(standin: Serverless) -> None:
    """Without a user nothing is answered; a wrong password is one."""
    stranger = valkey_py.Valkey.from_url(standin.url.replace(SPIDER, "nobody"))
    with stranger, pytest.raises(exceptions.AuthenticationError, match="invalid username-password"):
        stranger.ping()
    nobody = valkey_py.Valkey.from_url(standin.url_of("bot"), lib_name=None, lib_version=None)
    with nobody, pytest.raises(exceptions.AuthenticationError, match="required"):
        nobody.get("k")


def test_a_user_may_do_what_they_are_granted() -> None:
    """The user's own permissions are asked first, and refused in the server's words."""
    with a_serverless() as standin, valkey_py.Valkey.from_url(standin.url) as spider:
        assert spider.set("vd1:{x}", 1)
        for words in (("SET", "other", 1), ("SCAN", 0), ("TIME",), ("CLUSTER", "SLOTS")):
            with pytest.raises(exceptions.NoPermissionError):
                spider.execute_command(*words)
        with valkey_py.Valkey.from_url(as_admin(standin.url)) as admin:
            assert list(admin.scan_iter()) == [b"vd1:{x}"]


# -- IAM -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "takes"),
    [
        ({}, True),
        ({"user_id": "other"}, False),
        ({"serverless_cache_name": "other"}, False),
        ({"region": "us-east-1"}, False),
        ({"replication_group_id": "posts", "serverless_cache_name": None}, False),
    ],
)  # fmt: skip
def test_a_token_opens_its_own_cache_only(
    standin: Serverless, monkeypatch: pytest.MonkeyPatch, *, changes: dict[str, Any], takes: bool
) -> None:
    """Cache, user, region, kind of cache: all are signed, and looked at."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    token = signed(**changes)
    with valkey_py.Valkey.from_url(standin.url_of("bot"), username="bot", password=token) as bot:
        if takes:
            assert bot.execute_command("ACL", "WHOAMI") == b"bot"
        else:
            with pytest.raises(exceptions.AuthenticationError):
                bot.ping()


def test_a_crawl_signs_in_with_tokens(standin: Serverless, world: World) -> None:
    """A crawl with AWS's own signer, its keys and nothing else, stores and remembers."""
    world.url = standin.url_of("bot")
    stats = world.crawl(
        world.site(pages_of(range(40))),
        VALKEY_DEDUP_CREDENTIALS={"provider": "tests.support.servers.iam.SignedIn", **WHO},
    )
    assert stats["dedup/items/confirmed"] == 40
    world.url = standin.url
    assert world.remembered(range(40)) == {str(post) for post in range(40)}


# -- what happens to it ----------------------------------------------------------------------------


@pytest.fixture
def fickle() -> Iterator[Serverless]:
    """One whose rules a test changes; its spider may do what is documented."""
    with a_serverless() as made:
        yield made


@in_loop
async def test_connections_have_a_life(fickle: Serverless, namespace: str) -> None:
    """After it a connection is closed; the plugin goes on with another one, and notices nothing."""
    fickle.set(life=0.05)
    server = Client(fickle.url, "valkeys://place", {}, timeout=20)
    try:
        ledger = Ledger(server, namespace, "run-a", retention=60.0)
        await ledger.open()
        for number in range(10):
            await ledger.confirm_many([bytes([number]) * 16])
            await asyncio.sleep(0.06)
        assert all(await ledger.seen_many([bytes([number]) * 16 for number in range(10)]))
    finally:
        await server.close()
    assert fickle.meter()["connections"] >= 10


def test_a_full_cache_evicts_what_has_an_end(fickle: Serverless) -> None:
    """At the storage limit keys with a TTL go (volatile-lru), those without stay."""
    with fickle.client() as raw:
        for number in range(100):
            raw.set(f"forever-{number}", "x" * 1000)
            raw.set(f"for-an-hour-{number}", "x" * 1000, ex=3600)
        fickle.storage_limit(fickle.info()["used_memory"] - 20_000)
        raw.set("one more", "x")
        left = [name.decode().rpartition("-")[0] for name in raw.scan_iter()]
    assert left.count("forever") == 100
    assert left.count("for-an-hour") < 100


# -- the meter -------------------------------------------------------------------------------------


def test_a_plain_command_costs_its_kilobytes(fickle: Serverless) -> None:
    """1 at least; 3 KB, sent or received, cost 3."""
    with valkey_py.Valkey.from_url(fickle.url, lib_name=None, lib_version=None) as spider:
        spider.set("vd1:{x}", b"x" * 3072)
        spider.get("vd1:{y}")
        spider.get("vd1:{x}")
    found = fickle.meter()
    assert found["scripts"] == 0
    assert found["plain"] == pytest.approx(1 + 3 + 1 + 3, abs=0.2)  # the first is AUTH
    assert found["calls"]["get"] == 2


def test_a_script_costs_its_time() -> None:
    """3 us are one, shared by the scripts of a moment, each of which costs its kilobytes at least.

    A backend that the machine has suspended meanwhile costs no more than it has worked.
    """

    def info(usec: int, calls: int, seconds: float) -> bytes:
        lines = f"cmdstat_evalsha:calls={calls},usec={usec},usec_per_call=1,rejected_calls=0"
        return f"{lines}\r\nused_cpu_user_main_thread:{seconds}\r\n".encode()

    meter = Meter(1)
    meter.told(0, info(0, 0, 1.0))
    meter.charge(100, 0, 1.0, script=True)
    meter.charge(20 * 1024, 0, 1.0, script=True)
    meter.told(0, info(60, 2, 2.0))
    assert meter.scripts == 10 + 20
    meter.charge(100, 0, 1.0, script=True)
    meter.told(0, info(1_000_060, 3, 2.0003))
    assert meter.scripts == pytest.approx(30 + 100)


@pytest.mark.parametrize("throttle", ["error", "delay"])
def test_beyond_the_limit(fickle: Serverless, throttle: str) -> None:
    """Of more than 200 ECPU in a second the rest gets errors, or waits, as told."""
    with valkey_py.Valkey.from_url(fickle.url, lib_name=None, lib_version=None) as spider:
        spider.get("vd1:{x}")
        fickle.set(ecpu_limit=200, throttle=throttle)
        pipeline = spider.pipeline(transaction=False)
        for _ in range(300):
            pipeline.get("vd1:{x}")
        began = time.monotonic()
        replies = pipeline.execute(raise_on_error=False)
        seconds = time.monotonic() - began
        errors = [str(reply) for reply in replies if reply is not None]
        if throttle == "delay":
            assert errors == []
            assert seconds > 0.4
        else:
            assert 0 < len(errors) <= 100
            assert set(errors) == {"Request throttled: the ECPU limit of the cache is exceeded"}
            assert fickle.meter()["answers"]["throttled"] == len(errors)
            wait_until(lambda: _is_answered(spider))


def _is_answered(spider: valkey_py.Valkey) -> bool:
    try:
        spider.get("vd1:{x}")
    except exceptions.ResponseError:
        return False
    return True
