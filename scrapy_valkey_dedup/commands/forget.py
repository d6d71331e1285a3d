"""`scrapy dedup forget`: posts are new again, one by one or a whole namespace."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.check import named
from scrapy_valkey_dedup.commands.shared.contents import Holdings, Shelf
from scrapy_valkey_dedup.commands.shared.counts import show_counts
from scrapy_valkey_dedup.commands.shared.keyed import Faults, Keyed, Keyer, maker_of
from scrapy_valkey_dedup.commands.shared.keyed import add_options as add_post_options
from scrapy_valkey_dedup.commands.shared.place import SHELVES, Place, opened
from scrapy_valkey_dedup.commands.shared.screen import Advance, Screen
from scrapy_valkey_dedup.commands.shared.sources import Block, Source, source
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND, CommandError
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.session.keyset import KeySet
from scrapy_valkey_dedup.valkey.resp import command

SUMMARY = "Forget posts, or all posts, pages or timelines of a namespace"
EXAMPLE = """examples:
  scrapy dedup forget --item forum.items.Post '{"site": "x.example", "post_id": 1}'
  scrapy dedup forget --spider forum --item forum.items.Post posts.jsonl
  scrapy dedup forget --all pages
  scrapy dedup forget --all namespace --namespace trial --yes

exit code: 0, or 1 if a post of the file has no identity, 2 if there is no ledger"""

_WHOLE = "namespace"
_BATCH = 5000


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
        choices=[*SHELVES, _WHOLE],
        help="everything of this kind that the namespace remembers, or all three",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_post_options(parser)


async def run(job: Job) -> int:
    """Forgets what the operator names."""
    options = job.options
    if options.all and options.posts:
        raise CommandError("--all takes no posts: it forgets all of them")
    if options.all:
        return await _forget_all(job, options.all)
    if not options.posts:
        raise CommandError("forget what? a JSON object, a file, - for standard input, or --all")
    given = named(options.posts)
    keyer = Keyer(job.project, maker_of(options))
    origin: Source
    if isinstance(given, str):
        origin = source(given, form=options.format, query=options.query)
    else:
        origin = _OnCommandLine(given)
    return await _forget_posts(job, keyer, origin)


@dataclass
class _OnCommandLine:
    """Posts that stand on the command line."""

    records: Sequence[object]
    name: str = "the command line"
    total: int | None = None
    unit: str = "records"
    can_resume: bool = False

    def blocks(self, start: int = 0, number: int = 1) -> Generator[Block, None, None]:
        """One block."""
        count = len(self.records)
        yield Block(number, start + count, count, list(enumerate(self.records, number)))


@dataclass
class Found:
    """What the ledger knows of some posts."""

    keys: KeySet = field(default_factory=KeySet)
    """Those that it remembers."""
    read: Keyed = field(default_factory=Keyed)
    claims: Counter[str] = field(default_factory=Counter)
    """Open claims on them, by run."""


async def look_for(ledger: Ledger, keyer: Keyer, origin: Source, advance: Advance) -> Found:
    """Which posts of a source are remembered, and which are claimed. 16 bytes of memory each."""
    found = Found()
    for block in origin.blocks():
        made = keyer.keyed(block)
        if not found.read.records:
            made.refuse_none(origin.name)
        found.read.records += made.records
        found.read.bad.join(made.bad)
        found.read.unkeyed.join(made.unkeyed)
        keys = list(dict.fromkeys(made.keys))
        for key, standing in zip(keys, await ledger.inspect_many(keys), strict=True):
            if standing.until is not None:
                found.keys.add(key)
            if standing.holder is not None:
                found.claims[standing.holder] += 1
        advance(block.size)
    return found


async def forget(ledger: Ledger, keys: KeySet, advance: Advance) -> int:
    """Forgets posts; returns how many were remembered until then."""
    forgotten, rest = 0, iter(keys)
    while some := list[Key](islice(rest, _BATCH)):
        forgotten += await ledger.forget_many(some)
        advance(len(some))
    return forgotten


async def _forget_posts(job: Job, keyer: Keyer, origin: Source) -> int:
    screen = job.screen
    async with opened(job.project.settings) as place:
        ledger = place.ledger()
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
    bad, unkeyed = found.read.bad, found.read.unkeyed
    _finish(job, place, counts, alive=alive, bad=bad, unkeyed=unkeyed)
    return FOUND if bad.total or unkeyed.total else FINE


async def _forget_all(job: Job, what: str) -> int:
    screen, kinds = job.screen, list(SHELVES) if what == _WHOLE else [what]
    async with opened(job.project.settings) as place:
        ledger = place.ledger()
        await ledger.exists()
        shelves = {kind: Shelf(place, kind) for kind in kinds}
        with screen.progress("count", None, "entries") as advance:
            held = {kind: await shelf.count(advance) for kind, shelf in shelves.items()}
        total, forgotten = sum(each.remembered for each in held.values()), 0
        alive = await living(ledger, sum((each.claims for each in held.values()), Counter[str]()))
        listed = ", ".join(f"about {each.remembered:,} {kind}" for kind, each in held.items())
        if (total or what == _WHOLE) and _agreed(job, f"Forget {listed} {_where(job, place)}?"):
            with screen.progress("forget", total, "entries") as advance:
                for shelf in shelves.values():
                    await shelf.clear(advance)
            forgotten = total
            if what == _WHOLE and not alive:
                await _leave_nothing(ledger, place)
        _tell_claims(screen, "posts or pages" if what == _WHOLE else what, alive)
    counts = _counts(held, forgotten)
    _finish(job, place, counts, alive=alive, bad=Faults(), unkeyed=Faults())
    return FINE


def _counts(held: dict[str, Holdings], forgotten: int) -> list[tuple[str, int]]:
    return [*((kind, each.remembered) for kind, each in held.items()), ("forgotten", forgotten)]


async def _leave_nothing(ledger: Ledger, place: Place) -> None:
    """The next run makes a ledger of its own: what waits on a disk for this one is not its."""
    names = ledger.namespace_keys
    await place.server.ask(*(command("DEL", name) for name in names), key=names[0])


async def living(ledger: Ledger, claims: Counter[str]) -> dict[str, int]:
    """The claims of runs that live."""
    runs = list(claims)
    beats = await ledger.runs.read_heartbeats(runs) if runs else []
    return {run: claims[run] for run, beat in zip(runs, beats, strict=True) if beat is not None}


def _agreed(job: Job, question: str) -> bool:
    if job.options.yes:
        return True
    answer = job.screen.ask(question)
    if answer is None:
        raise CommandError(f"{question} There is nobody to ask: add --yes")
    if not answer:
        job.screen.note("Nothing is forgotten.")
    return answer


def _tell_claims(screen: Screen, what: str, alive: dict[str, int]) -> None:
    if alive:
        screen.note(
            f"{sum(alive.values()):,} {what} are claimed by runs that live ({', '.join(alive)}): "
            "they keep their claims, and what they store is remembered"
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
    bad: Faults,
    unkeyed: Faults,
) -> None:
    namespace = job.project.settings.namespace
    job.screen.facts([("ledger", place.name), ("namespace", namespace)])
    if job.options.all:
        job.screen.table(None, [(name, f"{count:,}") for name, count in counts])
    else:
        show_counts(job.screen, counts, bad, unkeyed)
    job.screen.result(
        {
            "ledger": place.name,
            "namespace": namespace,
            **dict(counts),
            "claimed_by_living_runs": alive,
            "bad": bad.listed(),
            "without_identity": unkeyed.listed(),
        }
    )
