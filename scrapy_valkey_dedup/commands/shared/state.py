"""All that an operator may want to know of a ledger, as one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import Any

from scrapy_valkey_dedup.commands.shared.buckets import Contents, Walk
from scrapy_valkey_dedup.commands.shared.place import SHELVES, Place
from scrapy_valkey_dedup.commands.shared.runs import Sighted, sighted
from scrapy_valkey_dedup.commands.shared.server import Node, hello, latency, nodes
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.valkey.urls import parsed

_LONGEST_LIFE = 1.5
"""A post is kept for so many retentions at most: docs/ledger.md."""
_YOUNGEST = 3600.0
"""Seconds for which a ledger must have been filled before that tells a rate."""
_KINDS = {"server": "one server", "sentinel": "Sentinel", "cluster": "cluster"}


@dataclass(frozen=True)
class Forecast:
    """How long the memory lasts."""

    room: int
    """Bytes that are free, on the server that has the least of them, times the servers."""
    posts: int | None
    """For which there is room, about."""
    rate: float | None
    """Posts a second that were remembered of late; None: not known."""
    full_at: float | None
    """Seconds since 1970; ``inf``: at this rate what is forgotten makes enough room."""


@dataclass
class State:
    """What is known of a ledger."""

    place: str
    namespace: str
    spooled: Mapping[str, int] = field(default_factory=dict)
    """Posts, pages and sightings that wait on this machine's disk."""
    trouble: str = ""
    """Why the rest is not known."""
    is_empty: bool = False
    """No run has been here yet."""
    version: str = ""
    topology: str = ""
    latency: list[float] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    holds: dict[str, Contents] = field(default_factory=dict)
    sighted: Sighted = field(default_factory=Sighted)
    forecast: Forecast | None = None


def begun(place: Place) -> State:
    """What is known without asking the server."""
    settings = place.settings
    return State(place.name, settings.namespace, spooled(place), topology=_topology(settings))


async def look(place: Place, state: State, *, exact: bool = False) -> None:
    """Asks the server for the rest.

    Raises:
        LedgerUnavailableError: it does not answer.
        LedgerRefusedError: it may not be asked, or the ledger is that of another version.

    """
    server, namespace, ledger = place.server, place.settings.namespace, place.ledger()
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
        state.holds[what] = await Walk(server, namespace, what, exact=exact).contents()
    places = [node.key for node in state.nodes]
    state.sighted = await sighted(server, ledger, namespace, places, exact=exact)
    state.forecast = forecast(state, place.settings.retention, time())


def spooled(place: Place) -> dict[str, int]:
    """What waits on this machine's disk until the next run delivers it."""
    settings = place.settings
    folder, at = settings.data_dir / "spool", f"{place.name}\n{settings.namespace}"
    found = {what: Spool(folder, at, shelf).waiting() for what, shelf in SHELVES.items()}
    return {what: number for what, number in found.items() if number}


def _topology(settings: DedupSettings) -> str:
    if settings.url is None:
        return "embedded server of this machine"
    url = parsed(settings.url)
    return _KINDS[url.kind] + (" with TLS" if url.tls else "")


def forecast(state: State, retention: float | None, now: float) -> Forecast | None:
    """What the memory is good for; None if there is no limit, or nobody may know it."""
    rooms = [
        max(node.limit - node.memory, 0)
        for node in state.nodes
        if node.limit is not None and node.memory is not None
    ]
    if not rooms:
        return None
    room, posts = min(rooms) * len(rooms), state.holds["posts"]
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
    """Entries a second, since the oldest generation that is alive began."""
    if retention is None:
        return None
    began = [
        each.ends - retention * _LONGEST_LIFE for each in posts.generations if each.ends != inf
    ]
    since = now - min(began, default=now)
    return posts.entries / since if since >= _YOUNGEST else None


def rate_of_runs(state: State, now: float) -> float | None:
    """New posts a second of the runs that are at work."""
    notes = [note for run, note in state.sighted.notes.items() if run in state.sighted.alive]
    rates = [note.new / (now - note.start) for note in notes if now - note.start >= _YOUNGEST]
    return sum(rates) if rates else None


def as_json(state: State) -> dict[str, Any]:
    """For machines."""
    found: dict[str, Any] = {
        "ledger": state.place,
        "namespace": state.namespace,
        "spooled": dict(state.spooled),
    }
    if state.trouble:
        return {**found, "error": state.trouble}
    seen, future = state.sighted, state.forecast
    return {
        **found,
        "empty": state.is_empty,
        "server": state.version,
        "topology": state.topology,
        "latency_ms": {"median": _ms(state.latency, 0.5), "slowest": _ms(state.latency, 1)},
        "namespaces": seen.namespaces,
        "holds": {what: _held(contents) for what, contents in state.holds.items()},
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
        "looked_at_all_keys": seen.is_whole,
        "refused": seen.refused,
    }  # fmt: skip


def _run(seen: Sighted, run: str) -> dict[str, Any]:
    """What a run says of itself, as soon as it has said anything."""
    note = seen.notes.get(run)
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
    """Of sorted times."""
    return times[min(int(share * len(times)), len(times) - 1)]


def _ms(times: list[float], share: float) -> float:
    return round(1000 * quantile(times, share), 3)
