"""Forgets posts one by one, or whole parts of a namespace, without the command line."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from scrapy_valkey_dedup.commands.shared.connection import SHELVES, LedgerConnection
from scrapy_valkey_dedup.commands.shared.forgetting.shelf_keys import (
    ShelfCounts,
    ShelfKeys,
    delete_notes,
    living_runs,
    trials,
)
from scrapy_valkey_dedup.commands.shared.moments import moment
from scrapy_valkey_dedup.commands.shared.records.identification import (
    IdentifiedBlock,
    RecordIdentifier,
)
from scrapy_valkey_dedup.commands.shared.records.sources import Source
from scrapy_valkey_dedup.commands.shared.screen import Advance, no_progress
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Key, LedgerRefusedError
from scrapy_valkey_dedup.session.keyset import KeySet
from scrapy_valkey_dedup.valkey.resp import command

WHOLE = "namespace"
"""Selects all of a namespace: posts, pages, timelines and trials."""
NOTHING_SINCE = (
    "no entry is kept long enough to have been stored since then. If a run's retention is shorter "
    "than here, as in the custom_settings of a spider, add --spider NAME or "
    "-s VALKEY_DEDUP_RETENTION=..."
)
"""Shown if ``since`` selects nothing."""
_BATCH = 5000


@dataclass
class FoundPosts:
    """The posts of a source that the ledger remembers, and the claims on them."""

    keys: KeySet = field(default_factory=KeySet)
    """The keys of the remembered posts."""
    read: IdentifiedBlock = field(default_factory=IdentifiedBlock)
    """The counts of all records that were read; its ``keys`` stay empty."""
    claims: Counter[str] = field(default_factory=Counter)
    """Open claims on the posts, by run."""


async def find_posts(
    ledger: Ledger, identifier: RecordIdentifier, origin: Source, advance: Advance = no_progress
) -> FoundPosts:
    """Finds a source's remembered and claimed posts. Uses 16 bytes of memory per post."""
    found = FoundPosts()
    for block in origin.blocks():
        made = identifier.identify_block(block)
        if not found.read.records:
            made.check_usable(origin.name)
        found.read.records += made.records
        found.read.bad.join(made.bad)
        found.read.unkeyed.join(made.unkeyed)
        keys = list(dict.fromkeys(made.keys))
        for key, standing in zip(keys, await ledger.inspect_many(keys), strict=True):
            if standing.until is not None:
                found.keys.add(key)
            if standing.holder is not None:
                found.claims[standing.holder] += 1
        advance(block.size)
    return found


async def forget(ledger: Ledger, keys: KeySet, advance: Advance = no_progress) -> int:
    """Forgets posts; returns how many of them were remembered."""
    forgotten, rest = 0, iter(keys)
    while some := list[Key](islice(rest, _BATCH)):
        forgotten += await ledger.forget_many(some)
        advance(len(some))
    return forgotten


