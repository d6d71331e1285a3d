"""What rules expect: a value, a verdict for every post, a condition that soon holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

from scrapy_valkey_dedup.model import Answer, Verdict
from scrapy_valkey_dedup.selftest.findings import DiffersError

_PATIENCE = 10.0
"""Seconds after which a condition is given up."""
_PAUSE = 0.075
"""Seconds between two looks at a condition."""


def expect(found: Any, wanted: Any, what: str) -> None:
    """Raises :class:`DiffersError` if ``found`` is not ``wanted``; ``what`` names the operation."""
    if found != wanted:
        raise DiffersError(f"{what}: {found!r:.80} instead of {wanted!r:.80}")


def expect_all(answers: Sequence[Answer], verdict: Verdict, what: str) -> None:
    """Raises :class:`DiffersError` if the verdict of an answer is another one."""
    wrong = [answer.verdict.value for answer in answers if answer.verdict is not verdict]
    if wrong:
        expect(f"{len(wrong)} of {len(answers)} {wrong[0]}", f"all {verdict.value}", what)


async def expect_soon(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits for a condition; raises :class:`DiffersError` if it does not hold in time."""
    end = monotonic() + _PATIENCE
    while not await condition():
        if monotonic() > end:
            expect(f"not within {_PATIENCE:g} s", "soon", what)
        await asyncio.sleep(_PAUSE)
