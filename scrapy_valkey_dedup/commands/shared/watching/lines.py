"""The fleet without a terminal: one line, or one JSON object, for each look."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from scrapy_valkey_dedup.commands.shared.status.server import size
from scrapy_valkey_dedup.commands.shared.watching.figures import clock, percent, short
from scrapy_valkey_dedup.commands.shared.watching.fleet import total_rates
from scrapy_valkey_dedup.commands.shared.watching.watched_run import State, WatchedRun
from scrapy_valkey_dedup.commands.shared.watching.watcher import Watcher


def line(watcher: Watcher, now: float) -> str:
    """What is known now, in one line; ``now``: seconds since 1970."""
    failure, facts = watcher.failure, watcher.facts
    if failure is not None:
        return f"{clock(now)}  no answer since {clock(failure.since)}: {failure.message}"
    parts = [clock(now), *([_runs(watcher)] if not watcher.refused else ["runs not known (+scan)"])]
    if facts.latency is not None:
        median, slow = (1000 * seconds for seconds in facts.latency)
        parts.append(f"{median:.2f} ms (p99 {slow:.2f})")
    if facts.how_many:
        parts.append(facts.how_many)
    if facts.memory is not None:
        used, limit = facts.memory
        parts.append(size(used) + (f" of {size(limit)}" if limit is not None else ""))
    return "  ".join(parts)


def _runs(watcher: Watcher) -> str:
    runs, states = watcher.fleet.runs, watcher.fleet.states
    rates = total_rates(runs, watcher.now)
    new, duplicate = (None, None) if rates is None else rates
    infos = [run.info for run in runs if run.info is not None]
    seen = [sum(getattr(info, name) for info in infos) for name in ("new", "duplicate")]
    told = [f"{states[state]:,} {state.value}" for state in State if states[state]] or ["no runs"]
    return (
        f"{', '.join(told)}  new {short(new)}/s  duplicate {short(duplicate)}/s"
        f" ({percent(seen[1], sum(seen))} so far)"
        f"  {sum(_open(run) for run in runs):,} claims open"
    )


def _open(run: WatchedRun) -> int:
    return 0 if run.info is None or run.state.is_over else run.info.open


def as_json(watcher: Watcher, now: float) -> dict[str, Any]:
    """The same for programs, with each run; the rates are None where they are not known."""
    failure, facts = watcher.failure, watcher.facts
    latency, memory, posts = facts.latency, facts.memory, facts.posts
    return {
        "at": round(now, 3),
        "ledger": watcher.place,
        "namespace": watcher.namespace,
        "error": None if failure is None else failure.message,
        "no_answer_since": None if failure is None else round(failure.since, 3),
        "refused": watcher.refused,
        "latency_ms": None if latency is None else {
            "median": round(1000 * latency[0], 3), "p99": round(1000 * latency[1], 3),
        },
        "memory": None if memory is None else {"used": memory[0], "limit": memory[1]},
        "evicted": facts.evicted,
        "posts": None if posts is None else {"entries": posts, "exact": facts.is_exact},
        "runs": [_as_json(run, watcher.now) for run in watcher.fleet.runs],
    }  # fmt: skip


def _as_json(run: WatchedRun, now: float) -> dict[str, Any]:
    rates = run.rates(now)
    return {
        "run": run.name,
        "state": run.state.value,
        **({} if run.info is None else asdict(run.info)),
        "new_a_second": None if rates is None else round(rates.new, 3),
        "duplicate_a_second": None if rates is None else round(rates.duplicate, 3),
    }
