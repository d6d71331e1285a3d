"""Unknown errors of a server, its moods and its limits: none of them lets a post pass unchecked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.model import (
    LedgerRefusedError,
    LedgerUnavailableError,
    UnknownReplyError,
    Verdict,
)
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.stats import Stats
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command
from tests.support.crawls.world import World
from tests.support.ledgers import ledger_at
from tests.support.patience import in_loop, until
from tests.support.runs import Runs
from tests.support.servers.fronts import Command, Front, Rule, always, by_chance, name_of
from tests.support.servers.site import pages_of

KEYS = [digest("Post", [str(post)]) for post in range(300)]
SCRIPTS = ("EVALSHA", "EVAL")
ODD = "ERR internal error"
BEGIN, END = "Until it answers", "Valkey answers again"
PATIENCE = 60


@pytest.fixture
def front(valkey: ValkeyServer) -> Iterator[Front]:
    """The way to the session's server, with rules."""
    with Front([valkey]) as made:
        yield made


@pytest.fixture
def runs(front: Front, namespace: str, tmp_path: Path) -> Runs:
    """Runs whose way to the server is the front."""
    made = Runs(front.url, namespace, tmp_path)
    made.raw.close()
    return made


def stat(session: Any, name: str) -> int:
    """One of a run's stats."""
    return int(session._stats.number(name))


async def new(session: Any, keys: list[bytes]) -> list[Claim]:
    """The claims on posts that no run holds."""
    found = await asyncio.gather(*map(session.claim, keys))
    assert all(isinstance(claim, Claim) for claim in found)
    return found


# -- scripts that a backend does not know ----------------------------------------------------------


class Backends:
    """Two script caches before one store, as behind one address of a service.

    Each command comes to the next one. A script is known where it was evaluated; SCRIPT LOAD, if it
    came, would reach one.
    """

    def __init__(self, *, forget: bool = False) -> None:
        self._known: tuple[set[bytes], set[bytes]] = set(), set()
        self._forget = forget
        self._count = 0

    def rule(self, asked: Command) -> str | None:
        """As an answer of the one whose turn it is."""
        self._count += 1
        known = self._known[self._count % 2]
        if name_of(asked) == "EVALSHA" and asked[1] not in known:
            return "NOSCRIPT No matching script. Please use EVAL."
        if name_of(asked) == "EVAL" and not self._forget:
            known.add(sha1(asked[1], usedforsecurity=False).hexdigest().encode())
        return None


@pytest.mark.parametrize("forget", [False, True], ids=["keeps", "forgets"])
@in_loop
async def test_a_script_that_is_lacking_comes_with_its_question(
    front: Front, namespace: str, *, forget: bool
) -> None:
    """Whichever backend answers, and if none ever keeps a script: three attempts, and no storm."""
    front.rule = Backends(forget=forget).rule
    async with ledger_at(front.url, namespace, "a-run") as ledger:
        answers = await ledger.claim_many(KEYS)
        assert {answer.verdict for answer in answers} == {Verdict.NEW}
        calls = len(ledger._names.partitions)
        assert front.asked["EVALSHA"] + front.asked["EVAL"] <= 3 * calls
        await ledger.confirm_many(KEYS)
        assert all(await ledger.seen_many(KEYS))
    assert front.asked["EVALSHA"] + front.asked["EVAL"] <= 3 * 3 * calls
    assert not front.asked["SCRIPT"]


@in_loop
async def test_a_source_is_sent_once_for_all_questions_behind_it(
    valkey: ValkeyServer, front: Front, namespace: str
) -> None:
    """A server that has lost its scripts gets each once, not with each of the partitions."""
    async with ledger_at(front.url, namespace, "a-run") as ledger:
        valkey.ask("SCRIPT", "FLUSH")
        await ledger.claim_many(KEYS)
        await ledger.confirm_many(KEYS)
    assert front.asked["EVAL"] == 2


def test_a_crawl_at_two_backends(world: World, valkey: ValkeyServer) -> None:
    """Nothing is unchecked, all is remembered, and few scripts are sent."""
    with Front([valkey], Backends().rule) as front:
        world.url = front.url
        stats = world.crawl(world.site(pages_of(range(1000))))
        world.url = valkey.url
    assert "dedup/valkey/outages" not in stats
    assert "dedup/items/unchecked" not in stats
    assert stats["dedup/items/confirmed"] == 1000
    assert front.asked["EVAL"] < 100
    assert front.asked["EVALSHA"] < 20_000


