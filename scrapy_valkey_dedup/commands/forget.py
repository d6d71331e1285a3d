"""`scrapy dedup forget`: makes posts new again, one by one or all of a namespace."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from time import time
from typing import Any

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.check import read_arguments
from scrapy_valkey_dedup.commands.shared.connection import SHELVES, LedgerConnection, connect
from scrapy_valkey_dedup.commands.shared.forgetting.forgetting import (
    NOTHING_SINCE,
    WHOLE,
    claims_of_living_runs,
    find_posts,
    forget,
    no_such_ledger,
    select_parts,
    since_when,
)
from scrapy_valkey_dedup.commands.shared.moments import read_moment
from scrapy_valkey_dedup.commands.shared.records.counts import show_counts
from scrapy_valkey_dedup.commands.shared.records.identification import (
    IdentifiedBlock,
    RecordIdentifier,
    item_builder,
)
from scrapy_valkey_dedup.commands.shared.records.identification import (
    add_options as add_post_options,
)
from scrapy_valkey_dedup.commands.shared.records.sources import (
    CommandLineRecords,
    Source,
    source_for,
)
from scrapy_valkey_dedup.commands.shared.screen import Screen
from scrapy_valkey_dedup.commands.shared.status.state import spooled
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND, CommandError
from scrapy_valkey_dedup.stats import quantity

SUMMARY = "Forget posts, a trial, what was stored since a moment, or all of a namespace"
EXAMPLE = """examples:
  scrapy dedup forget --item forum.items.Post '{"site": "x.example", "post_id": 1}'
  scrapy dedup forget --spider forum --item forum.items.Post posts.jsonl
  scrapy dedup forget --trial first-try
  scrapy dedup forget --since '2026-11-20 14:00'
  scrapy dedup forget --all pages
  scrapy dedup forget --all namespace --namespace old --yes

A trial (a run with -s VALKEY_DEDUP_TRIAL=NAME) is forgotten exactly, and nothing else is.
--since is not exact: see there.

