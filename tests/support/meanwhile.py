"""What must hold of runs while a server is in some state: those that come, and those under way."""

from __future__ import annotations

import asyncio
import re
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import LedgerUnavailableError, Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.session import Session
from tests.support.ledgers import ledger_at
from tests.support.patience import PATIENCE, now, until
from tests.support.runs import new_session

TIMEOUT = 1.0
SLACK = PATIENCE / 10  # seconds for what takes none
NO_ANSWER = "no answer within"
AWAY, BACK = "posts are stored unchecked", "Valkey answers again"
KEYS = [bytes([number]) * 16 for number in range(250)]

a_run = partial(ledger_at, namespace="states", timeout=TIMEOUT)
"""A ledger as a new run sees it."""


def session_at(url: str, directory: Path, **changes: Any) -> Session:
    """A run's session, not open yet."""
    settings = {
        "VALKEY_DEDUP_URL": url,
        "VALKEY_DEDUP_NAMESPACE": "states",
        "VALKEY_DEDUP_TIMEOUT": TIMEOUT,
        "VALKEY_DEDUP_DATA_DIR": str(directory),
        **changes,
    }
    return new_session(settings)


async def assert_unavailable_while(
    state: AbstractContextManager[object], url: str, words: str
) -> None:
    """A run that comes meanwhile is told in time what it is; when it is over it is welcome."""
    async with a_run(url) as ledger:
        with state:
            message = await refusal(ledger)
            for _ in range(100):
                if re.search(words, message) or NO_ANSWER not in message:
                    break
                message = await refusal(ledger)  # a starved server was too slow to say it
            assert re.search(words, message)
            assert "valkey://place" in message
        await ledger.open()
        assert await ledger.seen_many(KEYS[:1]) == [False]


async def refusal(ledger: Ledger) -> str:
    """What a run is told that does not get in; in time."""
    began = now()
    with pytest.raises(LedgerUnavailableError) as caught:
        await ledger.open()
    assert now() - began < TIMEOUT + SLACK
    return str(caught.value)


async def assert_an_outage_while(
    state: AbstractContextManager[object],
    url: str,
    words: str,
    directory: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run that is under way goes on unchecked, says so once, and makes up for it by itself."""
    session = session_at(url, directory)
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
    async with a_run(url, timeout=5) as ledger:
        assert all(await ledger.seen_many(KEYS[1:]))


async def claimed(session: Session, keys: list[bytes]) -> list[Claim]:
    """The claims on posts that are new, or not known to be old; those known are left out."""
    found = await asyncio.gather(*map(session.claim, keys))
    assert all(isinstance(claim, Claim) or claim is Verdict.SEEN for claim in found)
    return [claim for claim in found if isinstance(claim, Claim)]
