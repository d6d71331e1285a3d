"""`scrapy dedup load`: what a dump has is remembered in this ledger, too."""

from __future__ import annotations

import argparse
from collections import Counter

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import connect
from scrapy_valkey_dedup.commands.shared.dumps.format import KINDS, Head
from scrapy_valkey_dedup.commands.shared.dumps.loading import Loaded, load
from scrapy_valkey_dedup.commands.shared.dumps.reader import DumpReader
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND, CommandError
from scrapy_valkey_dedup.model import TRIAL_MARK

SUMMARY = "Remember what a dump has, on this server, in its namespace or another"
EXAMPLE = """examples:
  scrapy dedup load posts.dump
  scrapy dedup load posts.dump --into forum

Spiders may run. Each post is remembered until the moment that the file says, whatever
VALKEY_DEDUP_RETENTION is here; what is remembered already stays. Loading a file again, or a later
dump, adds only what is missing. A file that is not whole changes nothing.

exit code: 0, or 1 if the retention of all that the file has is over, 2 if the file is no dump or
not whole, or if there is no server"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("file", help="what `scrapy dedup dump` has written")
    parser.add_argument(
        "--into", metavar="NAMESPACE", help="the namespace (default: the one that the file names)"
    )


async def run(job: Job) -> int:
    """Loads one file."""
    screen, options = job.screen, job.options
    if options.namespace is not None:
        raise CommandError("load takes the namespace that the file names; --into names another")
    if options.trial is not None:
        raise CommandError(
            "load has no --trial: it remembers for all runs what the file has. For a trial alone: "
            f"--into NAMESPACE{TRIAL_MARK}{options.trial}"
        )
    with DumpReader(options.file) as file:
        namespace = _namespace(file.head, options.into)
        total = sum(_verified(file).values())
        async with connect(job.project.settings, create=True) as connection:
            with screen.progress(f"load {options.file}", total, "entries") as advance:
                found = await load(connection, file, namespace, advance, screen.note)
    own = job.project.settings.tried_namespace
    if namespace not in (own, options.into):
        screen.note(
            f"it is in the namespace {namespace!r} now; here VALKEY_DEDUP_NAMESPACE is {own!r}: "
            "spiders with this setting do not see it (--into)"
        )
    _show(job, connection.name, found)
    return FOUND if total and found.over == found.entries else FINE


def _namespace(head: Head, into: str | None) -> str:
    if into is not None:
        return into
    if head.namespace is None:
        raise CommandError(
            f"the file does not know the name of its namespace, only {head.tag}: --into says it"
        )
    return head.namespace


def _verified(file: DumpReader) -> Counter[str]:
    try:
        return file.verify()
    except CommandError as error:
        raise CommandError(f"{error}. Nothing was changed") from None


def _show(job: Job, ledger_name: str, found: Loaded) -> None:
    screen = job.screen
    screen.facts([("ledger", ledger_name), ("namespace", found.namespace)])
    rows = [
        [kind, *(f"{counts[kind]:,}" for counts in (found.entries, found.new, found.over))]
        for kind in KINDS
    ]
    screen.table(["", "in the file", "new here", "over"], rows)
    counts = {"entries": found.entries, "new": found.new, "over": found.over}
    screen.result({"ledger": ledger_name, "namespace": found.namespace, **counts})
