"""`scrapy dedup dump`: writes all that a namespace remembers into a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import SHELVES, LedgerConnection, connect
from scrapy_valkey_dedup.commands.shared.dumps.dumping import DumpResult, dump, namespaces
from scrapy_valkey_dedup.commands.shared.status.buckets import BucketSurvey
from scrapy_valkey_dedup.commands.shared.status.state import spooled
from scrapy_valkey_dedup.commands.shared.usage import FINE, CommandError
from scrapy_valkey_dedup.ledger.keys import namespace_tag

SUMMARY = "Write all that a namespace remembers into a file, for another server or as a backup"
EXAMPLE = """examples:
  scrapy dedup dump posts.dump
  scrapy dedup dump --namespace forum forum.dump
  scrapy dedup dump --all-namespaces backups/

Spiders may run: what is confirmed before the dump begins is in the file. Claims and heartbeats
are not: they belong to live runs. `scrapy dedup load` reads the file.

exit code: 0, or 2 if there is no ledger or the file cannot be written; then none is left"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `dump`."""
    parser.add_argument(
        "file", help="the file to write; an earlier dump with this name is replaced at the end"
    )
    parser.add_argument(
        "--all-namespaces",
        action="store_true",
        help="every namespace of the server, each into a file in the folder FILE",
    )


async def run(job: Job) -> int:
    """Dumps one namespace, or all namespaces of the server."""
    options = job.options
    async with connect(job.project.settings) as connection:
        if options.all_namespaces:
            return await _dump_all(job, connection, Path(options.file))
        found = await _dump(
            job, connection, Path(options.file), namespace_tag(connection.settings.namespace)
        )
        for kind, number in spooled(connection).items():
            job.screen.note(
                f"{number:,} {kind} that were stored in an outage wait on this machine's disk and "
                "are not in the file: the next run here delivers them to the ledger"
            )
    _show(job, connection.name, found)
    return FINE


async def _dump_all(job: Job, connection: LedgerConnection, folder: Path) -> int:
    listed = await namespaces(connection)
    _make(folder)
    found = [await _dump(job, connection, folder / f"{name}.dump", name) for name in listed]
    rows = [[each.header.tag, str(each.path), f"{each.size:,}", *_counts(each)] for each in found]
    job.screen.facts([("ledger", connection.name)])
    job.screen.table(["namespace", "file", "bytes", *SHELVES], rows)
    job.screen.result({"ledger": connection.name, "dumps": [_as_json(each) for each in found]})
    return FINE


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder} cannot be a folder: {error.strerror}") from error


async def _dump(job: Job, connection: LedgerConnection, path: Path, name: str) -> DumpResult:
    total = await _estimated_entries(connection, name)
    with job.screen.progress(f"dump {path}", total, "entries") as advance:
        return await dump(connection, path, advance, job.screen.note, named=name)


async def _estimated_entries(connection: LedgerConnection, name: str) -> int | None:
    """An estimate of the number of entries; None if only a digest of the namespace is known."""
    own = connection.settings.namespace
    named = own if name == namespace_tag(own) else name
    if namespace_tag(named) != name:
        return None
    surveys = [BucketSurvey(connection.server, named, kind) for kind in SHELVES]
    return sum([(await survey.count()).entries for survey in surveys])


def _counts(found: DumpResult) -> list[str]:
    return [f"{found.entries[kind]:,}" for kind in SHELVES]


def _as_json(found: DumpResult) -> dict[str, Any]:
    about = {"namespace": found.header.namespace, "tag": found.header.tag}
    return {**about, "file": str(found.path), "bytes": found.size, **found.entries}


def _show(job: Job, ledger_name: str, found: DumpResult) -> None:
    facts = [
        ("ledger", ledger_name),
        ("namespace", found.header.namespace or found.header.tag),
        ("file", f"{found.path}, {found.size:,} bytes"),
    ]
    job.screen.facts([*facts, *zip(SHELVES, _counts(found), strict=True)])
    job.screen.result({"ledger": ledger_name, **_as_json(found)})
