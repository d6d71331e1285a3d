"""The state of a ledger as Prometheus reads it, for a textfile collector."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from scrapy_valkey_dedup.commands.shared.runs import Sighted
from scrapy_valkey_dedup.commands.shared.server import Node
from scrapy_valkey_dedup.commands.shared.state import State, quantile

_PREFIX = "scrapy_valkey_dedup_"


def metrics(state: State) -> list[str]:
    """The lines; of a ledger that does not answer ``up`` and what waits on this machine."""
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


def _metrics(state: State) -> Iterator[tuple[str, str, _Samples]]:
    spooled = [({"kind": what}, float(state.spooled.get(what, 0))) for what in _kinds(state)]
    yield "up", "Whether the ledger answers.", [({}, float(not state.trouble))]
    yield "spooled", "Confirmations that wait on this machine's disk.", spooled
    if state.trouble:
        return
    times = [({"quantile": str(share)}, quantile(state.latency, share)) for share in (0.5, 0.99)]
    yield "round_trip_seconds", "Round trips to the server.", times
    held = [({"kind": what}, float(each.entries)) for what, each in state.holds.items()]
    yield "entries", "What is remembered.", held
    weighed = [
        ({"kind": what}, float(each.bytes))
        for what, each in state.holds.items()
        if each.bytes is not None
    ]
    yield "entries_bytes", "Memory of what is remembered, about.", weighed
    yield from _of_nodes(state)
    if (future := state.forecast) is not None:
        yield "room_bytes", "Memory that is free, below maxmemory.", [({}, float(future.room))]
        if future.full_at not in (None, inf):
            yield "full_time_seconds", "When memory is full at this rate.", [({}, future.full_at)]
    if not state.sighted.refused:
        yield from _of_runs(state.sighted)


def _of_nodes(state: State) -> Iterator[tuple[str, str, _Samples]]:
    for name, about, fact in _OF_NODES:
        found = [(node, node.number(fact)) for node in state.nodes]
        known = [
            ({"node": _name(state, node)}, float(number))
            for node, number in found
            if number is not None
        ]
        yield name, about, known


def _of_runs(seen: Sighted) -> Iterator[tuple[str, str, _Samples]]:
    alive = sum(seen.claims[run] for run in seen.alive)
    dead = sum(seen.dead.values())
    claims: _Samples = [({"run": "alive"}, float(alive)), ({"run": "dead"}, float(dead))]
    yield "runs", "Runs that are alive.", [({}, float(len(seen.alive)))]
    yield "claims", "Open claims.", claims
    notes = [(run, seen.notes[run]) for run in seen.alive if run in seen.notes]
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


def _kinds(state: State) -> list[str]:
    return list(state.holds) or list(state.spooled) or ["posts"]


def _name(state: State, node: Node) -> str:
    return str(state.nodes.index(node))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
