"""`scrapy dedup forget`: posts are new again, one by one or a whole namespace."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from time import time
from typing import Any

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.check import named
from scrapy_valkey_dedup.commands.shared.contents import trials
from scrapy_valkey_dedup.commands.shared.counts import show_counts
from scrapy_valkey_dedup.commands.shared.forgetting import (
    NOTHING_SINCE,
    WHOLE,
    forget,
    living,
    look_for,
    parts_of,
    since_when,
)
from scrapy_valkey_dedup.commands.shared.keyed import Keyed, Keyer, maker_of
from scrapy_valkey_dedup.commands.shared.keyed import add_options as add_post_options
from scrapy_valkey_dedup.commands.shared.moments import read_moment
from scrapy_valkey_dedup.commands.shared.place import SHELVES, Place, opened
from scrapy_valkey_dedup.commands.shared.screen import Screen
from scrapy_valkey_dedup.commands.shared.sources import OnCommandLine, Source, source
from scrapy_valkey_dedup.commands.shared.state import spooled
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND, CommandError

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
    """Its options."""
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
    """Forgets what the operator names."""
    options = job.options
    if options.posts and (options.all or options.since):
        name = "--all" if options.all else "--since"
        raise CommandError(f"{name} takes no posts: it forgets all of them")
    if options.all or options.since or (options.trial and not options.posts):
        what = options.all or WHOLE
        return await _forget_parts(job, what, _since(job, what))
    if not options.posts:
        raise CommandError(
            "forget what? a JSON object, a file, - for standard input, --trial, --since or --all"
        )
    given = named(options.posts)
    keyer = Keyer(job.project, maker_of(options))
    origin: Source
    if isinstance(given, str):
        origin = source(given, form=options.format, query=options.query)
    else:
        origin = OnCommandLine(given)
    return await _forget_posts(job, keyer, origin)


def _since(job: Job, what: str) -> float | None:
    """The moment since when all is to be forgotten."""
    if not job.options.since:
        return None
    settings = job.project.settings
    kept = {"RETENTION": settings.retention, "REQUEST_RETENTION": settings.request_retention}
    wanted = {WHOLE: kept, "pages": ["REQUEST_RETENTION"]}.get(what, ["RETENTION"])
    for name in wanted:
        if kept[name] is None:
            raise CommandError(
                f"VALKEY_DEDUP_{name} = None: what is kept forever is kept without a date, so "
                "--since cannot tell. Forget the posts by name, in a file, or all: --all"
            )
    return read_moment(job.options.since, time())


async def _forget_parts(job: Job, what: str, since: float | None) -> int:
    screen = job.screen
    async with opened(job.project.settings) as place:
        ledger = place.ledger()
        if not await ledger.exists() and job.options.trial:
            raise await _no_such_trial(place)
        parts = await parts_of(place, what, since)
        with screen.progress("count", None, "entries") as advance:
            await parts.count(advance)
        forgotten, alive = 0, await parts.living()
        listed = ", ".join(f"about {each.remembered:,} {name}" for name, each in parts.held.items())
        question = f"Forget {listed} {_where(job, place)}{since_when(parts, since)}?"
        if (parts.total or parts.places) and _agreed(job, question):
            with screen.progress("forget", parts.total, "entries") as advance:
                await parts.clear(advance)
            forgotten = parts.total
            if not alive:
                await parts.leave_nothing()
        _tell_claims(screen, "posts or pages" if what == WHOLE else what, alive)
        if not parts.places or alive:  # else the ledger is another one: they are not delivered
            _tell_spooled(screen, place, what)
        if since is not None and not parts.total:
            screen.note(NOTHING_SINCE)
        if parts.endless:
            screen.note(
                f"{parts.endless:,} entries are kept forever, and since when is not known: they "
                "stay. `forget --all posts` forgets them, too"
            )
    counts = [*((name, each.remembered) for name, each in parts.held.items())]
    counts.append(("forgotten", forgotten))
    _finish(job, place, counts, alive=alive, began=None if parts.is_undated else parts.began)
    return FINE


async def _no_such_trial(place: Place) -> CommandError:
    settings = place.settings
    listed = ", ".join(await trials(place.tried)) or "none"
    return CommandError(
        f"there is no trial {settings.trial!r} of the namespace {settings.tried_namespace!r} at "
        f"{place.name}; there are: {listed}"
    )


async def _forget_posts(job: Job, keyer: Keyer, origin: Source) -> int:
    screen = job.screen
    async with opened(job.project.settings) as place:
        ledger = place.ledger(own=True)
        await ledger.exists()
        with screen.progress(f"look for {origin.name}", origin.total, origin.unit) as advance:
            found = await look_for(ledger, keyer, origin, advance)
        known, forgotten = len(found.keys), 0
        alive = await living(ledger, found.claims)
        question = f"Forget {_posts(known)} of {found.read.records:,} {_where(job, place)}?"
        if known and _agreed(job, question):
            with screen.progress("forget", known, "posts") as advance:
                forgotten = await forget(ledger, found.keys, advance)
        _tell_claims(screen, "posts", alive)
    counts = [("records", found.read.records), ("known", known), ("forgotten", forgotten)]
    _finish(job, place, counts, alive=alive, read=found.read)
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
        screen.note(
            f"{sum(alive.values()):,} {what} are claimed by runs that live ({', '.join(alive)}): "
            "they keep their claims, and what they store is remembered"
        )


def _tell_spooled(screen: Screen, place: Place, what: str) -> None:
    for kind, number in spooled(place).items():
        if what in (WHOLE, kind):
            screen.note(
                f"{number:,} {kind} that were stored in an outage wait on this machine's disk: the "
                "next run here has them remembered again"
            )


def _posts(count: int) -> str:
    return f"{count:,} post{'' if count == 1 else 's'}"


def _where(job: Job, place: Place) -> str:
    return f"in the namespace {job.project.settings.namespace!r} at {place.name}"


def _finish(  # noqa: PLR0913 (all that is shown)
    job: Job,
    place: Place,
    counts: Sequence[tuple[str, int]],
    *,
    alive: dict[str, int],
    read: Keyed | None = None,
    began: float | None = None,
) -> None:
    namespace = job.project.settings.namespace
    job.screen.facts([("ledger", place.name), ("namespace", namespace)])
    found: dict[str, Any] = {
        "ledger": place.name,
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