# -- unknown errors -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_a_crawl_with_odd_errors_now_and_then(
    world: World, valkey: ValkeyServer, share: float
) -> None:
    """Of all commands 1 % (10 %) fail with an unknown error: no outage, all once, all checked."""
    with Front([valkey], by_chance(share, ODD)) as front:
        world.url = front.url
        site = world.site(pages_of(range(1000)))
        runs = [world.start(site, seed=seed) for seed in (1, 2)]
        stats = [run.wait() for run in runs]
        world.url = valkey.url
    assert front.refused.total() > 0
    for found in stats:
        assert "dedup/valkey/outages" not in found
        assert "dedup/items/unchecked" not in found
    assert world.stored == {str(post): 1 for post in range(1000)}
    assert sum(found["dedup/items/confirmed"] for found in stats) == 1000
    world.assert_settled()


@in_loop
async def test_a_claim_that_failed_oddly_is_in_doubt(runs: Runs, front: Front) -> None:
    """What was done before the error is not known, or still will be: as if the reply were lost."""
    async with runs.open() as one:
        (sure,) = await new(one, KEYS[:1])
        front.rule = by_chance(0.5, ODD, SCRIPTS)
        claims = await new(one, KEYS[1:])
        front.rule = lambda _: None
        assert not sure.in_doubt
        assert any(claim.in_doubt for claim in claims)
        for claim in (sure, *claims):
            claim.release()


