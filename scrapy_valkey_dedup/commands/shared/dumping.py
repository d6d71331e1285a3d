"""From a ledger into a file, while runs go on, and from a file into a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from scrapy_valkey_dedup.commands.shared.dump_format import KINDS, Head
from scrapy_valkey_dedup.commands.shared.dump_reader import DumpReader
from scrapy_valkey_dedup.commands.shared.dump_writer import DumpWriter
from scrapy_valkey_dedup.commands.shared.patient import Patient
from scrapy_valkey_dedup.commands.shared.place import SHELVES, Place
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.ledger import PARTITIONS, Ledger, tag
from scrapy_valkey_dedup.ledger.transfer import Shelf

Say = Callable[[str], object]
_IN_ORDER = ("pages", "timelines", "posts")
"""A page is done only when its posts are remembered: so with posts last, a file has those of its
pages."""


def _none() -> Counter[str]:
    return Counter(dict.fromkeys(KINDS, 0))


@dataclass(frozen=True)
class Dumped:
    """What came of a dump."""

    path: Path
    size: int
    """Bytes."""
    entries: Counter[str]
    """Posts, pages and timelines; what stands in two generations counts twice, as do fillers."""


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


async def dump(
    place: Place, path: str | Path, advance: Advance = lambda _: None, say: Say = lambda _: None
) -> Dumped:
    """Writes all that the namespace of a place remembers into a file.

    Raises:
        CommandError: there is no ledger, or the file cannot be written: none is left then.
        LedgerUnavailableError: there is an outage, for longer than ``PATIENCE``.

    """
    namespace = place.settings.namespace
    if not await place.ledger().look_at():
        raise CommandError(
            f"there is no ledger of the namespace {namespace!r} at {place.name}: `scrapy dedup "
            "status` shows which there are (--namespace)"
        )
    server, now = Patient(place.server, say), datetime.now(timezone.utc)
    head = Head(namespace, tag(namespace), now.isoformat(timespec="seconds"))
    with DumpWriter(path, head) as file:
        for kind in _IN_ORDER:
            shelf = Shelf(server, head.tag, SHELVES[kind])
            for partition in range(PARTITIONS):
                async for step in shelf.read(partition):
                    file.add(kind, step)
                    advance(step.size)
        file.finish()
        return Dumped(file.path, file.size, file.entries)


async def load(
    place: Place,
    file: DumpReader,
    namespace: str,
    advance: Advance = lambda _: None,
    say: Say = lambda _: None,
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
    await _open(place, namespace, [kind for kind in KINDS if found.entries[kind]])
    server = Patient(place.server, say)
    shelves = {kind: Shelf(server, tag(namespace), SHELVES[kind]) for kind in KINDS}
    for kind, step in file.steps():
        for bucket, added in zip(step.buckets, await shelves[kind].write(step), strict=True):
            if added < 0:
                found.over[kind] += len(bucket.members)
            else:
                found.new[kind] += added
        advance(step.size)
    return found


async def _open(place: Place, namespace: str, kinds: list[str]) -> None:
    """Sees that all may be written, before anything is."""
    for kind in dict.fromkeys(["posts", *kinds]):
        ledger = Ledger(
            place.server, namespace, place.run, retention=place.settings.retention,
            shelf=SHELVES[kind],
        )  # fmt: skip
        if kind == "posts":
            await ledger.open()
        else:
            await ledger.try_keys()
        await ledger.try_partitions()
