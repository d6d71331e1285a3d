"""Forgetting, without the command line: posts one by one, and whole parts of a namespace."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from scrapy_valkey_dedup.commands.shared.contents import Holdings, Shelf, trials
from scrapy_valkey_dedup.commands.shared.keyed import Keyed, Keyer
from scrapy_valkey_dedup.commands.shared.moments import moment
from scrapy_valkey_dedup.commands.shared.place import SHELVES, Place
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.commands.shared.sources import Source
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.session.keyset import KeySet
from scrapy_valkey_dedup.valkey.resp import command

WHOLE = "namespace"
"""Stands for posts, pages and timelines, and the trials of a namespace."""
NOTHING_SINCE = (
    "nothing is kept so long that it was stored since then. If a run's retention is shorter than "
    "here, as in the custom_settings of a spider, name it: --spider, or -s VALKEY_DEDUP_RETENTION"
)
"""Said where nothing is found to be forgotten since a moment."""
_BATCH = 5000


def _quiet(_: int) -> None:
    """Tells nobody."""


@dataclass
class Found:
    """What the ledger knows of some posts."""

    keys: KeySet = field(default_factory=KeySet)
    """Those that it remembers."""
    read: Keyed = field(default_factory=Keyed)
    claims: Counter[str] = field(default_factory=Counter)
    """Open claims on them, by run."""


async def look_for(
    ledger: Ledger, keyer: Keyer, origin: Source, advance: Advance = _quiet
) -> Found:
    """Which posts of a source are remembered, and which are claimed. 16 bytes of memory each."""
    found = Found()
    for block in origin.blocks():
        made = keyer.keyed(block)
        if not found.read.records:
            made.refuse_none(origin.name)
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


async def forget(ledger: Ledger, keys: KeySet, advance: Advance = _quiet) -> int:
    """Forgets posts; returns how many were remembered until then."""
    forgotten, rest = 0, iter(keys)
    while some := list[Key](islice(rest, _BATCH)):
        forgotten += await ledger.forget_many(some)
        advance(len(some))
    return forgotten


@dataclass
class Parts:
    """Parts of a namespace, to be forgotten as a whole. See :func:`parts_of`."""

    shelves: dict[str, Shelf]
    """By what they hold: "posts", or "posts of the trial x"."""
    places: list[Place]
    """Those that are forgotten as a whole."""
    held: dict[str, Holdings] = field(default_factory=dict)
    """What they hold, when that is counted."""

    async def count(self, advance: Advance = _quiet) -> None:
        """Counts what they hold."""
        self.held = {name: await shelf.count(advance) for name, shelf in self.shelves.items()}

    @property
    def total(self) -> int:
        """Entries, about: one that stands in two generations counts twice."""
        return sum(each.remembered for each in self.held.values())

    @property
    def endless(self) -> int:
        """Entries that stay, as they are kept forever, and nobody knows since when."""
        return sum(each.endless for each in self.held.values())

    async def living(self) -> dict[str, int]:
        """Open claims of runs that live, by run: a trial's runs beat in the trial's namespace."""
        found = Counter[str]()
        for name, held in self.held.items():
            found.update(await living(self.shelves[name].place.ledger(own=True), held.claims))
        return dict(found)

    @property
    def began(self) -> float | None:
        """From when on things are forgotten, in seconds, if only what is younger than a moment."""
        found = min((each.began for each in self.held.values()), default=inf)
        return None if found == inf else found

    @property
    def is_undated(self) -> bool:
        """Whether some of it ends later than anything that is stored now: it may be of any age."""
        return any(each.is_undated for each in self.held.values())

    async def clear(self, advance: Advance = _quiet) -> None:
        """Forgets it. Claims stay."""
        for shelf in self.shelves.values():
            await shelf.clear(advance)

    async def leave_nothing(self) -> None:
        """The next run makes ledgers of its own: what waits on a disk for these is not theirs."""
        for place in self.places:
            names = place.ledger().namespace_keys
            await place.server.ask(*(command("DEL", name) for name in names), key=names[0])


async def parts_of(place: Place, what: str, since: float | None = None) -> Parts:
    """What is to be forgotten: ``posts``, ``pages``, ``timelines``, or all (``WHOLE``).

    ``since``: only the generations that were written since then, in seconds; no trials.
    """
    places, whole = {"": place}, what == WHOLE and since is None
    if whole:
        places |= {f" of the trial {name}": place.trial(name) for name in await trials(place)}
    shelves = {
        f"{kind}{whose}": Shelf(of, kind, since=since)
        for whose, of in places.items()
        for kind in (SHELVES if what == WHOLE else [what])
    }
    return Parts(shelves, list(places.values()) if whole else [])


async def living(ledger: Ledger, claims: Counter[str]) -> dict[str, int]:
    """The claims of runs that live."""
    runs = list(claims)
    beats = await ledger.runs.read_heartbeats(runs) if runs else []
    return {run: claims[run] for run, beat in zip(runs, beats, strict=True) if beat is not None}


def since_when(parts: Parts, since: float | None) -> str:
    """What a generation makes of a moment: it is forgotten as a whole."""
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
