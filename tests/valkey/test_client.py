"""The laws of the door to Valkey: real servers that stop, die, refuse, lie and run full."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import ssl
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import valkey as valkey_py
from valkey.asyncio import Connection

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.model import (
    EmbeddedServerError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import Script, ScriptCall, command
from tests.support.patience import PATIENCE, in_loop, now, until
from tests.support.servers.tls import ELSEWHERE, LOCALHOST, LOOPBACK, Authority, terminator

SLACK = 0.4  # seconds of the loop for what takes none and needs no other process
AT_ONCE = PATIENCE / 10  # seconds for what needs a server and does not wait for the deadline
SECRET = "hunter2"


@pytest.fixture
def own() -> Iterator[ValkeyServer]:
    """A server to hurt."""
    with ValkeyServer(port=free_port()) as server:
        yield server


@asynccontextmanager
async def connected(
    url: str, timeout: float = PATIENCE, **options: object
) -> AsyncIterator[Client]:
    """The way to a server."""
    revive = options.pop("revive", None)
    server = Client(url, "valkey://place", options, timeout, revive)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        await server.close()


async def echo(server: Client, number: int) -> int:
    """Asks for two echoes of a number."""
    first, second = await server.ask(command("ECHO", number), command("ECHO", -number))
    assert int(first) == -int(second)
    return int(first)


def admin(server: ValkeyServer) -> valkey_py.Valkey:
    """A plain client."""
    return valkey_py.Valkey.from_url(server.url)


# -- deadlines -----------------------------------------------------------------------------------


@in_loop
async def test_a_stopped_server_costs_the_deadline_and_no_more(own: ValkeyServer) -> None:
    """Every question ends in time; when the server goes on, each gets its own reply again."""
    async with connected(own.url, timeout=1) as server:
        assert await asyncio.gather(*(echo(server, n) for n in range(20))) == [*range(20)]
        os.kill(own.pid, signal.SIGSTOP)
        try:
            began = now()
            failed = await asyncio.gather(
                *(echo(server, n) for n in range(20)), return_exceptions=True
            )
            assert 1 <= now() - began < 1 + SLACK
            assert {type(error) for error in failed} == {LedgerUnavailableError}
            assert "VALKEY_DEDUP_TIMEOUT" in str(failed[0])
        finally:
            os.kill(own.pid, signal.SIGCONT)
        for start in range(100, 1000, 100):
            numbers = range(start, start + 20)
            assert await asyncio.gather(*(echo(server, n) for n in numbers)) == [*numbers]


@in_loop
async def test_a_server_that_goes_on_in_time_costs_nothing(own: ValkeyServer) -> None:
    """A question outlasts a server that stops for less than the deadline."""
    async with connected(own.url) as server:
        await echo(server, 1)
        os.kill(own.pid, signal.SIGSTOP)
        question = asyncio.create_task(echo(server, 2))
        await asyncio.sleep(0.05)
        os.kill(own.pid, signal.SIGCONT)
        assert await question == 2


@in_loop
async def test_a_restarted_server_costs_nothing(own: ValkeyServer) -> None:
    """A question outlasts the death of the server if another takes its place in time."""
    async with connected(own.url) as server:
        await asyncio.gather(*(echo(server, n) for n in range(10)))
        own.kill()
        questions = [asyncio.create_task(echo(server, n)) for n in range(10)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(own.start)
        assert await asyncio.gather(*questions) == [*range(10)]


@in_loop
async def test_a_connection_that_is_reset_while_it_is_written_to(
    own: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset between the choice of a connection and the writing costs another attempt."""
    send, sent = Connection.send_packed_command, []

    async def reset_before(connection: Connection, packed: Any) -> None:
        sent.append(packed)
        if len(sent) == 2:
            connection._writer.transport.abort()
            await asyncio.sleep(0.01)
        await send(connection, packed)

    async with connected(own.url) as server:
        assert await echo(server, 1) == 1
        monkeypatch.setattr(Connection, "send_packed_command", reset_before)
        assert await echo(server, 2) == 2
        assert await echo(server, 3) == 3
    assert len(sent) == 3


@in_loop
async def test_nobody_there_is_unavailable(own: ValkeyServer) -> None:
    """A refused connection is tried again until the deadline, and the message says what it was."""
    own.kill()
    async with connected(own.url, timeout=0.2) as server:
        began = now()
        with pytest.raises(LedgerUnavailableError, match=r"valkey://place gave no.*onnect"):
            await echo(server, 1)
        assert now() - began < 0.2 + SLACK


