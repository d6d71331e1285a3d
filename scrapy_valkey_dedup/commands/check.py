"""`scrapy dedup check`: shows the identity of posts, and whether the ledger knows them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import connect
from scrapy_valkey_dedup.commands.shared.moments import moment
from scrapy_valkey_dedup.commands.shared.records.explain import Explanation, explain
from scrapy_valkey_dedup.commands.shared.records.identification import (
    RecordIdentifier,
    item_builder,
)
from scrapy_valkey_dedup.commands.shared.records.identification import (
    add_options as add_post_options,
)
from scrapy_valkey_dedup.commands.shared.records.source_check import check_source
from scrapy_valkey_dedup.commands.shared.records.sources import source_for
from scrapy_valkey_dedup.commands.shared.screen import Screen
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND, CommandError
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Key

SUMMARY = "Show how posts are identified, and whether they are known; change nothing"
EXAMPLE = """examples:
  scrapy dedup check --item forum.items.Post '{"site": "x.example", "post_id": 1}'
  scrapy dedup check --item forum.items.Post posts.jsonl.gz
  zcat posts.jsonl.gz | scrapy dedup check --spider forum --json

exit code: 0 if every post has an identity, 1 if one has none, 2 if there is no ledger"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `check`."""
    parser.add_argument(
        "posts",
        nargs="*",
        metavar="POST",
        help="a JSON object; a file; - for standard input, which is the default",
    )
    add_post_options(parser)


async def run(job: Job) -> int:
    """Checks the posts of the command line, of a file or of a database."""
    given, builder = read_arguments(job.options.posts), item_builder(job.options)
    identifier = RecordIdentifier(job.project, builder)
    if isinstance(given, str):
        origin = source_for(given, form=job.options.format, query=job.options.query)
        return await check_source(job, identifier, origin)
    items = [builder.build(record) for record in given]
    if builder.unused_renames:
        raise CommandError(
            f"--rename {builder.unused_renames.pop()}=...: no post has a field of that name"
        )
    project = job.project
    found = [
        explain(project.identifier, item, project.spider, project.settings.scope) for item in items
    ]
    for each in found:
        _show_identity(job.screen, each)
    async with connect(project.settings) as connection:
        ledger = connection.ledger()
        await ledger.exists()
        states = await states_of(ledger, [each.key for each in found if each.key is not None])
        rest = iter(states)
        listed = [next(rest) if each.key is not None else None for each in found]
        _show_states(job, connection.name, found, listed)
    return FINE if all(each.key is not None for each in found) else FOUND


def read_arguments(posts: Sequence[str]) -> str | list[Any]:
    """The posts given as JSON objects, or the name of the one file or database to read.

    Raises:
        CommandError: the arguments are neither, or there are none.

    """
    if not posts and sys.stdin.isatty():
        raise CommandError(
            "no posts are given: give a JSON object, a file, or - for standard input"
        )
    if len(posts) <= 1 and not any(post.lstrip().startswith("{") for post in posts):
        return posts[0] if posts else "-"
    records = []
    for post in posts:
        try:
            records.append(json.loads(post))
        except ValueError as error:
            cause = f"{post:.60}: not a JSON object ({error}); give a file alone"
            raise CommandError(cause) from None
        if not isinstance(records[-1], dict):
            raise CommandError(f"{post:.60}: not a JSON object")
    return records


@dataclass(frozen=True)
class PostState:
    """What the ledger knows about one post."""

    known: bool
    kept_until: str | None
    """A date and time in UTC, or "forever"; None if the post is new."""
    claimed_by: str | None
    """The run that holds a claim on the post; None if no run does."""
    claim_is_alive: bool | None
    """Whether that run has a heartbeat; None if no run holds a claim."""


async def states_of(ledger: Ledger, keys: Sequence[Key]) -> list[PostState]:
    """What the ledger knows about posts, in the same order."""
    standings = await ledger.inspect_many(keys)
    runs = list({each.holder for each in standings if each.holder is not None})
    beats = dict(zip(runs, await ledger.runs.read_heartbeats(runs), strict=True)) if runs else {}
    return [
        PostState(
            each.until is not None,
            None if each.until is None else moment(each.until),
            each.holder,
            None if each.holder is None else beats[each.holder] is not None,
        )
        for each in standings
    ]


def _show_identity(screen: Screen, found: Explanation) -> None:
    facts = [
        ("class", found.item_class),
        ("decided by", found.decided_by),
        ("kind", found.kind),
        ("key", found.key.hex() if found.key else f"none: {found.reason}"),
    ]
    if found.overruled:
        facts.insert(2, ("overruled", found.overruled))
    screen.facts(facts)
    titles = ("field", "value", "normalisers", "identifies by")
    rows = [
        (each.name, each.value, ", ".join(each.normalisers), each.normalised)
        for each in found.fields
    ]
    screen.table(titles, rows)


def _show_states(
    job: Job, ledger_name: str, found: Sequence[Explanation], states: Sequence[PostState | None]
) -> None:
    namespace = job.project.settings.namespace
    job.screen.facts([("ledger", ledger_name), ("namespace", namespace)])
    rows, posts = [], []
    for each, state in zip(found, states, strict=True):
        key = each.key.hex() if each.key is not None else None
        posts.append({**asdict(each), "key": key, **(asdict(state) if state else {})})
        if state is not None:
            rows.append((key or "", *_words(state)))
    job.screen.table(("key", "known", "claimed"), rows)
    job.screen.result({"ledger": ledger_name, "namespace": namespace, "posts": posts})


def _words(state: PostState) -> tuple[str, str]:
    kept = state.kept_until
    known = "no: new" if not state.known else f"yes, {'until ' * (kept != 'forever')}{kept}"
    if state.claimed_by is None:
        return known, "no"
    return known, f"by run {state.claimed_by}, {'alive' if state.claim_is_alive else 'dead'}"
