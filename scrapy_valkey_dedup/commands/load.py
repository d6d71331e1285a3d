"""`scrapy dedup load`: adds the posts, pages and timelines of a dump to a ledger."""

from __future__ import annotations

import argparse
import re
from collections import Counter

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import connect
from scrapy_valkey_dedup.commands.shared.dumps.format import KINDS, Header
from scrapy_valkey_dedup.commands.shared.dumps.loading import LoadResult, load
from scrapy_valkey_dedup.commands.shared.dumps.reader import DumpReader
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND, CommandError
from scrapy_valkey_dedup.model import TRIAL_MARK
from scrapy_valkey_dedup.parsing import text

SUMMARY = "Load a dump into this server, in its own namespace or another"
EXAMPLE = """examples:
  scrapy dedup load posts.dump
  scrapy dedup load posts.dump --into forum

Spiders may run. Each post is remembered until the moment that the file says, whatever
VALKEY_DEDUP_RETENTION is here; what is already remembered stays. Loading a file again, or a later
dump, adds only what is missing. A damaged or incomplete file changes nothing.

exit code: 0, or 1 if all entries of the file have expired, 2 if the file is not a dump, or is
damaged or incomplete, or if there is no server"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `load`."""
    parser.add_argument("file", help="a file that `scrapy dedup dump` has written")
    parser.add_argument(
        "--into", metavar="NAMESPACE", help="the namespace (default: the one in the file)"
    )


async def run(job: Job) -> int:
    """Loads a file into its namespace, or into the one of ``--into``."""
    screen, options = job.screen, job.options
    if options.namespace is not None:
        raise CommandError(
            "load uses the namespace in the file, not --namespace; --into NAMESPACE changes it"
        )
    if options.trial is not None:
        raise CommandError(
            "load has no --trial: the posts are remembered for all runs. To load them into one "
            f"trial: --into NAMESPACE{TRIAL_MARK}{options.trial}"
        )
    with DumpReader(options.file) as file:
        namespace = _namespace(file.header, options.into)
        total = sum(_verified(file).values())
        async with connect(job.project.settings, create=True) as connection:
            with screen.progress(f"load {options.file}", total, "entries") as advance:
                found = await load(connection, file, namespace, advance, screen.note)
    _show(job, connection.name, found)
    own = job.project.settings.tried_namespace
    if namespace != own and not namespace.startswith(f"{own}{TRIAL_MARK}"):
        screen.note(
            f"the entries are in the namespace {namespace!r} now, but VALKEY_DEDUP_NAMESPACE is "
            f"{own!r} here: spiders with this setting do not see them; for those: --into {own}"
        )
    return FOUND if total and found.expired == found.entries else FINE


def _namespace(header: Header, into: str | None) -> str:
    if into is not None:
        return _checked(into)
    if header.namespace is None:
        raise CommandError(
            f"the file names its namespace only as a digest, {header.tag}: add --into NAMESPACE"
        )
    return header.namespace


def _checked(into: str) -> str:
    if re.search("[{}]", into):
        raise CommandError(f"--into {into}: it takes a name, without {{ and }}")
    try:
        return text(into)
    except ValueError as error:
        raise CommandError(f"--into {into!r}: {error}") from None


def _verified(file: DumpReader) -> Counter[str]:
    try:
        return file.verify()
    except CommandError as error:
        raise CommandError(f"{error}. Nothing was changed") from None


def _show(job: Job, ledger_name: str, found: LoadResult) -> None:
    screen = job.screen
    screen.facts([("ledger", ledger_name), ("namespace", found.namespace)])
    rows = [
        [kind, *(f"{counts[kind]:,}" for counts in (found.entries, found.new, found.expired))]
        for kind in KINDS
    ]
    screen.table(["", "in the file", "new here", "expired"], rows)
    counts = {"entries": found.entries, "new": found.new, "expired": found.expired}
    screen.result({"ledger": ledger_name, "namespace": found.namespace, **counts})
