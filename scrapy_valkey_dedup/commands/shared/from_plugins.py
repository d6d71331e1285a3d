"""Imports of import pages that another plugin remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.counts import show_import
from scrapy_valkey_dedup.commands.shared.importing import Import
from scrapy_valkey_dedup.commands.shared.place import Place, opened
from scrapy_valkey_dedup.commands.shared.plugins import (
    Fingerprints,
    PageKeyer,
    deltafetch,
    deltafetch_keys,
    jobdir,
    jobdir_fingerprints,
    scrapy_redis,
)
from scrapy_valkey_dedup.commands.shared.progress_file import Reached
from scrapy_valkey_dedup.commands.shared.project import project_of
from scrapy_valkey_dedup.commands.shared.sources import Block
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
    """Pages that another plugin has noted are not fetched any more."""
    if job.options.dry_run:
        raise CommandError("--dry-run is for posts; import pages into a --namespace of their own")
    takes = "URL KEY" if plugin == "scrapy-redis" else "DIR"
    if len(where) != len(takes.split()):
        raise CommandError(f"--from {plugin} takes {takes}")
    job.screen.note(_WHAT_IT_KNOWS[plugin])
    if plugin == "deltafetch":
        return await _from_deltafetch(job, Path(where[0]))
    keyer = PageKeyer(job.project)
    async with opened(job.project.settings, create=True) as place:
        await place.ledger().open()
        if plugin == "scrapy-jobdir":
            path = jobdir(Path(where[0]))
            origin = Fingerprints(str(path), jobdir_fingerprints(path))
            reached = await _from_fingerprints(job, place, keyer, origin)
        else:
            reached = await _from_set(job, place, keyer, where)
    show_import(job, place.name, reached, " ".join([plugin, redacted(where[0]), *where[1:]]))
    return FOUND if reached.bad.total else FINE


async def _from_fingerprints(
    job: Job, place: Place, keyer: PageKeyer, origin: Fingerprints
) -> Reached:
    task = Import(await _pages_of(place), keyer, origin, job.options.strict, job.screen)
    with job.screen.progress(f"import {origin.name}", None, origin.unit) as advance:
        return await task.carry_out(advance)


async def _from_set(job: Job, place: Place, keyer: PageKeyer, where: Sequence[str]) -> Reached:
    url, key = where
    origin = Fingerprints(key, ())
    task = Import(await _pages_of(place), keyer, origin, job.options.strict, job.screen)
    with job.screen.progress(f"import {key}", None, origin.unit) as advance:
        async for some in scrapy_redis(place.settings, url, key):
            number = task.reached.records + 1
            content = list(enumerate(some, number))
            block = Block(number, number + len(some), len(some), content)
            await task.remember(block, keyer.keyed(block), advance)
    return task.reached


async def _from_deltafetch(job: Job, folder: Path) -> int:
    """A database for each spider; only that of ``--spider``, if it is given."""
    found, code, name = deltafetch(folder), FINE, job.options.spider
    if name is not None and name not in found:
        raise CommandError(f"{folder} has no {name}.db; {suggestion(name, found)}")
    results = []
    for spider in [name] if name is not None else sorted(found):
        project = project_of(job.settings, spider)
        keyer = PageKeyer(project, knows_own_keys=True)
        origin = Fingerprints(str(found[spider]), deltafetch_keys(found[spider]))
        async with opened(project.settings, create=True) as place:
            await place.ledger().open()
            reached = await _from_fingerprints(job, place, keyer, origin)
        results.append((spider, reached))
        code = FOUND if reached.bad.total else code
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


async def _pages_of(place: Place) -> Ledger:
    pages = place.ledger("pages")
    await pages.probe.check_permissions()
    await pages.probe.check_partitions()
    return pages