@in_loop
async def test_a_dead_connection_is_replaced_in_time(own: ValkeyServer) -> None:
    """A connection that swallows everything, as after a failover, costs half a deadline at most."""
    swallow = False

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dead_from_birth = not swallow

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                if not (swallow and dead_from_birth):
                    target.write(data)
            target.close()

        there, back = await asyncio.open_connection("127.0.0.1", own.port)
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    listener = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with connected(f"valkey://127.0.0.1:{port}", timeout=2) as server:
        assert await echo(server, 1) == 1
        swallow = True
        assert await echo(server, 2) == 2
    listener.close()


@in_loop
async def test_a_connection_closed_while_idle_costs_nothing(own: ValkeyServer) -> None:
    """What the server has closed meanwhile is opened again, without a failed attempt."""
    async with connected(own.url) as server:
        await asyncio.gather(*(echo(server, n) for n in range(5)))
        with admin(own) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await asyncio.gather(*(echo(server, n) for n in range(5))) == [*range(5)]


@in_loop
async def test_a_demoted_server_is_asked_until_there_is_a_primary(own: ValkeyServer) -> None:
    """READONLY is a failover under way: the question waits for its end, on a new connection."""
    script = Script("write", "return redis.call('SET', KEYS[1], ARGV[1])")
    call = ScriptCall(script, "k", (), [b"v"])
    with admin(own) as client:
        async with connected(own.url) as server:
            assert await server.run([call]) == [b"OK"]
            client.replicaof("127.0.0.1", own.port)
            for deed in (server.run([call]), server.ask(command("SET", "k", "v"))):
                question = asyncio.create_task(deed)
                await asyncio.sleep(0.1)
                assert not question.done()
                client.replicaof("NO", "ONE")
                assert await question == [b"OK"]
                client.replicaof("127.0.0.1", own.port)
        async with connected(own.url, timeout=1) as server:
            with pytest.raises(LedgerUnavailableError, match="read only replica"):
                await server.run([call])


# -- cancellation and connections ----------------------------------------------------------------


@in_loop
async def test_cancellation_mixes_up_no_replies(own: ValkeyServer) -> None:
    """A caller that is cancelled, at any moment, takes no reply away from another."""
    chance = random.Random(1)
    async with connected(own.url) as server:
        for start in range(0, 2000, 100):
            tasks = [asyncio.create_task(echo(server, n)) for n in range(start, start + 100)]
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            for task in chance.sample(tasks, 50):
                task.cancel()
            for n, reply in enumerate(await asyncio.gather(*tasks, return_exceptions=True), start):
                assert reply == n or isinstance(reply, asyncio.CancelledError)
        assert await echo(server, 7) == 7


@in_loop
async def test_a_cancelled_question_ends_at_once(own: ValkeyServer) -> None:
    """Cancelling does not wait for a server that is stopped, and its late reply is dropped."""
    async with connected(own.url) as server:
        await echo(server, 1)
        os.kill(own.pid, signal.SIGSTOP)
        try:
            questions = [asyncio.create_task(echo(server, n)) for n in range(10)]
            await asyncio.sleep(0.05)
            began = now()
            for question in questions:
                question.cancel()
            await asyncio.wait(questions)
            assert now() - began < SLACK
            assert all(question.cancelled() for question in questions)
        finally:
            os.kill(own.pid, signal.SIGCONT)
        assert await asyncio.gather(*(echo(server, n) for n in range(20, 40))) == [*range(20, 40)]


class LosesCancellations(Client):
    """As valkey-py may on Python 3.10: its questions go on, and fail."""

    async def _until_answered(self, *_: object) -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            raise LedgerUnavailableError("away") from None


@in_loop
async def test_no_error_of_a_cancelled_question_is_lost(own: ValkeyServer) -> None:
    """If it fails when nobody waits for it any more, asyncio has nothing to log."""
    client = LosesCancellations(own.url, own.url, {}, timeout=PATIENCE)
    asking = asyncio.ensure_future(client.ask(command("PING")))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    await client.close()


@in_loop
async def test_connections_do_not_grow(own: ValkeyServer) -> None:
    """Eight at a time have at most a connection each, however many of them are cancelled."""
    chance = random.Random(2)

    async def asked(server: Client, number: int) -> None:
        question = asyncio.create_task(echo(server, number))
        if chance.random() < 0.3:
            await asyncio.sleep(0)
            question.cancel()
        with suppress(asyncio.CancelledError):
            await question

    async def at_most(limit: int) -> None:
        await until(lambda: len(client.client_list()) - 1 <= limit)

    with admin(own) as client:
        async with connected(own.url) as server:
            for number in range(50):
                await asyncio.gather(*(asked(server, number) for _ in range(8)))
                # On Python 3.10 valkey-py may lose a cancellation: its exchange goes on.
                await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
            await at_most(8)
        await at_most(0)


