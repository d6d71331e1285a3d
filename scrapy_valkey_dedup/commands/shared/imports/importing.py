"""Imports a source block by block, and resumes an import that was interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from scrapy_valkey_dedup.commands.shared.imports.plugins import PageIdentifier
from scrapy_valkey_dedup.commands.shared.imports.progress_file import ImportProgress, ProgressFile
from scrapy_valkey_dedup.commands.shared.records.identification import (
    IdentifiedBlock,
    RecordIdentifier,
)
from scrapy_valkey_dedup.commands.shared.records.sources import Block, Source
from scrapy_valkey_dedup.commands.shared.screen import Advance, Screen
from scrapy_valkey_dedup.commands.shared.usage import FOUND, CommandError
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError, Key, LedgerUnavailableError
from scrapy_valkey_dedup.tasks import retrieve

PATIENCE = 60.0
"""Seconds for which requests are repeated while the server does not answer."""
_PAUSE = 1.0
"""Seconds between two attempts."""


@dataclass
class Import:
    """One import of a source into a ledger."""

    ledger: Ledger
    identifier: RecordIdentifier | PageIdentifier
    origin: Source
    strict: bool = False
    screen: Screen | None = None
    progress_file: ProgressFile | None = None

    def __post_init__(self) -> None:
        self.progress = ImportProgress()
        self._has_looked = False

    def resume(self, *, restart: bool = False) -> None:
        """Continues an earlier import of the same file, if that was interrupted."""
        assert self.progress_file is not None  # noqa: S101 (the caller has set it)
        found = None if restart else self.progress_file.read()
        if found is not None:
            self.progress = found
            self._say(f"{self.origin.name}: resumes after record {found.records:,}")

    async def run(self, advance: Advance = lambda _: None) -> ImportProgress:
        """Imports the rest of the source.

        While the server stores one block, the next one is read, so both have work.

        Raises:
            CommandError: the source cannot be read any further, or, if ``strict``, a record is not
                a post. All records before it are imported.
            LedgerUnavailableError: the server did not answer for ``PATIENCE`` seconds.

        """
        progress = self.progress
        if progress.position and self.origin.total:
            advance(progress.position)
        under_way: asyncio.Task[None] | None = None
        try:
            for block in self.origin.blocks(progress.position, progress.number):
                made = self.identifier.identify_block(block)
                self._check(made)
                if under_way is not None:
                    await asyncio.shield(under_way)
                under_way = asyncio.create_task(self.remember(block, made, advance))
                under_way.add_done_callback(retrieve)
                await asyncio.sleep(0)  # lets the task send its first request
            if under_way is not None:
                await asyncio.shield(under_way)
        except BaseException as error:
            if under_way is not None:
                await asyncio.wait([under_way])
            if self.progress_file is not None and progress.position:
                self.progress_file.save(progress)
            if isinstance(error, DedupError) and progress.remembered:
                error.args = (f"{error}; {progress.remembered:,} posts before that are imported",)
            raise
        if self.progress_file is not None:
            self.progress_file.remove()
        return progress

    def _check(self, made: IdentifiedBlock) -> None:
        # The block before this one may still be on its way: ``progress`` does not know of it.
        if not self.progress.records and not self._has_looked:
            made.check_usable(self.origin.name)
        self._has_looked = True
        skipped = (made.bad, made.unkeyed)
        wrong = [(line, reason) for each in skipped for reason, line in each.first.items()]
        if self.strict and wrong:
            line, reason = min(wrong)
            said = f"{self.origin.name}, line {line}: {reason} (--strict)"
            raise CommandError(said, code=FOUND)

    async def remember(self, block: Block, made: IdentifiedBlock, advance: Advance) -> None:
        """Stores the keys of one block in the ledger, and saves the progress."""
        if made.keys:
            await self._confirm(made.keys)
        progress = self.progress
        progress.position, progress.number = block.end, _number_after(block)
        progress.records += made.records
        progress.remembered += len(made.keys)
        progress.bad.join(made.bad)
        progress.unkeyed.join(made.unkeyed)
        if self.progress_file is not None:
            self.progress_file.save_if_due(progress)
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


def _number_after(block: Block) -> int:
    """The line after a block; for records that are not lines, the block's own number."""
    content = block.content
    return block.number + content.count(b"\n") if isinstance(content, bytes) else block.number
