"""`scrapy dedup import`: fills the ledger with posts that are already stored."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import connect
from scrapy_valkey_dedup.commands.shared.imports.from_plugins import import_pages
from scrapy_valkey_dedup.commands.shared.imports.importing import Import
from scrapy_valkey_dedup.commands.shared.imports.plugins import (
    PLUGINS,
)
from scrapy_valkey_dedup.commands.shared.imports.progress_file import ProgressFile
from scrapy_valkey_dedup.commands.shared.imports.result import show_import
from scrapy_valkey_dedup.commands.shared.records.identification import (
    RecordIdentifier,
    item_builder,
)
from scrapy_valkey_dedup.commands.shared.records.identification import (
    add_options as add_post_options,
)
from scrapy_valkey_dedup.commands.shared.records.source_check import check_source
from scrapy_valkey_dedup.commands.shared.records.sources import source_for
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND, CommandError
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Key

SUMMARY = "Remember posts that are stored already, so that no spider stores them again"
EXAMPLE = """examples:
  scrapy dedup import --spider forum --item forum.items.Post posts.jsonl.gz
  scrapy dedup import --item forum.items.Post archive.db --query 'SELECT site, post_id FROM posts'
  scrapy dedup import --item forum.items.Post postgresql://localhost/forum --query 'SELECT ...'
  scrapy dedup import --dry-run --item forum.items.Post posts.csv --rename id=post_id

  scrapy dedup import --from deltafetch .scrapy/deltafetch
  scrapy dedup import --from scrapy-redis redis://localhost forum:dupefilter --spider forum
  scrapy dedup import --from scrapy-jobdir crawls/forum-1 --spider forum

exit code: 0, or 1 if records were skipped, 2 if there is no ledger"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `import`."""
    parser.add_argument(
        "source",
        nargs="+",
        help="a file, - for standard input, or the URL of a database; with --from: DIR, or for "
        "scrapy-redis URL KEY",
    )
    parser.add_argument(
        "--from", dest="plugin", choices=PLUGINS, help="import pages that another plugin remembers"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="count known and new posts; remember nothing"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first record that is not a post"
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start from the beginning, even if an earlier import was interrupted",
    )
    add_post_options(parser)


async def run(job: Job) -> int:
    """Imports posts from a source, or pages that another plugin remembers."""
    options = job.options
    if options.plugin:
        return await import_pages(job, options.plugin, options.source)
    if len(options.source) > 1:
        raise CommandError(f"one source at a time: {options.source[1]!r} is another")
    origin = source_for(options.source[0], form=options.format, query=options.query)
    identifier = RecordIdentifier(job.project, item_builder(options))
    if options.dry_run:
        return await check_source(job, identifier, origin)
    settings, screen = job.project.settings, job.screen
    async with connect(settings, create=True) as connection:
        ledger = connection.ledger()
        await ledger.open()
        await ledger.probe.check_partitions()
        task = Import(ledger, identifier, origin, strict=options.strict, screen=screen)
        if origin.can_resume:
            first = _first_keys(task)
            task.progress_file = _progress_file(settings.data_dir, ledger, task, first)
            # What was imported may have been forgotten since then, or have expired.
            is_there = all(await ledger.seen_many(first))
            task.resume(restart=options.restart or not is_there)
        with screen.progress(f"import {origin.name}", origin.total, origin.unit) as advance:
            progress = await task.run(advance)
    show_import(job, connection.name, progress, origin.name, identifier.rule)
    return FOUND if progress.bad.total or progress.unkeyed.total else FINE


def _first_keys(task: Import) -> list[Key]:
    """The keys of the first block."""
    with closing(task.origin.blocks()) as blocks:
        first = next(blocks, None)
    return task.identifier.identify_block(first).keys if first is not None else []


def _progress_file(
    folder: Path, ledger: Ledger, task: Import, first: Sequence[Key]
) -> ProgressFile:
    """The progress file of this import; its name depends on the ledger, the file and its keys."""
    path = Path(task.origin.name).resolve()
    status = path.stat()
    digest = blake2b(b"".join(first), digest_size=16).hexdigest()
    at = (str(path), status.st_size, status.st_mtime_ns)
    return ProgressFile(folder / "import", ledger.identity, *at, digest)