# -- reviving ------------------------------------------------------------------------------------


@in_loop
async def test_a_server_is_revived(own: ValkeyServer) -> None:
    """The callback that starts a dead server runs in a thread, once at a time, and all heal."""
    threads: list[threading.Thread] = []
    at_work = threading.Lock()

    def revive() -> None:
        assert at_work.acquire(blocking=False)
        if not threads:
            own.start()
        threads.append(threading.current_thread())
        at_work.release()

    async with connected(own.url, revive=revive) as server:
        await echo(server, 1)
        own.kill()
        assert await asyncio.gather(*(echo(server, n) for n in range(20))) == [*range(20)]
    assert threads
    assert threading.main_thread() not in threads


@in_loop
async def test_what_hinders_the_revival_is_told(own: ValkeyServer) -> None:
    """If the server cannot be started, the message says why, even while it is tried once more."""
    own.kill()
    tries, release = count(), threading.Event()

    def revive() -> None:
        if next(tries):
            release.wait(PATIENCE)
        raise EmbeddedServerError("the disk is full")

    async with connected(own.url, timeout=2, revive=revive) as server:
        try:
            with pytest.raises(LedgerUnavailableError, match="the disk is full"):
                await echo(server, 1)
        finally:
            release.set()


@in_loop
async def test_a_revival_that_hangs_does_not_hold_up_the_question(own: ValkeyServer) -> None:
    """The deadline holds while the callback is still at work."""
    own.kill()
    release = threading.Event()
    async with connected(own.url, timeout=0.2, revive=lambda: release.wait(PATIENCE)) as server:
        began = now()
        with pytest.raises(LedgerUnavailableError):
            await echo(server, 1)
        assert now() - began < 0.2 + SLACK
        release.set()


# -- refusals ------------------------------------------------------------------------------------


def users_url(own: ValkeyServer, user: str, place: str) -> str:
    """The server's URL with user and password."""
    return (
        f"unix://{user}@{own.socket}"
        if place == "unix"
        else f"valkey://{user}@127.0.0.1:{own.port}"
    )


REFUSED_USERS = {
    "wrong password": f"bot:not-{SECRET}",
    "no password": "",
    "no such user": f"nobody:{SECRET}",
    "no command": f"idle:{SECRET}",
    "no key": f"elsewhere:{SECRET}",
    "no command in the script": f"bot:{SECRET}",
}


@pytest.mark.parametrize("place", ["tcp", "unix"])
@pytest.mark.parametrize("user", REFUSED_USERS.values(), ids=REFUSED_USERS.keys())
@in_loop
async def test_a_refusal_names_the_cure_and_no_password(user: str, place: str) -> None:
    """Wrong credentials and missing permissions are refusals, told at once and without secrets."""
    with ValkeyServer("--requirepass", SECRET, port=free_port()) as own:
        with valkey_py.Valkey.from_url(own.url, password=SECRET) as client:
            for name, keys, commands in (
                ("bot", "vd1:*", ["+evalsha", "+eval", "+get"]),
                ("idle", "vd1:*", ["+get"]),
                ("elsewhere", "other:*", ["+@all"]),
            ):
                client.acl_setuser(
                    name, enabled=True, passwords=[f"+{SECRET}"], keys=[keys],
                    categories=["-@all"], commands=commands,
                )  # fmt: skip
        script = Script("write", "return redis.call('SET', KEYS[1], 1)")
        async with connected(users_url(own, user, place)) as server:
            began = now()
            with pytest.raises(LedgerRefusedError, match="Check user, password and") as caught:
                await server.run([ScriptCall(script, "vd1:k", (), [])])
            assert now() - began < AT_ONCE
    error = caught.value
    told = [*traceback.format_exception(type(error), error, error.__traceback__), repr(server)]
    assert SECRET not in "".join(told)


