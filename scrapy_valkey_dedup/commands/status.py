"""`scrapy dedup status`: shows where the ledger is, what it remembers and which runs use it."""

from __future__ import annotations

import argparse
from math import inf

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import connect
from scrapy_valkey_dedup.commands.shared.moments import moment
from scrapy_valkey_dedup.commands.shared.screen import Screen
from scrapy_valkey_dedup.commands.shared.status.buckets import Contents
from scrapy_valkey_dedup.commands.shared.status.metrics import metrics
from scrapy_valkey_dedup.commands.shared.status.runs import RunSurvey
from scrapy_valkey_dedup.commands.shared.status.server import size
from scrapy_valkey_dedup.commands.shared.status.state import (
    LedgerState,
    as_json,
    local_state,
    quantile,
    query_server,
)
from scrapy_valkey_dedup.commands.shared.usage import FAILED, FINE, CommandError
from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.stats import quantity

SUMMARY = "Show where the ledger is, what it holds, and which runs are at work"
EXAMPLE = """examples:
  scrapy dedup status
  scrapy dedup status --exact --json
  scrapy dedup status --format prometheus > /var/lib/node_exporter/dedup.prom

exit code: 0, or 2 if there is no ledger, or it does not answer"""

_OF_RUNS = ("run", "spider", "host", "since", "open claims", "new", "duplicate")
_SHOWN = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `status`."""
    parser.add_argument(
        "--exact",
        action="store_true",
        help="count every bucket and every key (default: an estimate, in about a second)",
    )
    parser.add_argument(
        "--format",
        choices=("text", "prometheus"),
        default="text",
        help="prometheus: print metrics for a textfile collector",
    )


async def run(job: Job) -> int:
    """Shows the state of the ledger, and changes nothing."""
    options, screen = job.options, job.screen
    if options.json and options.format != "text":
        raise CommandError("--json and --format prometheus exclude each other")
    async with connect(job.project.settings) as connection:
        state = local_state(connection)
        try:
            await query_server(connection, state, exact=options.exact)
        except DedupError as error:
            state.error = str(error)
    screen.result(as_json(state))
    if options.format == "prometheus":
        screen.line("\n".join(metrics(state)))
    else:
        _show(screen, state)
    if state.error:
        screen.note(f"scrapy dedup: {state.error}")
        return FAILED
    return FINE


def _show(screen: Screen, state: LedgerState) -> None:
    facts = [
        ("ledger", state.location),
        ("namespace", state.namespace),
        ("topology", state.topology),
    ]
    if state.error:
        facts.append(("state", "it does not answer"))
    else:
        facts += _facts(state)
    facts.append(("spool", _spool(state)))
    screen.facts(facts)
    screen.table(("kind", "kept until", "entries", "memory"), _holdings(state))
    screen.table(_OF_RUNS, _runs(state))


def _facts(state: LedgerState) -> list[tuple[str, str]]:
    seen = state.runs
    fast, slow = (1000 * quantile(state.latency, share) for share in (0.5, 1))
    facts = [
        ("server", state.version),
        ("latency", f"median {fast:.2f} ms, slowest {slow:.2f} ms of {len(state.latency)}"),
        ("memory", _memory(state)),
    ]
    if state.forecast is not None:
        facts.append(("room", _room(state)))
    if state.is_empty:
        facts.append(("state", "empty: no run has been here yet"))
    if seen.refused:
        facts.append(("runs", f"not known: {seen.refused}"))
        return facts
    facts.append(("namespaces", ", ".join(seen.namespaces) or "none"))
    facts.append(("runs", f"{len(seen.alive)} alive"))
    if seen.dead:
        facts.append(("dead runs", _dead(seen)))
    if not seen.is_complete:
        facts.append(("note", "the server has too many keys: runs may be missing; --exact"))
    return facts


def _dead(seen: RunSurvey) -> str:
    total = quantity(sum(seen.dead.values()), "open claim")
    names = [
        f"{run} ({seen.infos[run].spider} on {seen.infos[run].host})" if run in seen.infos else run
        for run in list(seen.dead)[:_SHOWN]
    ]
    listed = ", ".join(names) + (", ..." if len(seen.dead) > _SHOWN else "")
    return (
        f"{total} of {listed}: ignored, as their lease is over; the next run that meets such a "
        "post stores it, unless it is remembered"
    )


def _memory(state: LedgerState) -> str:
    shown = []
    for node in state.nodes:
        if node.memory is None:
            return "not known: it needs the permission +info"
        text = size(node.memory)
        if node.limit is not None:
            text += f" of {size(node.limit)}, {node.facts.get('maxmemory_policy', '')}"
        if evicted := node.number("evicted_keys"):
            text += f", {evicted:,} keys evicted since its start"
        shown.append(text)
    return "; ".join(shown)


def _room(state: LedgerState) -> str:
    future = state.forecast
    assert future is not None  # noqa: S101 (the caller has checked)
    text = size(future.room)
    if future.posts is not None:
        text += f", about {future.posts:,} posts"
    if future.rate is not None:
        text += f"; {round(future.rate * 86400):,} a day recently"
    if future.full_at == inf:
        return f"{text}: never full at this rate, since posts expire"
    if future.full_at is not None:
        return f"{text}: full about {moment(future.full_at)[:10]}"
    return text


def _spool(state: LedgerState) -> str:
    if not state.spooled:
        return "empty"
    listed = ", ".join(f"{number:,} {what}" for what, number in state.spooled.items())
    return f"{listed} wait on this machine's disk; the next run here delivers them"


def _holdings(state: LedgerState) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for what, contents in state.contents.items():
        for each in contents.generations:
            memory = ""
            if contents.bytes_each is not None:
                memory = f"{size(contents.bytes_each * each.entries)}"
            rows.append((what, moment(each.ends), _count(each.entries, contents), memory))
        if contents.generations:
            memory = ""
            if contents.bytes_each is not None and contents.bytes is not None:
                memory = f"{size(contents.bytes)}, {contents.bytes_each:.1f} bytes each"
            rows.append((what, "all", _count(contents.entries, contents), memory))
        else:
            rows.append((what, "", "0", ""))
    return rows


def _count(entries: int, contents: Contents) -> str:
    if contents.is_exact:
        return f"{entries:,}"
    return f"about {int(float(f'{entries:.3g}')):,}"


def _runs(state: LedgerState) -> list[tuple[str, ...]]:
    seen = state.runs
    rows: list[tuple[str, ...]] = []
    for run in seen.alive:
        note = seen.infos.get(run)
        if note is None:  # it has just started
            rows.append((run, "starting", "", "", f"{seen.claims[run]:,}", "", ""))
            continue
        numbers = (f"{number:,}" for number in (note.open, note.new, note.duplicate))
        rows.append((run, note.spider, note.host, moment(note.start), *numbers))
    return rows
