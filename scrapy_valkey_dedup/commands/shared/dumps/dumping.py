"""From a ledger into a file, while runs go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from scrapy_valkey_dedup.commands.shared.connection import SHELVES, LedgerConnection
from scrapy_valkey_dedup.commands.shared.dumps.format import Head
from scrapy_valkey_dedup.commands.shared.dumps.writer import DumpWriter
from scrapy_valkey_dedup.commands.shared.retrying_client import Patient
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.commands.shared.status.runs import survey_runs
from scrapy_valkey_dedup.commands.shared.status.server import nodes
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.keys import LAYOUT, PARTITIONS, namespace_tag
from scrapy_valkey_dedup.ledger.transfer import Shelf
from scrapy_valkey_dedup.model import TRIAL_MARK
from scrapy_valkey_dedup.valkey.resp import command

_IN_ORDER = ("pages", "timelines", "posts")
"""A page is done only when its posts are remembered: so with posts last, a file has those of its
pages."""


@dataclass(frozen=True)
class Dumped:
    """What came of a dump."""

    head: Head
    path: Path
    size: int
    """Bytes."""
    entries: Counter[str]
    """Posts, pages and timelines; what stands in two generations counts twice, as do fillers."""


async def dump(
    connection: LedgerConnection,
    path: str | Path,
    advance: Advance = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
    *,
    named: str = "",
) -> Dumped:
    """Writes all that a namespace remembers into a file.

    ``named``: a namespace as it stands in keys, instead of that of the settings.

    Raises:
        CommandError: there is no ledger, or the file cannot be written: none is left then.
        LedgerUnavailableError: there is an outage, for longer than ``PATIENCE``.

    """
    head = _head(connection, named or namespace_tag(connection.settings.namespace))
    await _check(connection, head)
    server = Patient(connection.server, say)
    with DumpWriter(path, head) as file:
        for kind in _IN_ORDER:
            shelf = Shelf(server, head.tag, SHELVES[kind])
            for partition in range(PARTITIONS):
                async for step in shelf.read(partition):
                    file.add(kind, step)
                    advance(step.size)
        file.finish()
        return Dumped(head, file.path, file.size, file.entries)


def _head(connection: LedgerConnection, named: str) -> Head:
    own, now = connection.settings.namespace, datetime.now(timezone.utc)
    name = own if named == namespace_tag(own) else named if named == namespace_tag(named) else None
    return Head(name, named, now.isoformat(timespec="seconds"))


async def _check(connection: LedgerConnection, head: Head) -> None:
    await connection.ledger().exists()
    key = f"vd1:{{{head.tag}}}:layout"
    (found,) = await connection.server.ask(command("GET", key), key=key)
    if found is None:
        raise CommandError(
            f"there is no ledger of the namespace {head.namespace!r} at {connection.name}: `scrapy "
            "dedup status` shows which there are (--namespace)"
        )
    if found != LAYOUT.encode():
        raise CommandError(
            f"the ledger of the namespace {head.tag!r} has layout {found!r:.20}; this version of "
            f"scrapy-valkey-dedup reads layout {LAYOUT}: install the version that wrote it"
        )


async def namespaces(connection: LedgerConnection) -> list[str]:
    """All that are on the servers of a place, as they stand in keys; without those of trials.

    Raises:
        CommandError: the user may not look for them.

    """
    own = connection.settings.namespace
    keys = [node.key for node in await nodes(connection.server, own)]
    found = await survey_runs(connection.server, connection.ledger(), own, keys, exact=True)
    if found.refused:
        raise CommandError(found.refused)
    return [name for name in found.namespaces if TRIAL_MARK not in name]
