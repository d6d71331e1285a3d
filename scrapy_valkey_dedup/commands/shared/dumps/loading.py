"""Adds the entries of a dump to a ledger, and keeps those that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from scrapy_valkey_dedup.commands.shared.connection import SHELVES, LedgerConnection
from scrapy_valkey_dedup.commands.shared.dumps.format import KINDS
from scrapy_valkey_dedup.commands.shared.dumps.reader import DumpReader
from scrapy_valkey_dedup.commands.shared.retrying_client import RetryingClient
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.ledger.keys import namespace_tag
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.transfer import ShelfBuckets


def _zeros() -> Counter[str]:
    return Counter(dict.fromkeys(KINDS, 0))


@dataclass
class LoadResult:
    """The result of loading a dump; counts are by kind."""

    namespace: str
    entries: Counter[str]
    """Entries in the file."""
    new: Counter[str] = field(default_factory=_zeros)
    """Entries that were not in their bucket yet."""
    expired: Counter[str] = field(default_factory=_zeros)
    """Entries that have expired since the dump."""


async def load(
    connection: LedgerConnection,
    file: DumpReader,
    namespace: str,
    advance: Advance = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
) -> LoadResult:
    """Adds the entries of a file to a namespace, with the same ends. Forgets nothing there.

    The whole file is checked before anything is written. ``say`` is called with a message when an
    outage starts.

    Raises:
        CommandError: the file is incomplete or damaged.
        LedgerRefusedError: a permission is missing.
        LedgerUnavailableError: the server did not answer for ``PATIENCE`` seconds. What was loaded
            stays; loading the file again adds the rest.

    """
    found = LoadResult(namespace, file.verify())
    await _open(connection, namespace, [kind for kind in KINDS if found.entries[kind]])
    server = RetryingClient(connection.server, say)
    shelves = {
        kind: ShelfBuckets(server, namespace_tag(namespace), SHELVES[kind]) for kind in KINDS
    }
    for kind, batch in file.batches():
        for bucket, added in zip(batch.buckets, await shelves[kind].write(batch), strict=True):
            if added < 0:
                found.expired[kind] += len(bucket.members)
            else:
                found.new[kind] += added
        advance(batch.size)
    return found


async def _open(connection: LedgerConnection, namespace: str, kinds: list[str]) -> None:
    """Opens the ledger, and checks the permission to write each kind of key."""
    for kind in dict.fromkeys(["posts", *kinds]):
        ledger = Ledger(
            connection.server, namespace, connection.run, retention=connection.settings.retention,
            shelf=SHELVES[kind],
        )  # fmt: skip
        if kind == "posts":
            await ledger.open()
        else:
            await ledger.probe.check_keys()
        await ledger.probe.check_partitions()
