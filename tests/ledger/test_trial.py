"""The ledger of a trial: it knows what others remember, and leaves nothing with them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import valkey as valkey_py

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.ledger.tokens import claim_token
from scrapy_valkey_dedup.ledger.trial import TrialLedger, ledger_of
from scrapy_valkey_dedup.model import LedgerRefusedError, Verdict
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.patience import PATIENCE, in_loop
from tests.support.servers.standin import as_admin, not_on_serverless

OpenTrial = Callable[..., AbstractAsyncContextManager[Ledger]]
KEYS = [bytes([number, *range(15)]) for number in range(0, 250, 10)]
STORED, TRIED, CLAIMED, HELD, NEW = KEYS[:5], KEYS[5:10], KEYS[10:15], KEYS[15:20], KEYS[20:]


@pytest.fixture
def open_trial(valkey: ValkeyServer, namespace: str) -> OpenTrial:
    """Opens the ledger of a trial of the test's namespace, as one run sees it."""

    @asynccontextmanager
    async def opened(run: str = "trial-a", **options: Any) -> AsyncIterator[Ledger]:
        server = Client(valkey.url, valkey.url, {}, timeout=PATIENCE)
        given = {"tried": namespace, "retention": 3600.0, **options}
        try:
            yield ledger_of(server, f"{namespace}+trial-x", run, **given)
        finally:
            await server.close()

    return opened


@in_loop
async def test_a_trial_knows_both_and_writes_to_one(
    open_ledger: Any, open_trial: OpenTrial, valkey: ValkeyServer, namespace: str
) -> None:
    """Answers in order: seen there or here, held by a run of the trial; not what others claim.

    Whatever a trial does, no key of the namespace that is tried changes.
    """
    mine = re.compile(rf"vd1:\{{{namespace}[:}}]".encode())

    def contents() -> dict[bytes, Any]:
        with valkey_py.Valkey.from_url(as_admin(valkey.url)) as client:
            names = [name for name in client.scan_iter(count=10_000) if mine.match(name)]
            return {name: (client.dump(name), client.pexpiretime(name)) for name in names}

    async with open_ledger() as others, open_trial() as trial, open_trial("trial-b") as twin:
        await others.open()
        await others.confirm_many(STORED)
        await others.claim_many(CLAIMED, number=1)
        before = contents()
        await trial.open()
        await trial.confirm_many(TRIED)
        await twin.claim_many(HELD, number=1)
        fives = zip(STORED, TRIED, CLAIMED, HELD, NEW, strict=True)
        mixed = [key for five in fives for key in five]
        verdicts = [Verdict.SEEN, Verdict.SEEN, Verdict.NEW, Verdict.HELD, Verdict.NEW]
        assert [each.verdict for each in await trial.claim_many(mixed, number=1)] == 5 * verdicts
        assert await trial.seen_many(mixed) == 5 * [True, True, False, False, False]
        verdicts = [answer.verdict for answer in await trial.look_many(mixed)]
        assert [verdict is Verdict.SEEN for verdict in verdicts] == await trial.seen_many(mixed)
        taken = await trial.claim_many(HELD, [claim_token("trial-b", 1)], number=2)
        assert {each.taken_over for each in taken} == {True}
        known = await trial.claim_many(STORED, number=3)
        assert {each.verdict for each in known} == {Verdict.SEEN}
        await trial.confirm_many(KEYS)
        assert await trial.forget_many([*STORED, *TRIED]) == 10
        assert await trial.seen_many(STORED) == [True] * 5
        assert await others.seen_many(KEYS) == [True] * 5 + [False] * 20
        assert contents() == before


@in_loop
async def test_what_a_trial_tells_of_a_post(open_ledger: Any, open_trial: OpenTrial) -> None:
    """A post is remembered until the later end of the two; claims are those of the trial."""
    async with open_ledger(retention=100_000) as others, open_trial(retention=1000.0) as trial:
        await others.open()
        await trial.open()
        await others.confirm_many(STORED)
        await trial.confirm_many([*STORED, *TRIED])
        await others.claim_many(CLAIMED)
        await trial.claim_many(NEW)
        (stored,), (tried,), (claimed,), (new,) = [
            await trial.inspect_many(keys[:1]) for keys in (STORED, TRIED, CLAIMED, NEW)
        ]
        assert stored.until is not None
        assert tried.until is not None
        assert stored.until - tried.until > 90_000
        assert (claimed.until, claimed.holder) == (None, None)
        assert (new.until, new.holder) == (None, "trial-a")


@in_loop
async def test_a_trial_that_records_or_begins_anew(open_ledger: Any, open_trial: OpenTrial) -> None:
    """With CONFIRM = "claimed" what it asks for is seen from then on; with RESET nothing was."""
    async with open_ledger() as others, open_trial(record=True) as trial:
        await others.open()
        await others.confirm_many(STORED)
        await trial.open()
        for verdict in (Verdict.NEW, Verdict.SEEN):
            found = [each.verdict for each in await trial.claim_many([*STORED, *TRIED])]
            assert found == [Verdict.SEEN] * 5 + [verdict] * 5
    async with open_trial("trial-c", reset=True) as trial:
        assert isinstance(trial, TrialLedger)
        found = [each.verdict for each in await trial.claim_many([*STORED, *TRIED])]
        assert found == [Verdict.NEW] * 10


@not_on_serverless("it makes a user")
@in_loop
async def test_a_trial_that_may_not_look(valkey: ValkeyServer, namespace: str) -> None:
    """A user who may not read what is tried is refused at the start, on each shelf."""
    root = f"~vd1:{{{namespace}"
    words = [word for word in RULES if not word.startswith("~")]
    for number, keys in enumerate(
        ([f"{root}+trial-x*"], [f"{root}+trial-x*", f"{root}}}:*"], [f"{root}*"])
    ):
        user = f"user-{namespace}-{number}"
        valkey.ask("ACL", "SETUSER", user, "on", ">secret", *keys, *words)
        url = valkey.url.replace("://", f"://{user}:secret@")
        server = Client(url, url, {}, timeout=PATIENCE)
        given: Any = {"tried": namespace, "retention": 60.0}
        try:
            for shelf in ("", "pages"):
                ledger = ledger_of(server, f"{namespace}+trial-x", "a", shelf=shelf, **given)
                if number == 2:  # it may read all
                    await ledger.open()
                    await ledger.probe.check_keys()
                    continue
                with pytest.raises(LedgerRefusedError):
                    await (ledger.probe.check_keys() if shelf else ledger.open())
        finally:
            await server.close()


def test_no_trial_is_any_ledger(valkey: ValkeyServer) -> None:
    """Where nothing is tried the ledger asks as many questions as ever: it is the plain one."""
    server = Client(valkey.url, valkey.url, {}, timeout=PATIENCE)
    assert type(ledger_of(server, "posts", "a", tried="posts", retention=None)) is Ledger
    assert type(ledger_of(server, "posts", "a", retention=None)) is Ledger
