"""Writes a ledger into a file, while runs use it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from scrapy_valkey_dedup.commands.shared.connection import SHELVES, LedgerConnection
from scrapy_valkey_dedup.commands.shared.dumps.format import Header
from scrapy_valkey_dedup.commands.shared.dumps.writer import DumpWriter
from scrapy_valkey_dedup.commands.shared.retrying_client import RetryingClient
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.commands.shared.status.runs import survey_runs
from scrapy_valkey_dedup.commands.shared.status.server import nodes
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.keys import LAYOUT, PARTITIONS, namespace_tag
from scrapy_valkey_dedup.ledger.transfer import ShelfBuckets
from scrapy_valkey_dedup.model import TRIAL_MARK
from scrapy_valkey_dedup.valkey.resp import command

_IN_ORDER = ("pages", "timelines", "posts")
"""Posts come last. A page is remembered only after its posts, so a file that has a page has all of
its posts."""


@dataclass(frozen=True)
class DumpResult:
    """The result of a dump."""

    header: Header
    path: Path
    size: int
    """Bytes of the file."""
    entries: Counter[str]
    """By kind. An entry that is in two generations counts twice; fillers count, too."""


async def dump(
    connection: LedgerConnection,
    path: str | Path,
    advance: Advance = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
    *,
    named: str = "",
) -> DumpResult:
    """Writes all that a namespace remembers into a file.

    ``named``: a namespace as it is written in keys, instead of the one in the settings. ``say`` is
    called with a message when an outage starts.

    Raises:
        CommandError: there is no ledger, or the file cannot be written. No file is left then.
        LedgerUnavailableError: the server did not answer for ``PATIENCE`` seconds.

    """
    header = _header(connection, named or namespace_tag(connection.settings.namespace))
    await _check(connection, header)
    server = RetryingClient(connection.server, say)
    with DumpWriter(path, header) as file:
        for kind in _IN_ORDER:
            shelf = ShelfBuckets(server, header.tag, SHELVES[kind])
            for partition in range(PARTITIONS):
                async for batch in shelf.read(partition):
                    file.add(kind, batch)
                    advance(batch.size)
        file.finish()
        return DumpResult(header, file.path, file.size, file.entries)


def _header(connection: LedgerConnection, named: str) -> Header:
    own, now = connection.settings.namespace, datetime.now(timezone.utc)
    name = own if named == namespace_tag(own) else named if named == namespace_tag(named) else None
    return Header(name, named, now.isoformat(timespec="seconds"))


async def _check(connection: LedgerConnection, header: Header) -> None:
    await connection.ledger().exists()
    key = f"vd1:{{{header.tag}}}:layout"
    (found,) = await connection.server.ask(command("GET", key), key=key)
    if found is None:
        raise CommandError(
            f"there is no ledger of the namespace {header.namespace!r} at {connection.name}: "
            "`scrapy dedup status` shows which there are (--namespace)"
        )
    if found != LAYOUT.encode():
        raise CommandError(
            f"the ledger of the namespace {header.tag!r} has layout {found!r:.20}; this version of "
            f"scrapy-valkey-dedup reads layout {LAYOUT}: install the version that wrote it"
        )


async def namespaces(connection: LedgerConnection) -> list[str]:
    """All namespaces of a server, as they are written in keys, without trials.

    Raises:
        CommandError: the user has no permission to search for them.

    """
    own = connection.settings.namespace
    keys = [node.key for node in await nodes(connection.server, own)]
    found = await survey_runs(connection.server, connection.ledger(), own, keys, exact=True)
    if found.refused:
        raise CommandError(found.refused)
    return [name for name in found.namespaces if TRIAL_MARK not in name]