@pytest.mark.parametrize(
    ("url", "options", "hint"),
    [
        ("valkey://:hunter2/x@h:6379", {}, "percent-encode"),
        ("valkey://:hunter2@h:hunter2", {}, "percent-encode"),
        ("http://:hunter2@h", {}, "valkey://localhost"),
        ("valkey://:hunter2@h", {"sockettimeout": 1}, "sockettimeout"),
        ("valkey://:hunter2@h?nonsense=1", {}, "nonsense"),
        ("valkeys://:hunter2@h", {"ssl_ca_certs": "/no/such/file"}, "No such file"),
        ("valkeys://:hunter2@h", {"ssl_cert_reqs": "none"}, "check_hostname"),
        ("valkeys://:hunter2@h", {"ssl_cert_reqs": "perhaps"}, "perhaps"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(
    url: str, options: dict[str, object], hint: str
) -> None:
    """A URL or an option that valkey-py does not take is found before anything is connected."""
    with pytest.raises(LedgerRefusedError, match=hint) as caught:
        Client(url, "valkey://place", options, timeout=1)
    assert SECRET not in "".join(traceback.format_exception_only(type(caught.value), caught.value))


@in_loop
async def test_replies_are_bytes_whatever_the_options(own: ValkeyServer) -> None:
    """Options in the URL that change replies do not confuse the ledger."""
    async with connected(own.url, decode_responses=True) as server:
        assert await server.ask(command("ECHO", "a")) == [b"a"]


IMPOSTORS = {
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", False),
    "noise": (b"\0\xff\x16\x03" * 20 + b"\r\n", False),
    "closes": (b"", True),
    "silent": (b"", False),
}


@pytest.mark.parametrize(("says", "closes"), IMPOSTORS.values(), ids=IMPOSTORS.keys())
@in_loop
async def test_something_else_on_the_port_is_unavailable(says: bytes, *, closes: bool) -> None:
    """Whatever else answers on the port, the question ends in time with one of our errors."""

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read(10)
            writer.write(says)
            if closes:
                writer.close()
            await reader.read()
            writer.close()

    listener = await asyncio.start_server(impostor, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with connected(f"valkey://127.0.0.1:{port}", timeout=0.3) as server:
        began = now()
        with pytest.raises(LedgerUnavailableError):
            await echo(server, 1)
        assert now() - began < 0.3 + SLACK
    listener.close()


@in_loop
async def test_a_full_server_is_unavailable_until_it_has_room(own: ValkeyServer) -> None:
    """Out of memory is told at once; what needs no memory works; with room all works again."""
    write = ScriptCall(Script("w", "return redis.call('SADD', KEYS[1], 1)"), "k", (), [])
    free = ScriptCall(Script("d", "return redis.call('DEL', KEYS[1])"), "k", (), [])
    with admin(own) as client:
        async with connected(own.url) as server:
            client.config_set("maxmemory", "1")
            began = now()
            with pytest.raises(LedgerUnavailableError, match="maxmemory"):
                await server.run([write, free])
            assert now() - began < AT_ONCE
            assert await server.run([free]) == [0]
            client.config_set("maxmemory", "0")
            assert await server.run([write, free]) == [1, 1]


# -- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["valkeys", "rediss"])
@in_loop
async def test_tls_verifies_who_is_there(valkey: ValkeyServer, tmp_path: Path, scheme: str) -> None:
    """Only a certificate of a trusted authority for the very host name is accepted."""
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    trusting = {"ssl_ca_certs": str(ours.file)}

    async def ask(context: ssl.SSLContext, host: str, **options: object) -> int:
        async with (
            terminator(valkey, context) as port,
            connected(f"{scheme}://{host}:{port}", **options) as server,
        ):
            return await echo(server, 1)

    assert await ask(ours.certify(LOCALHOST), "localhost", **trusting) == 1
    assert await ask(ours.certify(LOOPBACK), "127.0.0.1", **trusting) == 1
    refused: list[Callable[[], object]] = [
        lambda: ask(ours.certify(LOCALHOST), "127.0.0.1", **trusting),
        lambda: ask(ours.certify(ELSEWHERE), "localhost", **trusting),
        lambda: ask(theirs.certify(LOCALHOST), "localhost", **trusting),
        lambda: ask(ours.certify(LOCALHOST), "localhost"),
    ]
    for wrong in refused:
        with pytest.raises(LedgerRefusedError, match=r"not trusted.*ssl_ca_certs"):
            await wrong()


@in_loop
async def test_tls_and_plain_do_not_mix(valkey: ValkeyServer, tmp_path: Path) -> None:
    """A TLS client on a plain port, and a plain one on a TLS port, fail in time and clearly."""
    context = Authority(tmp_path, "ours").certify(LOCALHOST)
    async with terminator(valkey, context) as port:
        for url in (f"valkeys://127.0.0.1:{valkey.port}", f"valkey://127.0.0.1:{port}"):
            async with connected(url, timeout=0.3) as server:
                began = now()
                with pytest.raises(LedgerUnavailableError):
                    await echo(server, 1)
                assert now() - began < 0.3 + SLACK
