"""The state of a ledger: contents, memory, runs, and what waits on this machine's disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import Any

from scrapy_valkey_dedup.commands.shared.connection import SHELVES, LedgerConnection
from scrapy_valkey_dedup.commands.shared.status.buckets import BucketSurvey, Contents
from scrapy_valkey_dedup.commands.shared.status.runs import RunSurvey, survey_runs
from scrapy_valkey_dedup.commands.shared.status.server import Node, hello, latency, nodes
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.valkey.urls import parsed

_LONGEST_LIFE = 1.5
"""A post is kept for at most this many retentions; see docs/ledger.md."""
_YOUNGEST = 3600.0
"""Seconds of data from which a rate can be estimated, at least."""
_KINDS = {"server": "one server", "sentinel": "Sentinel", "cluster": "cluster"}


@dataclass(frozen=True)
class Forecast:
    """An estimate of how long the memory will be enough."""

    room: int
    """Free bytes: those of the fullest node, multiplied by the number of nodes."""
    posts: int | None
    """Posts for which there is memory, as an estimate; None if their size is not known."""
    rate: float | None
    """New posts per second, recently; None if it is not known."""
    full_at: float | None
    """Seconds since 1970; ``inf`` if enough posts expire at this rate; None if not known."""


@dataclass
class LedgerState:
    """What is known about a ledger."""

    location: str
    """The server's URL without secrets, or the folder of the embedded server's data."""
    namespace: str
    spooled: Mapping[str, int] = field(default_factory=dict)
    """Posts, pages and timelines in this machine's spool, by kind."""
    error: str = ""
    """Why the server did not answer; then the rest is not known. "" if it did."""
    is_empty: bool = False
    """Whether no run has used this ledger yet."""
    version: str = ""
    topology: str = ""
    latency: list[float] = field(default_factory=list)
    """Seconds of some round trips, in ascending order."""
    nodes: list[Node] = field(default_factory=list)
    contents: dict[str, Contents] = field(default_factory=dict)
    runs: RunSurvey = field(default_factory=RunSurvey)
    forecast: Forecast | None = None


def local_state(connection: LedgerConnection) -> LedgerState:
    """The part of a ledger's state that is known without asking the server."""
    settings = connection.settings
    return LedgerState(
        connection.name, settings.namespace, spooled(connection), topology=_topology(settings)
    )


async def query_server(
    connection: LedgerConnection, state: LedgerState, *, exact: bool = False
) -> None:
    """Asks the server for the rest of the state, and adds it.

    Raises:
        LedgerUnavailableError: the server does not answer.
        LedgerRefusedError: a permission is missing, or another version wrote the ledger.

    """
    server, namespace, ledger = (
        connection.server,
        connection.settings.namespace,
        connection.ledger(),
    )
    state.is_empty = not await ledger.exists()
    state.latency = await latency(server, namespace)
    state.nodes = await nodes(server, namespace)
    facts = await hello(server, namespace)
    versions = [node.version for node in state.nodes if node.version]
    said = f"{facts.get('server', '')} {facts.get('version', '')}".strip()
    state.version = ", ".join(dict.fromkeys(versions)) or said
    if len(state.nodes) > 1:
        state.topology = f"cluster, {len(state.nodes)} primaries"
    for what in SHELVES:
        state.contents[what] = await BucketSurvey(server, namespace, what, exact=exact).measure()
    node_keys = [node.key for node in state.nodes]
    state.runs = await survey_runs(server, ledger, namespace, node_keys, exact=exact)
    state.forecast = forecast(state, connection.settings.retention, time())


def spooled(connection: LedgerConnection) -> dict[str, int]:
    """Posts, pages and timelines in this machine's spool, which the next run delivers."""
    settings = connection.settings
    folder, at = settings.data_dir / "spool", f"{connection.spool_name}\n{settings.namespace}"
    found = {what: Spool(folder, at, shelf).waiting() for what, shelf in SHELVES.items()}
    return {what: number for what, number in found.items() if number}


