"""Which runs are at work, and what they and dead ones have claimed: by SCAN, in steps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from time import monotonic

from scrapy_valkey_dedup.commands.shared.connection import SHELVES
from scrapy_valkey_dedup.ledger.keys import namespace_tag
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import is_held, run_of
from scrapy_valkey_dedup.model import CommandRefusedError, LedgerRefusedError, LedgerReplyError
from scrapy_valkey_dedup.stats import RunInfo
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

_STEP = 1000
"""Keys that one SCAN looks at: well under a millisecond of the server's time."""
_PATTERN = "vd1:{*}:[crl]*"
"""Claims, runs, replies, layouts, of all namespaces: all keys but the buckets."""
_AT_ONCE = 500
_LONGEST = 2.0
"""Seconds for which keys are looked at, unless all are asked for."""
_LAYOUT = re.compile(r"vd1:\{(.*)\}:layout")


@dataclass
class RunSurvey:
    """What is at work in a namespace."""

    namespaces: list[str] = field(default_factory=list)
    """As they stand in keys."""
    alive: list[str] = field(default_factory=list)
    """The runs with a heartbeat."""
    infos: dict[str, RunInfo] = field(default_factory=dict)
    """What the runs say of themselves, dead ones for a while too."""
    claims: Counter[str] = field(default_factory=Counter)
    """Open claims, on posts, pages and sightings, by run."""
    is_complete: bool = True
    """Whether all keys were looked at."""
    refused: str = ""
    """Why nothing could be looked at."""

    @property
    def dead(self) -> dict[str, int]:
        """The claims of runs that are dead, by run."""
        return {run: number for run, number in self.claims.items() if run not in self.alive}


async def survey_runs(
    server: Client, ledger: Ledger, namespace: str, node_keys: Sequence[str], *, exact: bool = False
) -> RunSurvey:
    """Looks at all servers; ``node_keys`` are keys of each."""
    found, names, claims = RunSurvey(), set[str](), list[str]()
    root = re.escape(namespace_tag(namespace))
    of_runs = re.compile(rf"vd1:\{{{root}\}}:run:(.*)", re.DOTALL)
    shelves = "|".join(re.escape(f"+{shelf}") for shelf in SHELVES.values() if shelf)
    of_claims = re.compile(rf"vd1:\{{{root}(?:{shelves})?:[0-9a-f]{{2}}\}}:c:.*", re.DOTALL)
    until = None if exact else monotonic() + _LONGEST
    runs = set[str]()
    try:
        for node_key in node_keys:
            async for keys in _keys(server, node_key, until):
                for key in keys or ():
                    if match := of_runs.fullmatch(key):
                        runs.add(match[1])
                    elif of_claims.fullmatch(key):
                        claims.append(key)
                    elif match := _LAYOUT.fullmatch(key):
                        names.add(match[1])
                found.is_complete &= keys is not None
            found.claims += await _holders(server, claims, node_key)
            claims.clear()
    except (CommandRefusedError, LedgerRefusedError, LedgerReplyError) as error:
        return RunSurvey(is_complete=False, refused=str(error))
    found.namespaces = sorted(names)
    # Those that have claimed were not all met where not all was looked at; and heartbeats end.
    known = sorted(runs | set(found.claims))
    beats = await ledger.runs.read_heartbeats(known) if known else []
    found.alive = [run for run, beat in zip(known, beats, strict=True) if beat is not None]
    written = await ledger.runs.read_infos(known) if known else []
    notes = {run: RunInfo.from_json(each) for run, each in zip(known, written, strict=True)}
    found.infos = {run: note for run, note in notes.items() if note is not None}
    return found


async def _keys(
    server: Client, node_key: str, until: float | None
) -> AsyncIterator[list[str] | None]:
    """The keys of one server that match; None if the time is up before the end."""
    cursor = b"0"
    while True:
        scan = command("SCAN", cursor, "MATCH", _PATTERN, "COUNT", _STEP)
        ((cursor, found),) = await server.ask(scan, key=node_key)
        yield [key.decode("utf-8", "replace") for key in found]
        if cursor == b"0":
            return
        if until is not None and monotonic() > until:
            yield None
            return


async def _holders(server: Client, claims: Sequence[str], node_key: str) -> Counter[str]:
    """Who holds them."""
    found: Counter[str] = Counter()
    names = list(dict.fromkeys(claims))  # SCAN may tell a key twice
    for start in range(0, len(names), _AT_ONCE):
        asked = [command("GET", name) for name in names[start : start + _AT_ONCE]]
        values = await server.ask(*asked, key=node_key)
        found.update(run_of(value) for value in values if value and is_held(value))
    return found
