"""From the file of a dump into a ledger: what it has is remembered besides what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from scrapy_valkey_dedup.commands.shared.connection import SHELVES, LedgerConnection
from scrapy_valkey_dedup.commands.shared.dumps.format import KINDS
from scrapy_valkey_dedup.commands.shared.dumps.reader import DumpReader
from scrapy_valkey_dedup.commands.shared.retrying_client import Patient
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.ledger.keys import namespace_tag
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.transfer import Shelf


def _none() -> Counter[str]:
    return Counter(dict.fromkeys(KINDS, 0))


@dataclass
class Loaded:
    """What came of loading a dump."""

    namespace: str
    entries: Counter[str]
    """What the file has."""
    new: Counter[str] = field(default_factory=_none)
    """What stood not yet where it belongs."""
    over: Counter[str] = field(default_factory=_none)
    """What has ended since the dump."""


async def load(
    connection: LedgerConnection,
    file: DumpReader,
    namespace: str,
    advance: Advance = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
) -> Loaded:
    """Remembers in a namespace what a file has, until the same moments. Nothing there is forgotten.

    The whole file is verified before anything is written.

    Raises:
        CommandError: the file was cut off or altered.
        LedgerRefusedError: a permission is missing.
        LedgerUnavailableError: there is an outage, for longer than ``PATIENCE``. What was loaded
            stays; to load the file again does the rest.

    """
    found = Loaded(namespace, file.verify())
    await _open(connection, namespace, [kind for kind in KINDS if found.entries[kind]])
    server = Patient(connection.server, say)
    shelves = {kind: Shelf(server, namespace_tag(namespace), SHELVES[kind]) for kind in KINDS}
    for kind, step in file.steps():
        for bucket, added in zip(step.buckets, await shelves[kind].write(step), strict=True):
            if added < 0:
                found.over[kind] += len(bucket.members)
            else:
                found.new[kind] += added
        advance(step.size)
    return found


async def _open(connection: LedgerConnection, namespace: str, kinds: list[str]) -> None:
    """Sees that all may be written, before anything is."""
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
