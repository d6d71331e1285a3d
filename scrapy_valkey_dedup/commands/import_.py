"""`scrapy dedup import`: fills the ledger from posts that are stored already."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Any

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.check import check_source, show_counts
from scrapy_valkey_dedup.commands.shared.keyed import Keyed, Keyer, maker_of
from scrapy_valkey_dedup.commands.shared.keyed import add_options as add_post_options
from scrapy_valkey_dedup.commands.shared.place import opened
from scrapy_valkey_dedup.commands.shared.progress_file import ProgressFile, Reached
from scrapy_valkey_dedup.commands.shared.screen import Advance, Screen
from scrapy_valkey_dedup.commands.shared.sources import Block, Source, source
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND, CommandError
from scrapy_valkey_dedup.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError, Key, LedgerUnavailableError

SUMMARY = "Remember posts that are stored already, so that no spider stores them again"
EXAMPLE = """examples:
  scrapy dedup import --spider forum --item forum.items.Post posts.jsonl.gz
  scrapy dedup import --item forum.items.Post archive.db --query 'SELECT site, post_id FROM posts'
  scrapy dedup import --item forum.items.Post postgresql://localhost/forum --query 'SELECT ...'
  scrapy dedup import --dry-run --item forum.items.Post posts.csv --rename id=post_id

exit code: 0, or 1 if records were skipped, 2 if there is no ledger"""

PATIENCE = 60.0
"""Seconds for which a server that does not answer is asked again."""
_PAUSE = 1.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("source", help="a file, - for standard input, or the URL of a database")
    parser.add_argument(
        "--dry-run", action="store_true", help="count what is known and new; remember nothing"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first record that is no post"
    )
    parser.add_argument(
        "--restart", action="store_true", help="from the beginning, however far an earlier one came"
    )
    add_post_options(parser)


async def run(job: Job) -> int:
    """Imports what the operator names."""
    options = job.options
    origin = source(options.source, form=options.format, query=options.query)
    keyer = Keyer(job.project, maker_of(options))
    if options.dry_run:
        return await check_source(job, keyer, origin)
    settings, screen = job.project.settings, job.screen
    async with opened(settings, create=True) as place:
        ledger = place.ledger()
        await ledger.open()
        await ledger.try_partitions()
        task = Import(ledger, keyer, origin, strict=options.strict, screen=screen)
        if origin.can_resume:
            task.progress = _progress_file(settings.data_dir, ledger, task)
            task.resume(restart=options.restart)
        with screen.progress(f"import {origin.name}", origin.total, origin.unit) as advance:
            reached = await task.carry_out(advance)
    _show(job, place.name, reached, origin)
    return FOUND if reached.bad.total or reached.unkeyed.total else FINE


def _progress_file(folder: Path, ledger: Ledger, task: Import) -> ProgressFile:
    """Another ledger, another content, other rules of identity: another import."""
    path = Path(task.origin.name).resolve()
    status = path.stat()
    with closing(task.origin.blocks()) as blocks:
        first = next(blocks, None)
    keys = task.keyer.keyed(first).keys if first is not None else []
    digest = blake2b(b"".join(keys), digest_size=16).hexdigest()
    at = (str(path), status.st_size, status.st_mtime_ns)
    return ProgressFile(folder / "import", ledger.identity, *at, digest)


@dataclass
class Import:
    """One import, from where an earlier one was interrupted."""

    ledger: Ledger
    keyer: Keyer
    origin: Source
    strict: bool = False
    screen: Screen | None = None
    progress: ProgressFile | None = None

    def __post_init__(self) -> None:
        self._reached = Reached()

    def resume(self, *, restart: bool = False) -> None:
        """Goes on where an earlier import of the same file ended, if one did before its end."""
        assert self.progress is not None  # noqa: S101 (the caller has set it)
        found = None if restart else self.progress.read()
        if found is not None:
            self._reached = found
            self._say(f"{self.origin.name}: goes on from record {found.records:,} of before")

    async def carry_out(self, advance: Advance = lambda _: None) -> Reached:
        """Imports to the end.

        While the server remembers one block, the next is read: so both cores have work.

        Raises:
            CommandError: the source cannot be read any further, or, if ``strict``, a record is no
                post. What stands before is imported.
            LedgerUnavailableError: there is an outage, for longer than ``PATIENCE``.

        """
        reached = self._reached
        if reached.position and self.origin.total:
            advance(reached.position)
        under_way: asyncio.Task[None] | None = None
        try:
            for block in self.origin.blocks(reached.position, reached.number):
                made = self.keyer.keyed(block)
                self._look_at(made)
                if under_way is not None:
                    await under_way
                under_way = asyncio.create_task(self._remember(block, made, advance))
                await asyncio.sleep(0)  # it is sent now
            if under_way is not None:
                await under_way
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
        if not self._reached.records:
            made.refuse_none(self.origin.name)
        faults = (made.bad, made.unkeyed)
        wrong = [(line, reason) for each in faults for reason, line in each.first.items()]
        if self.strict and wrong:
            line, reason = min(wrong)
            said = f"{self.origin.name}, line {line}: {reason} (--strict)"
            raise CommandError(said, code=FOUND)

    async def _remember(self, block: Block, made: Keyed, advance: Advance) -> None:
        if made.keys:
            await self._confirm(made.keys)
        reached = self._reached
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


def _show(job: Job, place: str, reached: Reached, origin: Source) -> None:
    screen, namespace = job.screen, job.project.settings.namespace
    screen.facts([("ledger", place), ("namespace", namespace)])
    counts = [("records", reached.records), ("remembered", reached.remembered)]
    show_counts(screen, counts, reached.bad, reached.unkeyed)
    for name, faults in (("bad", reached.bad), ("without identity", reached.unkeyed)):
        if faults.total > len(faults.first):
            lines = ", ".join(map(str, faults.lines))
            more = ", ..." if faults.total > len(faults.lines) else ""
            screen.line(f"{name}: lines {lines}{more}")
    found: dict[str, Any] = {
        "ledger": place,
        "namespace": namespace,
        "source": origin.name,
        "records": reached.records,
        "remembered": reached.remembered,
        "bad": reached.bad.listed(),
        "without_identity": reached.unkeyed.listed(),
        "lines": sorted({*reached.bad.lines, *reached.unkeyed.lines}),
    }
    screen.result(found)
