"""Formats the state of a ledger for Prometheus's textfile collector."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from scrapy_valkey_dedup.commands.shared.status.runs import RunSurvey
from scrapy_valkey_dedup.commands.shared.status.server import Node
from scrapy_valkey_dedup.commands.shared.status.state import LedgerState, quantile

_PREFIX = "scrapy_valkey_dedup_"


def metrics(state: LedgerState) -> list[str]:
    """The lines of all metrics; only ``up`` and ``spooled`` if the ledger does not answer."""
    lines: list[str] = []
    for name, about, samples in _metrics(state):
        if samples:
            lines += [f"# HELP {_PREFIX}{name} {about}", f"# TYPE {_PREFIX}{name} gauge"]
        for own, value in samples:
            labels = {"namespace": state.namespace, **own}
            listed = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            lines.append(f"{_PREFIX}{name}{{{listed}}} {value:.15g}")
    return lines


_Samples = list[tuple[dict[str, str], float]]


def _metrics(state: LedgerState) -> Iterator[tuple[str, str, _Samples]]:
    spooled = [({"kind": what}, float(state.spooled.get(what, 0))) for what in _kinds(state)]
    yield "up", "Whether the ledger answers.", [({}, float(not state.error))]
    yield "spooled", "Confirmations that wait on this machine's disk.", spooled
    if state.error:
        return
    times = [({"quantile": str(share)}, quantile(state.latency, share)) for share in (0.5, 0.99)]
    yield "round_trip_seconds", "Round trips to the server.", times
    held = [({"kind": what}, float(each.entries)) for what, each in state.contents.items()]
    yield "entries", "What is remembered.", held
    weighed = [
        ({"kind": what}, float(each.bytes))
        for what, each in state.contents.items()
        if each.bytes is not None
    ]
    yield "entries_bytes", "Memory of what is remembered, about.", weighed
    yield from _of_nodes(state)
    if (future := state.forecast) is not None:
        yield "room_bytes", "Memory that is free, below maxmemory.", [({}, float(future.room))]
        if future.full_at not in (None, inf):
            yield "full_time_seconds", "When memory is full at this rate.", [({}, future.full_at)]
    if not state.runs.refused:
        yield from _of_runs(state.runs)


def _of_nodes(state: LedgerState) -> Iterator[tuple[str, str, _Samples]]:
    for name, about, fact in _OF_NODES:
        found = [(node, node.number(fact)) for node in state.nodes]
        known = [
            ({"node": _name(state, node)}, float(number))
            for node, number in found
            if number is not None
        ]
        yield name, about, known


def _of_runs(seen: RunSurvey) -> Iterator[tuple[str, str, _Samples]]:
    alive = sum(seen.claims[run] for run in seen.alive)
    dead = sum(seen.dead.values())
    claims: _Samples = [({"run": "alive"}, float(alive)), ({"run": "dead"}, float(dead))]
    yield "runs", "Runs that are alive.", [({}, float(len(seen.alive)))]
    yield "claims", "Open claims.", claims
    notes = [(run, seen.infos[run]) for run in seen.alive if run in seen.infos]
    for name in ("open", "new", "duplicate"):
        samples = [
            ({"run": run, "spider": note.spider, "host": note.host}, float(getattr(note, name)))
            for run, note in notes
        ]
        yield f"run_{name}", f"Posts of a run so far: {name}.", samples


_OF_NODES = (
    ("memory_bytes", "Memory of the server.", "used_memory"),
    ("memory_limit_bytes", "maxmemory of the server; 0: none.", "maxmemory"),
    ("evicted_keys", "Keys that the server has evicted since its start.", "evicted_keys"),
)


def _kinds(state: LedgerState) -> list[str]:
    return list(state.contents) or list(state.spooled) or ["posts"]


def _name(state: LedgerState, node: Node) -> str:
    return str(state.nodes.index(node))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