def _topology(settings: DedupSettings) -> str:
    if settings.url is None:
        return "embedded server of this machine"
    url = parsed(settings.url)
    return _KINDS[url.kind] + (" with TLS" if url.tls else "")


def forecast(state: LedgerState, retention: float | None, now: float) -> Forecast | None:
    """How long the memory will last; None if there is no limit, or it is not known."""
    rooms = [
        max(node.limit - node.memory, 0)
        for node in state.nodes
        if node.limit is not None and node.memory is not None
    ]
    if not rooms:
        return None
    room, posts = min(rooms) * len(rooms), state.contents["posts"]
    each, rate = posts.bytes_each, rate_of_posts(posts, retention, now) or rate_of_runs(state, now)
    if each is None:
        return Forecast(room, None, rate, None)
    full_at = None
    if rate:
        held = inf if retention is None else rate * retention * _LONGEST_LIFE
        enough = (held - posts.entries) * each <= room
        full_at = inf if enough else now + room / (rate * each)
    return Forecast(room, int(room / each), rate, full_at)


def rate_of_posts(posts: Contents, retention: float | None, now: float) -> float | None:
    """Entries per second since the oldest live generation started; None if that is too short."""
    if retention is None:
        return None
    began = [
        each.ends - retention * _LONGEST_LIFE for each in posts.generations if each.ends != inf
    ]
    since = now - min(began, default=now)
    return posts.entries / since if since >= _YOUNGEST else None


def rate_of_runs(state: LedgerState, now: float) -> float | None:
    """New posts per second of the live runs; None if none is old enough."""
    notes = [note for run, note in state.runs.infos.items() if run in state.runs.alive]
    rates = [note.new / (now - note.start) for note in notes if now - note.start >= _YOUNGEST]
    return sum(rates) if rates else None


def as_json(state: LedgerState) -> dict[str, Any]:
    """The state as JSON, for ``--json``."""
    found: dict[str, Any] = {
        "ledger": state.location,
        "namespace": state.namespace,
        "spooled": dict(state.spooled),
    }
    if state.error:
        return {**found, "error": state.error}
    seen, future = state.runs, state.forecast
    return {
        **found,
        "empty": state.is_empty,
        "server": state.version,
        "topology": state.topology,
        "latency_ms": {"median": _ms(state.latency, 0.5), "slowest": _ms(state.latency, 1)},
        "namespaces": seen.namespaces,
        "holds": {what: _held(contents) for what, contents in state.contents.items()},
        "memory": [
            {
                "used": node.memory,
                "limit": node.limit,
                "policy": node.facts.get("maxmemory_policy"),
                "evicted": node.number("evicted_keys"),
            }
            for node in state.nodes
        ],
        "room": None if future is None else {
            "bytes": future.room,
            "posts": future.posts,
            "posts_a_day": None if future.rate is None else round(future.rate * 86400),
            "full_at": None if future.full_at in (None, inf) else future.full_at,
        },
        "runs": [_run(seen, run) for run in seen.alive],
        "claims": dict(seen.claims),
        "claims_of_dead_runs": seen.dead,
        "looked_at_all_keys": seen.is_complete,
        "refused": seen.refused,
    }  # fmt: skip


def _run(seen: RunSurvey, run: str) -> dict[str, Any]:
    """A run, with what it has reported about itself, if anything yet."""
    note = seen.infos.get(run)
    return {"run": run, **(vars(note) if note is not None else {})}


def _held(contents: Contents) -> dict[str, Any]:
    return {
        "entries": contents.entries,
        "exact": contents.is_exact,
        "bytes": contents.bytes,
        "bytes_each": None if contents.bytes_each is None else round(contents.bytes_each, 2),
        "generations": [
            {"ends": None if each.ends == inf else each.ends, "entries": each.entries}
            for each in contents.generations
        ],
    }


def quantile(times: list[float], share: float) -> float:
    """A quantile of times in ascending order."""
    return times[min(int(share * len(times)), len(times) - 1)]


def _ms(times: list[float], share: float) -> float:
    return round(1000 * quantile(times, share), 3)