exit code: 0, or 1 if a post of the file has no identity, 2 if there is no ledger"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `forget`."""
    parser.add_argument(
        "posts",
        nargs="*",
        metavar="POST",
        help="a JSON object; a file; - for standard input",
    )
    parser.add_argument(
        "--all",
        choices=[*SHELVES, WHOLE],
        help="everything of this kind that the namespace remembers, or all three and its trials",
    )
    parser.add_argument(
        "--since",
        metavar="MOMENT",
        help="what was stored since then: a date, or how long ago (3d). Not exact: it forgets "
        "whole generations, one for each half of the retention. So it forgets some older posts, "
        "too, which are stored once more if spiders meet them. It asks first, and says from which "
        "date on. If the retention was shorter at some time since then, give the shortest: -s "
        "VALKEY_DEDUP_RETENTION=30d (for pages VALKEY_DEDUP_REQUEST_RETENTION)",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_post_options(parser)


async def run(job: Job) -> int:
    """Forgets the posts or the part of a namespace that the options select."""
    options = job.options
    if options.posts and (options.all or options.since):
        name = "--all" if options.all else "--since"
        raise CommandError(f"{name} takes no posts: it forgets all of them")
    if options.all or options.since or (options.trial and not options.posts):
        what = options.all or WHOLE
        return await _forget_parts(job, what, _since(job, what))
    if not options.posts:
        raise CommandError(
            "nothing to forget is given: a JSON object, a file, - for standard input, --trial, "
            "--since or --all"
        )
    given = read_arguments(options.posts)
    identifier = RecordIdentifier(job.project, item_builder(options), job.screen.note)
    origin: Source
    if isinstance(given, str):
        origin = source_for(given, form=options.format, query=options.query)
    else:
        origin = CommandLineRecords(given)
    return await _forget_posts(job, identifier, origin)


def _since(job: Job, what: str) -> float | None:
    """The moment of ``--since``, in seconds since 1970; None if the option is not given."""
    if not job.options.since:
        return None
    settings = job.project.settings
    kept = {"RETENTION": settings.retention, "REQUEST_RETENTION": settings.request_retention}
    wanted = {WHOLE: kept, "pages": ["REQUEST_RETENTION"]}.get(what, ["RETENTION"])
    for name in wanted:
        if kept[name] is None:
            raise CommandError(
                f"VALKEY_DEDUP_{name} = None: posts are kept forever, without a date, so "
                "--since cannot select them. Name the posts, or forget all: --all"
            )
    return read_moment(job.options.since, time())


async def _forget_parts(job: Job, what: str, since: float | None) -> int:
    screen = job.screen
    async with connect(job.project.settings) as connection:
        exists = await connection.ledger().exists()
        if not exists and job.options.trial:
            raise await no_such_ledger(connection)
        parts = await select_parts(connection, what, since)
        with screen.progress("count", None, "entries") as advance:
            await parts.count(advance)
        if not exists and parts.is_empty:
            raise await no_such_ledger(connection)
        forgotten, is_new, alive = 0, False, await parts.claims_of_living_runs()
        question = f"Forget {parts.listed} {_where(job, connection)}{since_when(parts, since)}?"
        if (parts.total or parts.namespaces) and _agreed(job, question):
            with screen.progress("forget", parts.total, "entries") as advance:
                await parts.clear(advance)
            forgotten = parts.total
            is_new = await parts.delete_ledger_keys()
        _tell_claims(screen, "posts or pages" if what == WHOLE else what, alive)
        if not is_new:  # else the next run makes a new ledger, and drops them
            _tell_spooled(screen, connection, what)
        if since is not None and not parts.total:
            screen.note(NOTHING_SINCE)
        if parts.endless:
            screen.note(
                f"{parts.endless:,} entries are kept forever, without a date: they stay. "
                "`forget --all posts` forgets them, too"
            )
    counts = [*((name, each.remembered) for name, each in parts.held.items())]
    counts.append(("forgotten", forgotten))
    began = None if parts.is_undated else parts.began
    _finish(job, connection, counts, alive=alive, began=began)
    return FINE


async def _forget_posts(job: Job, identifier: RecordIdentifier, origin: Source) -> int:
    screen = job.screen
    async with connect(job.project.settings) as connection:
        ledger = connection.ledger(own=True)
        if not await ledger.exists():
            raise await no_such_ledger(connection)
        with screen.progress(
            f"look up the posts of {origin.name}", origin.total, origin.unit
        ) as advance:
            found = await find_posts(ledger, identifier, origin, advance)
        known, forgotten = len(found.keys), 0
        alive = await claims_of_living_runs(ledger, found.claims)
        question = f"Forget {_posts(known)} of {found.read.records:,} {_where(job, connection)}?"
        if known and _agreed(job, question):
            with screen.progress("forget", known, "posts") as advance:
                forgotten = await forget(ledger, found.keys, advance)
        _tell_claims(screen, "posts", alive)
    counts = [("records", found.read.records), ("known", known), ("forgotten", forgotten)]
    _finish(job, connection, counts, alive=alive, read=found.read)
    return FOUND if found.read.bad.total or found.read.unkeyed.total else FINE


def _agreed(job: Job, question: str) -> bool:
    if job.options.yes:
        return True
    answer = job.screen.ask(question)
    if answer is None:
        raise CommandError(f"{question} There is no terminal to ask on: add --yes")
    if not answer:
        job.screen.note("Nothing was forgotten.")
    return answer


def _tell_claims(screen: Screen, what: str, alive: dict[str, int]) -> None:
    if alive:
        claims = quantity(sum(alive.values()), "open claim")
        screen.note(
            f"live runs ({', '.join(alive)}) have {claims} on {what}: they keep them, and what "
            "they store is remembered"
        )


def _tell_spooled(screen: Screen, connection: LedgerConnection, what: str) -> None:
    for kind, number in spooled(connection).items():
        if what in (WHOLE, kind):
            screen.note(
                f"{number:,} {kind} that were stored in an outage wait on this machine's disk: the "
                "next run here delivers them, and they are remembered again"
            )


def _posts(count: int) -> str:
    return f"{count:,} post{'' if count == 1 else 's'}"


def _where(job: Job, connection: LedgerConnection) -> str:
    return f"in the namespace {job.project.settings.namespace!r} at {connection.name}"


def _finish(  # noqa: PLR0913 (all that is shown)
    job: Job,
    connection: LedgerConnection,
    counts: Sequence[tuple[str, int]],
    *,
    alive: dict[str, int],
    read: IdentifiedBlock | None = None,
    began: float | None = None,
) -> None:
    namespace = job.project.settings.namespace
    job.screen.facts([("ledger", connection.name), ("namespace", namespace)])
    found: dict[str, Any] = {
        "ledger": connection.name,
        "namespace": namespace,
        **dict(counts),
        "claimed_by_living_runs": alive,
    }
    if read is None:
        job.screen.table(None, [(name, f"{count:,}") for name, count in counts])
        found["since"] = began
    else:
        show_counts(job.screen, counts, read.bad, read.unkeyed)
        found |= {"bad": read.bad.listed(), "without_identity": read.unkeyed.listed()}
    job.screen.result(found)
