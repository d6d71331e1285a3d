"""Exchanges that begin together are one, and none waits for what another has given up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from scrapy_valkey_dedup.valkey.connections import Outcome
from scrapy_valkey_dedup.valkey.merging import MergedExchanges
from scrapy_valkey_dedup.valkey.resp import Question
from tests.support.patience import PATIENCE


def test_who_comes_after_the_last_one_has_left_is_answered() -> None:
    """An exchange whose only caller is being cancelled takes no more callers."""

    async def exchange(questions: Sequence[Question]) -> list[Outcome]:
        return [[question.key] for question in questions]

    async def main() -> Sequence[Outcome]:
        merged = MergedExchanges(exchange)
        first = asyncio.ensure_future(merged([Question("first", ())]))
        await asyncio.sleep(0)
        first.cancel()
        late = asyncio.ensure_future(merged([Question("second", ())]))
        return await asyncio.wait_for(late, PATIENCE)

    assert asyncio.run(main()) == [["second"]]
