"""A post on its way into the files of one or several feeds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from scrapy_valkey_dedup.session.claim import Claim

_AT_ONCE = 10_000


class Export:
    """It is stored when every one of its files is."""

    __slots__ = ("_claim", "_left", "_stored")

    def __init__(self, claim: Claim, files: int) -> None:
        self._claim = claim
        self._left = files
        self._stored = True

    def end(self, *, stored: bool) -> None:
        """One of its files is safe, or cannot be stored."""
        self._left -= 1
        self._stored &= stored
        if self._left > 0:
            return
        if self._stored:
            self._claim.confirm()
        else:
            self._claim.release()


async def end_all(exports: Iterable[Export], *, stored: bool) -> None:
    """Ends those of one file; lets others run now and then, as a long crawl has millions."""
    for number, export in enumerate(exports, 1):
        export.end(stored=stored)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
