"""What others have written on the server, or answer in its stead: never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, split_key
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import claim_token, run_of
from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError, ReleasedClaim, Verdict
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.patience import PATIENCE, in_loop
from tests.support.servers.strangers import REPLIES, answering

KEY = bytes(range(16))
MINE = claim_token("run-a")


def claim_of(namespace: str) -> str:
    """The name of the claim on the post."""
    partition, post = split_key(KEY)
    return f"vd1:{{{namespace}:{PARTITION_TAGS[partition]}}}:c:{post.decode()}"


@pytest.mark.parametrize(
    "found",
    [b"", b"\xff", b"x", MINE[:9], MINE[:11], MINE + MINE[:9], MINE + MINE[:11], b"\xff" * 13,
     b"x" * 1000, "\ufffd".encode() * 5],
)  # fmt: skip
@pytest.mark.parametrize("record", [True, False])
@in_loop
async def test_what_is_no_claim_is_nobodys(
    valkey: ValkeyServer,
    namespace: str,
    open_ledger: Callable[..., Any],
    found: bytes,
    *,
    record: bool,
) -> None:
    """A value that is not made of tokens holds no post; the claim that takes its place is whole."""
    for deed in ("claim", "in doubt", "release", "renew", "confirm"):
        valkey.ask("SET", claim_of(namespace), found)
        async with open_ledger("run-a", record=record) as ledger, open_ledger("run-b") as other:
            if deed == "claim":
                (answer,) = await ledger.claim_many([KEY])
                assert answer.verdict is Verdict.NEW
                (answer,) = await other.claim_many([KEY])
                assert answer.verdict is (Verdict.SEEN if record else Verdict.HELD)
                assert answer.holder == (b"" if record else MINE)
                await ledger.forget_many([KEY])
            elif deed == "in doubt":
                await ledger.settle_many([], [ReleasedClaim(KEY, 7, in_doubt=True)])
                (answer,) = await other.claim_many([KEY])
                assert answer.verdict is Verdict.NEW
            elif deed == "release":
                await ledger.release_many([KEY])
            elif deed == "renew":
                assert await ledger.renew_many([KEY], [0]) == found.startswith(MINE)
            else:
                await ledger.confirm_many([KEY])
                assert await ledger.seen_many([KEY]) == [True]


@pytest.mark.parametrize("found", [b"\xff" * 12, bytes(12), b"a\nb {x} %s 1", b"\xff" * 24])
@in_loop
async def test_a_holder_is_bytes(
    valkey: ValkeyServer, namespace: str, open_ledger: Callable[..., Any], found: bytes
) -> None:
    """One whose name is no text is asked for its heartbeat, has none, and is taken over."""
    valkey.ask("SET", claim_of(namespace), found)
    async with open_ledger() as ledger:
        (answer,) = await ledger.claim_many([KEY])
        assert (answer.verdict, answer.holder) == (Verdict.HELD, found[:12])
        assert await ledger.runs.read_heartbeats([run_of(answer.holder)]) == [None]
        (answer,) = await ledger.claim_many([KEY], [answer.holder])
        assert (answer.verdict, answer.taken_over) == (Verdict.NEW, True)


@pytest.mark.parametrize("found", [b"", b"\xff\xfe", b"two\nlines" * 99])
@in_loop
async def test_an_identity_is_bytes(
    valkey: ValkeyServer, namespace: str, open_ledger: Callable[..., Any], found: bytes
) -> None:
    """Whatever it is, it is one."""
    valkey.ask("SET", f"vd1:{{{namespace}}}:id", found)
    async with open_ledger() as ledger:
        await ledger.open()
        assert ledger.identity == found.decode("utf-8", "replace")


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
@in_loop
async def test_what_is_no_valkey_is_refused(reply: Callable[[bytes], bytes]) -> None:
    """The message says what it answered."""
    async with answering(reply) as url:
        server = Client(url, url, {}, timeout=PATIENCE)
        ledger = Ledger(server, "posts", "run-a", retention=60.0)
        try:
            with pytest.raises(DedupError) as caught:
                await ledger.open()
        finally:
            await server.close()
    assert isinstance(caught.value, LedgerRefusedError)
    assert "this is not a Valkey server" in str(caught.value)
