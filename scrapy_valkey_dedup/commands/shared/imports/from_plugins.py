"""Imports the pages that another plugin remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import LedgerConnection, connect
from scrapy_valkey_dedup.commands.shared.imports.importing import Import
from scrapy_valkey_dedup.commands.shared.imports.plugins import (
    Fingerprints,
    PageIdentifier,
    deltafetch,
    deltafetch_keys,
    jobdir,
    jobdir_fingerprints,
    scrapy_redis,
)
from scrapy_valkey_dedup.commands.shared.imports.progress_file import ImportProgress
from scrapy_valkey_dedup.commands.shared.imports.result import show_import
from scrapy_valkey_dedup.commands.shared.project import project_of
from scrapy_valkey_dedup.commands.shared.records.sources import Block
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND, CommandError, suggestion
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.urls import redacted

_WHAT_IT_KNOWS = {
    "deltafetch": "scrapy-deltafetch remembers a page when its callback yields an item, whether or "
    "not the item was stored",
    "scrapy-redis": "scrapy-redis remembers a page when its request enters the queue: pages that "
    "were still in the queue are remembered, too, and will not be fetched",
    "scrapy-jobdir": "Scrapy remembers a page when its request enters the queue: pages that were "
    "still in the queue are remembered, too, and will not be fetched",
}


async def import_pages(job: Job, plugin: str, where: Sequence[str]) -> int:
    """Imports the pages of another plugin, so that they are not fetched again."""
    if job.options.dry_run:
        raise CommandError("--dry-run is for posts; import pages into a --namespace of their own")
    takes = "URL KEY" if plugin == "scrapy-redis" else "DIR"
    if len(where) != len(takes.split()):
        raise CommandError(f"--from {plugin} takes {takes}")
    job.screen.note(_WHAT_IT_KNOWS[plugin])
    if plugin == "deltafetch":
        return await _from_deltafetch(job, Path(where[0]))
    identifier = PageIdentifier(job.project)
    async with connect(job.project.settings, create=True) as connection:
        await connection.ledger().open()
        if plugin == "scrapy-jobdir":
            path = jobdir(Path(where[0]))
            origin = Fingerprints(str(path), jobdir_fingerprints(path))
            progress = await _from_fingerprints(job, connection, identifier, origin)
        else:
            progress = await _from_set(job, connection, identifier, where)
    show_import(job, connection.name, progress, " ".join([plugin, redacted(where[0]), *where[1:]]))
    return FOUND if progress.bad.total else FINE


async def _from_fingerprints(
    job: Job, connection: LedgerConnection, identifier: PageIdentifier, origin: Fingerprints
) -> ImportProgress:
    task = Import(await _pages_of(connection), identifier, origin, job.options.strict, job.screen)
    with job.screen.progress(f"import {origin.name}", None, origin.unit) as advance:
        return await task.run(advance)


async def _from_set(
    job: Job, connection: LedgerConnection, identifier: PageIdentifier, where: Sequence[str]
) -> ImportProgress:
    url, key = where
    origin = Fingerprints(key, ())
    task = Import(await _pages_of(connection), identifier, origin, job.options.strict, job.screen)
    with job.screen.progress(f"import {key}", None, origin.unit) as advance:
        async for some in scrapy_redis(connection.settings, url, key):
            number = task.progress.records + 1
            content = list(enumerate(some, number))
            block = Block(number, number + len(some), len(some), content)
            await task.remember(block, identifier.identify_block(block), advance)
    return task.progress


async def _from_deltafetch(job: Job, folder: Path) -> int:
    """Imports each spider's database; with ``--spider``, only the one of that spider."""
    found, code, name = deltafetch(folder), FINE, job.options.spider
    if name is not None and name not in found:
        raise CommandError(f"{folder} has no {name}.db; {suggestion(name, found)}")
    results = []
    for spider in [name] if name is not None else sorted(found):
        project = project_of(job.settings, spider)
        identifier = PageIdentifier(project, knows_own_keys=True)
        origin = Fingerprints(str(found[spider]), deltafetch_keys(found[spider]))
        async with connect(project.settings, create=True) as connection:
            await connection.ledger().open()
            progress = await _from_fingerprints(job, connection, identifier, origin)
        results.append((spider, progress))
        code = FOUND if progress.bad.total else code
    job.screen.table(
        ("spider", "noted", "remembered"),
        [(spider, f"{each.records:,}", f"{each.remembered:,}") for spider, each in results],
    )
    job.screen.result(
        {
            spider: {"records": each.records, "remembered": each.remembered}
            for spider, each in results
        }
    )
    return code


async def _pages_of(connection: LedgerConnection) -> Ledger:
    pages = connection.ledger("pages")
    await pages.probe.check_permissions()
    await pages.probe.check_partitions()
    return pages
