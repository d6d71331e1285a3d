"""Each state that a server can be in has its handling and its message, and ends when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bench.servers import FaultyProxy, free_port
from scrapy_valkey_dedup.model import (
    LedgerReplyError,
    LedgerUnavailableError,
    Verdict,
)
from scrapy_valkey_dedup.session.claim import Claim
from tests.support.meanwhile import (
    KEYS,
    SLACK,
    TIMEOUT,
    a_run,
    assert_an_outage_while,
    assert_unavailable_while,
    session_at,
)
from tests.support.patience import PATIENCE, in_loop, now
from tests.support.servers.states import (
    Own,
    State,
    busy,
    crowded,
    dead,
    frozen,
    full,
    loading,
    lonely,
    orphan,
    replica,
    unsaved,
)


@pytest.fixture
def own() -> Iterator[Own]:
    """A server to hurt."""
    prompt = ("--repl-diskless-sync-delay", "0", "--rdbcompression", "no")
    with Own(*prompt, port=free_port()) as server:
        yield server


STATES: dict[str, tuple[State, str]] = {
    "LOADING": (loading, "loading its data after a start"),
    "READONLY": (replica, "read only replica.*let VALKEY_DEDUP_URL name the primary"),
    "MASTERDOWN": (orphan, "replica"),
    "NOREPLICAS": (lonely, "too few replicas.*min-replicas-to-write"),
    "OOM": (full, "its memory is full: raise maxmemory"),
    "MISCONF": (unsaved, "it cannot save its data: look at its log"),
    "BUSY": (busy, "a script of another client has been running for too long"),
    "maxclients": (crowded, "max number of clients reached"),
    "SIGSTOP": (frozen, r"no answer within 1 s \(VALKEY_DEDUP_TIMEOUT\)"),
    "SIGKILL": (dead, "no answer within.*[Cc]onnect"),
}
each_state = pytest.mark.parametrize(("state", "words"), STATES.values(), ids=STATES.keys())


@each_state
@in_loop
async def test_a_new_run_is_told(own: Own, state: State, words: str) -> None:
    """The question ends in time with the state in words; the next, after its end, is answered."""
    await assert_unavailable_while(state(own), own.url, words)


@each_state
@in_loop
async def test_a_running_run_survives_it(
    own: Own, state: State, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an outage, with one line at its begin and one at its end, and it ends by itself."""
    caplog.set_level(logging.INFO)
    await assert_an_outage_while(state(own), own.url, words, tmp_path, caplog)


@in_loop
async def test_an_orphan_says_so_where_nothing_is_written(own: Own) -> None:
    """MASTERDOWN, which only reading shows: of writing a replica says that it is one."""
    async with a_run(own.url) as ledger:
        with (
            orphan(own),
            pytest.raises(LedgerUnavailableError, match="it is a replica that has lost its prim"),
        ):
            await ledger.seen_many(KEYS)
        assert await ledger.seen_many(KEYS[:2]) == [False, False]


@pytest.mark.parametrize("state", [full, unsaved])
@in_loop
async def test_what_asking_again_does_not_cure_costs_no_deadline(own: Own, state: State) -> None:
    """A server that is full, or cannot save, says so at once; reading questions are answered."""
    async with a_run(own.url, timeout=PATIENCE) as ledger:
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
    async with a_run(own.url, timeout=PATIENCE) as ledger:
        await ledger.open()
        with state(own):
            question = asyncio.create_task(ledger.claim_many(KEYS))
            await asyncio.sleep(0.1)
            assert not question.done()
        assert {answer.verdict for answer in await question} == {Verdict.NEW}


@in_loop
async def test_forgotten_scripts_are_not_noticed(own: Own, tmp_path: Path) -> None:
    """NOSCRIPT: what a server has lost is loaded within the same question."""
    session = session_at(own.url, tmp_path)
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
    async with a_run(own.url) as ledger:
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
    """A new run is told in time, a running one survives it."""
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
    """If something else has the port, the question ends in time and asks to check the URL."""

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(greeting)
            await reader.read(10)
            writer.write(reply)
            await reader.read()
            writer.close()

    listener = await asyncio.start_server(impostor, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    words = (
        "^At .* something answers that is not a Valkey server .*; check host, port and TLS"
        if greeting or reply
        else "no answer within"
    )
    for url in (f"valkey://127.0.0.1:{port}", f"valkey+cluster://127.0.0.1:{port}"):
        async with a_run(url) as ledger:
            began = now()
            with pytest.raises(LedgerUnavailableError, match=words):
                await ledger.open()
            assert now() - began < TIMEOUT + SLACK
    listener.close()
