"""Finds the runs that use a namespace, alive and dead, and their claims, by SCAN in steps."""

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
"""Keys per SCAN; one takes the server well under a millisecond."""
_PATTERN = "vd1:{*}:[crl]*"
"""Matches claims, runs, replies and layouts of all namespaces: all keys except buckets."""
_AT_ONCE = 500
_LONGEST = 2.0
"""Seconds after which the search for keys stops, unless it is to be exact."""
_LAYOUT = re.compile(r"vd1:\{(.*)\}:layout")


@dataclass
class RunSurvey:
    """The runs that use a namespace, their claims, and the namespaces of the server."""

    namespaces: list[str] = field(default_factory=list)
    """All namespaces of the server, as they are written in keys."""
    alive: list[str] = field(default_factory=list)
    """Runs that have a heartbeat."""
    infos: dict[str, RunInfo] = field(default_factory=dict)
    """What each run has reported about itself. It is kept for a while after a run's death."""
    claims: Counter[str] = field(default_factory=Counter)
    """Open claims on posts, pages and timelines, by run."""
    is_complete: bool = True
    """Whether all keys were searched."""
    refused: str = ""
    """Why the search was refused, such as a missing permission; "" if it was not."""

    @property
    def dead(self) -> dict[str, int]:
        """The open claims of dead runs, by run."""
        return {run: number for run, number in self.claims.items() if run not in self.alive}


async def survey_runs(
    server: Client, ledger: Ledger, namespace: str, node_keys: Sequence[str], *, exact: bool = False
) -> RunSurvey:
    """Searches every node; ``node_keys`` has one key of each."""
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
    # A heartbeat may have expired, or not have been found; then a claim still names its run.
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
    """The matching keys of one node; None at the end if the time was too short for all."""
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
    """The runs that hold the claims, with the number of claims of each."""
    found: Counter[str] = Counter()
    names = list(dict.fromkeys(claims))  # SCAN may return a key twice
    for start in range(0, len(names), _AT_ONCE):
        asked = [command("GET", name) for name in names[start : start + _AT_ONCE]]
        values = await server.ask(*asked, key=node_key)
        found.update(run_of(value) for value in values if value and is_held(value))
    return found
