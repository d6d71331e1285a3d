"""One import: block by block, from where an earlier one was interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from scrapy_valkey_dedup.commands.shared.keyed import Keyed, Keyer
from scrapy_valkey_dedup.commands.shared.plugins import PageKeyer
from scrapy_valkey_dedup.commands.shared.progress_file import ProgressFile, Reached
from scrapy_valkey_dedup.commands.shared.screen import Advance, Screen
from scrapy_valkey_dedup.commands.shared.sources import Block, Source
from scrapy_valkey_dedup.commands.shared.usage import FOUND, CommandError
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError, Key, LedgerUnavailableError

PATIENCE = 60.0
"""Seconds for which a server that does not answer is asked again."""
_PAUSE = 1.0


@dataclass
class Import:
    """One import, from where an earlier one was interrupted."""

    ledger: Ledger
    keyer: Keyer | PageKeyer
    origin: Source
    strict: bool = False
    screen: Screen | None = None
    progress: ProgressFile | None = None

    def __post_init__(self) -> None:
        self.reached = Reached()
        self._has_looked = False

    def resume(self, *, restart: bool = False) -> None:
        """Goes on where an earlier import of the same file ended, if one did before its end."""
        assert self.progress is not None  # noqa: S101 (the caller has set it)
        found = None if restart else self.progress.read()
        if found is not None:
            self.reached = found
            self._say(f"{self.origin.name}: goes on from record {found.records:,} of before")

    async def carry_out(self, advance: Advance = lambda _: None) -> Reached:
        """Imports to the end.

        While the server remembers one block, the next is read: so both cores have work.

        Raises:
            CommandError: the source cannot be read any further, or, if ``strict``, a record is no
                post. What stands before is imported.
            LedgerUnavailableError: there is an outage, for longer than ``PATIENCE``.

        """
        reached = self.reached
        if reached.position and self.origin.total:
            advance(reached.position)
        under_way: asyncio.Task[None] | None = None
        try:
            for block in self.origin.blocks(reached.position, reached.number):
                made = self.keyer.keyed(block)
                self._look_at(made)
                if under_way is not None:
                    await asyncio.shield(under_way)
                under_way = asyncio.create_task(self.remember(block, made, advance))
                await asyncio.sleep(0)  # it is sent now
            if under_way is not None:
                await asyncio.shield(under_way)
        except BaseException as error:
            if under_way is not None:
                await asyncio.wait([under_way])
            if self.progress is not None and reached.position:
                self.progress.note_now(reached)
            if isinstance(error, DedupError) and reached.remembered:
                error.args = (f"{error}; {reached.remembered:,} posts before that are imported",)
            raise
        if self.progress is not None:
            self.progress.remove()
        return reached

    def _look_at(self, made: Keyed) -> None:
        # The block before this one may still be on its way: ``reached`` does not know of it.
        if not self.reached.records and not self._has_looked:
            made.refuse_none(self.origin.name)
        self._has_looked = True
        faults = (made.bad, made.unkeyed)
        wrong = [(line, reason) for each in faults for reason, line in each.first.items()]
        if self.strict and wrong:
            line, reason = min(wrong)
            said = f"{self.origin.name}, line {line}: {reason} (--strict)"
            raise CommandError(said, code=FOUND)

    async def remember(self, block: Block, made: Keyed, advance: Advance) -> None:
        """One block."""
        if made.keys:
            await self._confirm(made.keys)
        reached = self.reached
        reached.position, reached.number = block.end, _number_behind(block)
        reached.records += made.records
        reached.remembered += len(made.keys)
        reached.bad.join(made.bad)
        reached.unkeyed.join(made.unkeyed)
        if self.progress is not None:
            self.progress.note(reached)
        advance(block.size)

    async def _confirm(self, keys: Sequence[Key]) -> None:
        deadline, told = monotonic() + PATIENCE, False
        while True:
            try:
                return await self.ledger.confirm_many(keys)
            except LedgerUnavailableError as error:
                if monotonic() >= deadline:
                    raise
                if not told:
                    self._say(f"{error}; asking again for {PATIENCE:.0f} s")
                    told = True
            await asyncio.sleep(_PAUSE)

    def _say(self, text: str) -> None:
        if self.screen is not None:
            self.screen.note(text)


def _number_behind(block: Block) -> int:
    """The line behind a block, for those whose blocks are asked for by line."""
    content = block.content
    return block.number + content.count(b"\n") if isinstance(content, bytes) else block.number
