"""Whose clock it is: the server's, asked for in a way that is allowed inside scripts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest
import valkey as valkey_py

from bench.servers import ValkeyServer
from bench.shared import key
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, split_key
from scrapy_valkey_dedup.model import Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.session import Session
from tests.ledger.test_ledger import OpenLedger
from tests.support.patience import in_loop
from tests.support.runs import new_session

LUA = files("scrapy_valkey_dedup.ledger") / "lua"
CLOCK = "".join((LUA / f"{part}.lua").read_text("utf-8") for part in ("layout", "clock"))
DAY, YEAR = 86400, 365 * 86400
POSTS = [key(number) for number in range(300)]


@pytest.fixture
def raw(valkey: ValkeyServer) -> Iterator[valkey_py.Valkey]:
    """A plain client."""
    with valkey_py.Valkey.from_url(valkey.url) as made:
        yield made


def servers_clock(raw: valkey_py.Valkey) -> int:
    """TIME, in ms."""
    seconds, microseconds = raw.time()
    return seconds * 1000 + microseconds // 1000


def ends(raw: valkey_py.Valkey, namespace: str) -> dict[str, int]:
    """All keys of the ledger, and when they end."""
    names = sorted(map(bytes.decode, raw.scan_iter(f"vd1:{{{namespace}*", count=10_000)))
    return {name: raw.pexpiretime(name) for name in names}


@pytest.mark.parametrize("retentions", [[], [DAY], [None], [None, DAY], [DAY, None], [DAY, 7]])
@in_loop
async def test_a_script_knows_the_servers_clock(
    open_ledger: OpenLedger, raw: valkey_py.Valkey, namespace: str, retentions: list[float | None]
) -> None:
    """What a script takes for the time is what TIME says, whatever is listed; it leaves nothing."""
    for retention in retentions:
        async with open_ledger(retention=retention) as ledger:
            await ledger.confirm_many(POSTS[:1])
    place = f"vd1:{{{namespace}:{PARTITION_TAGS[split_key(POSTS[0])[0]]}}}"
    before = ends(raw, namespace)
    for _ in range(50):
        earliest = servers_clock(raw)
        found = raw.eval(f"{CLOCK}\nreturn milliseconds(call('GET', base) or '')", 1, place)
        assert earliest <= found <= servers_clock(raw)
    assert ends(raw, namespace) == before
    assert len(before) == (2 + len(retentions) - 1 if retentions else 0)


def session_at(url: str, namespace: str, directory: Path, **more: object) -> Session:
    """A run's session."""
    settings = {
        "VALKEY_DEDUP_URL": url,
        "VALKEY_DEDUP_NAMESPACE": namespace,
        "VALKEY_DEDUP_DATA_DIR": str(directory),
        **more,
    }
    return new_session(settings)


@contextmanager
def clock_off_by(years: int) -> Iterator[None]:
    """Makes this process believe that it is another year."""
    honest = time.time
    with pytest.MonkeyPatch.context() as patch:
        for place in (
            "time.time",
            "scrapy_valkey_dedup.valkey.client.time",
            "scrapy_valkey_dedup.session.heartbeat.time",
        ):
            patch.setattr(place, lambda: honest() + years * YEAR)
        yield


async def run_once(session: Session) -> list[int]:
    """A run stores two hundred posts, unless they are known; returns the known ones."""
    known = []
    await session.open()
    for number, post in enumerate(POSTS[:200]):
        outcome = await session.claim(post)
        if isinstance(outcome, Claim):
            outcome.confirm()
        elif outcome is Verdict.SEEN:
            known.append(number)
        else:  # recorded at once
            assert outcome is Verdict.NEW
    await session.close()
    return known


@pytest.mark.parametrize("years", [-50, -1, 1, 70])
@pytest.mark.parametrize("confirm", ["scraped", "claimed"])
@pytest.mark.parametrize("retention", [DAY, None])
@in_loop
async def test_a_client_whose_clock_is_wrong_does_no_harm(  # noqa: PLR0913 (fixtures)
    valkey: ValkeyServer,
    open_ledger: OpenLedger,
    raw: valkey_py.Valkey,
    namespace: str,
    tmp_path: Path,
    *,
    years: int,
    confirm: str,
    retention: float | None,
) -> None:
    """It sees what others stored, they see what it stores, and all of it ends when it should."""
    for kept in (DAY, None, 3 * DAY):
        async with open_ledger(retention=kept) as ledger:
            await ledger.confirm_many(POSTS[:100])
    before, begin = ends(raw, namespace), servers_clock(raw)
    settings = {"VALKEY_DEDUP_RETENTION": retention, "VALKEY_DEDUP_CONFIRM": confirm}
    with clock_off_by(years):
        known = await run_once(session_at(valkey.url, namespace, tmp_path, **settings))
    assert known == list(range(100))
    # Replies, what runs say of themselves, and what a start has tried in a slot of its own.
    apart = re.compile(r"\}:(r|info|history):|:[\w-]{9}\}:")
    after = {name: at for name, at in ends(raw, namespace).items() if not apart.search(name)}
    assert {name: after[name] for name in before} == before
    for name in (
        after.keys() - before.keys() - {f"vd1:{{{namespace}}}:{it}" for it in ("id", "layout")}
    ):
        lasts = after[name] - begin
        assert after[name] == -1 if retention is None else DAY <= lasts / 1000 <= 1.6 * DAY
    async with open_ledger(retention=3 * DAY) as ledger:
        assert await ledger.seen_many(POSTS) == [number < 200 for number in range(len(POSTS))]
        assert await ledger.forget_many(POSTS) == 200
        assert await ledger.seen_many(POSTS) == [False] * len(POSTS)