@in_loop
async def test_what_persists_in_a_crawl_is_an_outage(
    runs: Runs, front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked again until the deadline; the line has the words; it ends when they do."""
    caplog.set_level(logging.INFO)
    async with runs.open(timeout=0.5) as run:
        before = front.asked["EVALSHA"]
        front.rule = always(ODD, *SCRIPTS)
        claim = await run.claim(KEYS[0])
        assert isinstance(claim, Claim)
        assert front.asked["EVALSHA"] - before > 3
        (line,) = (text for text in caplog.messages if BEGIN in text)
        assert "again and again within 0.5 s (VALKEY_DEDUP_TIMEOUT): internal error" in line
        claim.confirm()
        front.rule = by_chance(0.05, ODD)
        await until(lambda: any(END in text for text in caplog.messages))
        assert await run.claim(KEYS[0]) is Verdict.SEEN
        assert stat(run, Stats.OUTAGES) == 1
    async with ledger_at(front.url, runs.namespace, "a-run") as ledger:
        assert await ledger.seen_many(KEYS[:1]) == [True]


POLICIES = ("pass", "pause", "close")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("commands", [SCRIPTS, ("EVAL",), ("SET",), ("MGET",)], ids="-".join)
@in_loop
async def test_what_persists_from_the_first_question_on_is_a_refusal(
    runs: Runs, front: Front, commands: tuple[str, ...], policy: str
) -> None:
    """On a server that answers other questions: with its own words, and what to do."""
    front.rule = always("ERR the moon is full", *commands)
    with pytest.raises(LedgerRefusedError, match=r"the moon is full.*a rule of its own.*_URL"):
        async with runs.open(timeout=0.3, on_outage=policy):
            pass
    assert front.refused.total() > 3


@in_loop
async def test_a_server_that_answers_nothing_rightly_is_away(
    runs: Runs, front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    """It is waited for, as it may be in a bad moment; then all is well."""
    caplog.set_level(logging.INFO)
    front.rule = lambda _: "ERR the moon is full"
    async with runs.open(timeout=0.3) as run:
        (line,) = (text for text in caplog.messages if BEGIN in text)
        assert "the moon is full" in line
        front.rule = lambda _: None
        await until(lambda: any(END in text for text in caplog.messages))
        await new(run, KEYS[:1])


# -- what waiting does not cure --------------------------------------------------------------------

UNABLE = {
    "TIME on ElastiCache Serverless": (
        SCRIPTS,
        "ERR This Redis command is not allowed from script script: 5f9d, on @user_script:25.",
    ),
    "no EVAL": (("EVAL",), "ERR unknown command 'EVAL', with args beginning with: 'x' '1' 'y'"),
    "a proxy without scripts": (SCRIPTS, "ERR command 'eval' not support for normal user"),
    "Dragonfly": (SCRIPTS, "ERR script tried accessing undeclared key"),
    "hash tags of no use": (SCRIPTS, "CROSSSLOT Keys in request don't hash to the same slot"),
    "without cmsgpack": (
        SCRIPTS,
        "ERR user_script:1: Script attempted to access nonexistent global variable 'cmsgpack'",
    ),
    "an old SET": (("SET",), "ERR syntax error"),
    "other arity": (("MGET",), "ERR wrong number of arguments for 'mget' command"),
    "by subscription": (("MGET",), "ERR Command is not available: 'MGET'. See https://host/docs"),
}


@pytest.mark.parametrize(("commands", "words"), UNABLE.values(), ids=UNABLE.keys())
@in_loop
async def test_what_a_server_never_does_is_a_refusal(
    runs: Runs, front: Front, commands: tuple[str, ...], words: str
) -> None:
    """At once, with its words and the cure, and asked once."""
    front.rule = always(words, *commands)
    told = words.removeprefix("ERR ").partition(", with args")[0].partition("'")[0]
    with pytest.raises(LedgerRefusedError, match=r"docs/security\.md") as caught:
        async with runs.open(timeout=PATIENCE):
            pass
    assert told in str(caught.value)
    assert max(front.refused.values()) <= len(SCRIPTS) * 4  # they are put together


@in_loop
async def test_what_only_some_settings_need_is_tried_with_them(runs: Runs, front: Front) -> None:
    """A server without cmsgpack will do, but not for ``CONFIRM = "claimed"``: told at the start."""
    name_of_question = 8  # among the arguments of claim.lua

    def rule(asked: Command) -> str | None:
        records = asked[7:8] == [b"refresh"] and asked[name_of_question] != b""
        return UNABLE["without cmsgpack"][1] if records else None

    front.rule = rule
    async with runs.open(timeout=PATIENCE) as run:
        await new(run, KEYS[:1])
    with pytest.raises(LedgerRefusedError, match="cmsgpack"):
        async with runs.open(timeout=PATIENCE, confirm="claimed"):
            pass


@in_loop
async def test_a_server_without_hello_is_no_refusal(runs: Runs, front: Front) -> None:
    """As behind some proxies: what is needed is tried all the same."""
    front.rule = always("ERR unknown command 'HELLO', with args beginning with: ", "HELLO")
    async with runs.open(timeout=PATIENCE) as run:
        await new(run, KEYS[:1])


@in_loop
async def test_what_a_command_was_called_with_is_not_shown(front: Front, namespace: str) -> None:
    """A server that does not know AUTH repeats the password."""
    front.rule = always(
        "ERR unknown command 'AUTH', with args beginning with: 'spider' 'hunter2'", "AUTH"
    )
    url = front.url.replace("://", "://spider:hunter2@")
    async with ledger_at(url, namespace, "a-run") as ledger:
        with pytest.raises(LedgerRefusedError, match="AUTH") as caught:
            await ledger.open()
    assert "hunter2" not in str(caught.value)


# -- throttling ------------------------------------------------------------------------------------

TOO_MANY = "ERR Request throttled: ECPU limit exceeded"


def every(number: int, words: str = TOO_MANY) -> Rule:
    """Of the scripts each so-manieth is run, the others are turned away."""
    count = 0

    def rule(asked: Command) -> str | None:
        nonlocal count
        if name_of(asked) not in SCRIPTS:
            return None
        count += 1
        return words if count % number else None

    return rule


@in_loop
async def test_throttling_is_no_outage_while_answers_come(
    runs: Runs, front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    """Work for many TIMEOUTs is done to its end; it is said once, with the cure, and counted."""
    timeout = 1
    async with runs.open(timeout=timeout) as run:
        front.rule = every(4)
        began = time.monotonic()
        claims = await new(run, KEYS)
        for claim in claims:
            claim.confirm()
        await run.flush()
        assert time.monotonic() - began > 2 * timeout
        # The answer to what the run asks beside its posts may still be on its way.
        await until(lambda: stat(run, Stats.THROTTLED) == front.refused.total() > 0)
        assert stat(run, Stats.OUTAGES) == 0
        assert stat(run, "dedup/items/confirmed") == len(KEYS)
        front.rule = lambda _: None
    lines = [text for text in caplog.messages if "throttled" in text]
    assert len(lines) == 1
    assert "ECPU limit exceeded" in lines[0]
    assert "Raise its limit" in lines[0]
    assert not [text for text in caplog.messages if BEGIN in text]


@in_loop
async def test_as_many_are_put_at_once_as_came_through(front: Front, namespace: str) -> None:
    """Where eight scripts are taken at once, not many more are put; in the end any number again.

    Otherwise most of what a fleet asks at a limit would be turned away.
    """
    left = 8

    def rule(asked: Command) -> str | None:
        nonlocal left
        if name_of(asked) not in SCRIPTS:
            left = 8  # a plain command between two attempts
            return None
        left -= 1
        return None if left >= 0 else TOO_MANY

    async with ledger_at(front.url, namespace, "a-run") as ledger:
        await ledger.seen_many(KEYS)
        calls = front.asked["EVALSHA"] - front.asked["EVAL"]
        front.rule = rule
        asking = asyncio.create_task(ledger.seen_many(KEYS))
        while not asking.done():
            await ledger.runs.write_heartbeat(1, 30)
        assert await asking == [False] * len(KEYS)
        assert front.refused["EVALSHA"] < 4 * calls
        front.rule = lambda _: None
        for _ in range(20):
            await ledger.seen_many(KEYS)
        assert ledger._client._throttle.limit is None
        assert not await ledger._client._throttle.wait()


@in_loop
async def test_nothing_but_throttling_is_an_outage(
    runs: Runs, front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    """Heartbeats that come through do not show that a post ever will; it ends when one does."""
    caplog.set_level(logging.INFO)
    async with runs.open(timeout=0.3, wait=0.1, lease=1) as run:
        front.rule = always(TOO_MANY, *SCRIPTS)
        claim = await run.claim(KEYS[0])
        (line,) = (text for text in caplog.messages if BEGIN in text)
        assert "throttled every request" in line
        assert "raise its limit" in line
        claim.confirm()
        front.rule = lambda _: None
        await until(lambda: any(END in text for text in caplog.messages))
        assert await run.claim(KEYS[0]) is Verdict.SEEN


@in_loop
async def test_heartbeats_go_ahead_of_what_is_throttled(front: Front, namespace: str) -> None:
    """While scripts wait for their turn, a plain command is asked at once, and again soon."""
    async with ledger_at(front.url, namespace, "a-run") as ledger:
        ledger._client._throttle.hold(10 * PATIENCE)
        asking = asyncio.create_task(ledger.claim_many(KEYS))
        front.rule = by_chance(0.8, TOO_MANY, ("SET",))
        for number in range(5):
            await ledger.runs.write_heartbeat(number, 30)
        assert front.refused["SET"] > 0
        assert front.asked["EVALSHA"] == 0
        asking.cancel()


@pytest.mark.parametrize(
    "words",
    [
        "ERR Request rate limit exceeded",
        "ERR max requests limit exceeded",
        "THROTTLED try again later",
        "ERR Throttling: Rate exceeded",
        "TOOMANY Too Many Requests",
    ],
)
@in_loop
async def test_words_of_throttling(front: Front, namespace: str, words: str) -> None:
    """However a service says it: what it turns away is asked again, beyond the deadline."""
    said: list[tuple[int, str]] = []
    server = Client(
        front.url, "it", {}, timeout=PATIENCE, on_throttled=lambda *told: said.append(told)
    )
    front.rule = by_chance(0.5, words, ("GET",))
    for _ in range(10):
        assert await server.ask(command("GET", namespace)) == [None]
    await server.close()
    assert len(said) == front.refused["GET"] > 0


@in_loop
async def test_a_namespace_may_have_any_name(front: Front) -> None:
    """What an error repeats of our own question means nothing."""
    front.rule = always("ERR unknown command 'MGET', with args beginning with: 'throttl'", "MGET")
    async with ledger_at(front.url, "throttling", "a-run") as ledger:
        with pytest.raises(LedgerRefusedError):
            await ledger.open()


@in_loop
async def test_a_host_may_have_any_name() -> None:
    """One that cannot be reached has turned nothing away, whatever it is called."""
    said: list[object] = []
    server = Client(
        f"valkey://throttle.localhost:{free_port()}",
        "it",
        {},
        timeout=0.3,
        on_throttled=lambda *told: said.append(told),
    )
    with pytest.raises(LedgerUnavailableError, match="gave no answer"):
        await server.ask(command("GET", "vd1:x"))
    assert said == []
    await server.close()


@in_loop
async def test_odd_errors_have_a_type_of_their_own(front: Front, namespace: str) -> None:
    """The caller can tell them from silence."""
    front.rule = always(ODD, "EVALSHA")
    async with ledger_at(front.url, namespace, "a-run", timeout=0.2) as ledger:
        with pytest.raises(UnknownReplyError, match="internal error"):
            await ledger.claim_many(KEYS)