@dataclass
class NamespaceParts:
    """Parts of a namespace that are forgotten as a whole; see :func:`select_parts`."""

    shelves: dict[str, ShelfKeys]
    """By their description: "posts", or "posts of the trial x"."""
    namespaces: list[LedgerConnection]
    """The namespace and its trials, if all of each is forgotten; otherwise empty."""
    held: dict[str, ShelfCounts] = field(default_factory=dict)
    """The counts of each shelf, after :meth:`count`."""

    async def count(self, advance: Advance = no_progress) -> None:
        """Counts the entries and claims of the shelves."""
        self.held = {name: await shelf.count(advance) for name, shelf in self.shelves.items()}

    @property
    def total(self) -> int:
        """Entries; one that is in two generations counts twice."""
        return sum(each.remembered for each in self.held.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is remembered or claimed there."""
        return not any(
            each.remembered or each.endless or each.claims for each in self.held.values()
        )

    @property
    def listed(self) -> str:
        """What is remembered, by kind: "1 page, about 2,000 posts"."""
        found = {name: held for name, held in self.held.items() if held.remembered}
        return ", ".join(_counted(name, held) for name, held in found.items()) or "nothing"

    @property
    def endless(self) -> int:
        """Entries that ``since`` cannot select: they are kept forever, without a date."""
        return sum(each.endless for each in self.held.values())

    async def claims_of_living_runs(self) -> dict[str, int]:
        """Open claims of live runs, by run. A trial has its own heartbeats."""
        found = Counter[str]()
        for name, held in self.held.items():
            ledger = self.shelves[name].connection.ledger(own=True)
            found.update(await claims_of_living_runs(ledger, held.claims))
        return dict(found)

    @property
    def began(self) -> float | None:
        """With ``since``: when the oldest selected generation started, in seconds since 1970."""
        found = min((each.began for each in self.held.values()), default=inf)
        return None if found == inf else found

    @property
    def is_undated(self) -> bool:
        """Whether some entries end later than any that is stored now; their age is unknown."""
        return any(each.is_undated for each in self.held.values())

    async def clear(self, advance: Advance = no_progress) -> None:
        """Forgets all entries, and the history if the whole namespace is forgotten. Claims stay."""
        for shelf in self.shelves.values():
            await shelf.clear(advance)
        for connection in self.namespaces:
            await delete_notes(connection)

    async def delete_ledger_keys(self) -> bool:
        """Deletes the ledgers' identities, so that spools are not delivered to them.

        All stay if a run is alive: it may yet have to deliver what was stored in an outage.
        Returns whether they were deleted.
        """
        for connection in self.namespaces:
            if await living_runs(connection):
                return False
        for connection in self.namespaces:
            names = connection.ledger().namespace_keys
            await connection.server.ask(*(command("DEL", name) for name in names), key=names[0])
        return bool(self.namespaces)


async def select_parts(
    connection: LedgerConnection, what: str, since: float | None = None
) -> NamespaceParts:
    """Selects ``posts``, ``pages`` or ``timelines`` of a namespace, or all three (``WHOLE``).

    ``WHOLE`` without ``since`` includes the namespace's trials. ``since``: only generations that
    were written since then, in seconds since 1970.
    """
    namespaces, whole = {"": connection}, what == WHOLE and since is None
    if whole:
        namespaces |= {
            f" of the trial {name}": connection.trial(name) for name in await trials(connection)
        }
    shelves = {
        f"{kind}{whose}": ShelfKeys(of, kind, since=since)
        for whose, of in namespaces.items()
        for kind in (SHELVES if what == WHOLE else [what])
    }
    return NamespaceParts(shelves, list(namespaces.values()) if whole else [])


async def claims_of_living_runs(ledger: Ledger, claims: Counter[str]) -> dict[str, int]:
    """The claims of runs that have a heartbeat."""
    runs = list(claims)
    beats = await ledger.runs.read_heartbeats(runs) if runs else []
    return {run: claims[run] for run, beat in zip(runs, beats, strict=True) if beat is not None}


def _counted(name: str, held: ShelfCounts) -> str:
    """A count with what is counted: "1 page", or "about 2,000 posts of the trial x"."""
    noun, space, whose = name.partition(" ")
    said = "" if held.is_exact else "about "
    noun = noun.removesuffix("s") if held.remembered == 1 else noun
    return f"{said}{held.remembered:,} {noun}{space}{whose}"


async def no_such_ledger(connection: LedgerConnection) -> CommandError:
    """The error that there is no such namespace, or no such trial of it."""
    settings, hint = connection.settings, ""
    if settings.trial is None:
        return CommandError(
            f"there is no ledger of the namespace {settings.namespace!r} at {connection.name}: "
            "`scrapy dedup status` shows which there are (--namespace)"
        )
    with suppress(LedgerRefusedError):  # without the permission +scan
        hint = f"; there are: {', '.join(await trials(connection.tried)) or 'none'}"
    return CommandError(
        f"there is no trial {settings.trial!r} of the namespace {settings.tried_namespace!r} at "
        f"{connection.name}{hint}"
    )


def since_when(parts: NamespaceParts, since: float | None) -> str:
    """Says for ``--since`` what is really forgotten: whole generations; "" without a moment."""
    if since is None:
        return ""
    older = []
    if parts.began is not None and parts.began < since:
        older.append(
            f"what was stored or met from {moment(parts.began)} on, as a generation is forgotten "
            "as a whole"
        )
    if parts.is_undated:
        older.append(
            "what is kept for longer than the retention here, however old it is: it was loaded, or "
            "stored when the retention was longer"
        )
    said = f"all that was stored since {moment(since)}"
    return f": {said}, and with it {'; and '.join(older)}" if older else f", {said}"
