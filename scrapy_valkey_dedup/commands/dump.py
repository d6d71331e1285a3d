"""`scrapy dedup dump`: all that a namespace remembers, in one file."""

from __future__ import annotations

import argparse

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.buckets import Walk
from scrapy_valkey_dedup.commands.shared.dumping import Dumped, dump
from scrapy_valkey_dedup.commands.shared.place import SHELVES, Place, opened
from scrapy_valkey_dedup.commands.shared.state import spooled
from scrapy_valkey_dedup.commands.shared.usage import FINE

SUMMARY = "Write all that a namespace remembers into a file, for another server or as a backup"
EXAMPLE = """examples:
  scrapy dedup dump posts.dump
  scrapy dedup dump --namespace trial trial.dump

Spiders may run: what is confirmed before the dump begins is in the file. Claims and heartbeats
are not: they belong to runs that are at work. `scrapy dedup load` reads the file.

exit code: 0, or 2 if there is no ledger or the file cannot be written; then none is left"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("file", help="where to; an earlier dump there is replaced at the end")


async def run(job: Job) -> int:
    """Dumps one namespace."""
    screen, options = job.screen, job.options
    async with opened(job.project.settings) as place:
        about = await _about(place)
        with screen.progress(f"dump {options.file}", about, "entries") as advance:
            found = await dump(place, options.file, advance, screen.note)
        for kind, number in spooled(place).items():
            screen.note(
                f"{number:,} {kind} that were stored in an outage wait on this machine's disk and "
                "are not in the file: the next run here delivers them to the ledger"
            )
    _show(job, place.name, found)
    return FINE


async def _about(place: Place) -> int:
    """How many entries there are, about."""
    walks = [Walk(place.server, place.settings.namespace, kind) for kind in SHELVES]
    return sum([(await walk.contents()).entries for walk in walks])


def _show(job: Job, place: str, found: Dumped) -> None:
    namespace = job.project.settings.namespace
    job.screen.facts(
        [
            ("ledger", place),
            ("namespace", namespace),
            ("file", f"{found.path}, {found.size:,} bytes"),
            *((kind, f"{found.entries[kind]:,}") for kind in SHELVES),
        ]
    )
    job.screen.result(
        {
            "ledger": place,
            "namespace": namespace,
            "file": str(found.path),
            "bytes": found.size,
            **found.entries,
        }
    )
