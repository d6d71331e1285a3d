"""Every stat name of the package, once, and what a run says of itself."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

_LONGEST = 60
"""Characters of a name in a note."""
_LARGEST = 1 << 53
"""Numbers in a note are below: nobody counts more, and a date can be made of a start."""


def quantity(number: int, noun: str) -> str:
    """A number with its noun: "1 post", "2 posts"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Collector(Protocol):
    """The part of Scrapy's stats collector that is used here."""

    def inc_value(self, key: str, count: int = 1) -> None: ...  # noqa: D102
    def set_value(self, key: str, value: Any) -> None: ...  # noqa: D102
    def get_value(self, key: str, default: Any = None) -> Any: ...  # noqa: D102


class StatNames:
    """The stats of what is deduplicated: the items of a run, or its requests."""

    def __init__(self, subject: str) -> None:
        prefix = f"dedup/{subject}/"
        self.new = prefix + "new"
        """Claimed: it was new."""
        self.duplicate = prefix + "duplicate"
        """Remembered, so dropped."""
        self.in_flight = prefix + "in_flight"
        """A live run was at it. The item was dropped; the request was set aside, and counts as new
        or duplicate too when that is known."""
        self.unkeyed = prefix + "unkeyed"
        """Items without an identity."""
        self.unchecked = prefix + "unchecked"
        """Passed because Valkey could not be asked."""
        self.confirmed = prefix + "confirmed"
        self.released = prefix + "released"
        self.unconfirmed = prefix + "unconfirmed"
        """Stored, but Valkey could not be told."""
        self.not_remembered = prefix + "not_remembered"
        """Items that went on although nothing stores them: none of their posts is remembered."""
        self.spooled = prefix + "spooled"
        """Of the unconfirmed: noted in a file, from which a later run confirms them."""
        self.recovered = prefix + "recovered"
        """Confirmed from such a file."""
        self.taken_over = prefix + "taken_over"
        """New: a dead run had claimed it."""
        self.not_new = prefix + "not_new"
        """Requests ``if_new`` that were not sent."""
        self.after_empty = prefix + "after_empty"
        """Requests ``if_new`` that were not sent after too many pages without anything."""


ITEMS = StatNames("items")
REQUESTS = StatNames("requests")


@dataclass(frozen=True)
class RunInfo:
    """What a run writes into the ledger of itself, for `scrapy dedup status`."""

    spider: str
    host: str
    start: float
    """Seconds since 1970, by the clock of its machine."""
    open: int = 0
    """Claims that are not settled, on posts, pages and sightings."""
    new: int = 0
    duplicate: int = 0
    age: float = 0.0
    """Seconds since the start, by a clock that is never set: of two notes, the time between."""
    unchecked: int = 0
    outages: int = 0
    ended: str = ""
    """Why the run has ended, as Scrapy says; "" while it is at work."""

    def to_json(self) -> bytes:
        """As it stands in Valkey. What is nothing is left out."""
        facts = {
            name: value[:_LONGEST] if name in _NAMES else value
            for name, value in vars(self).items()
            if value or name in _ALWAYS
        }
        return json.dumps(facts, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, written: bytes | None) -> RunInfo | None:
        """None if there is none, or it is not one. Facts of a later version are left out.

        Anyone who may write into the ledger may write anything here, control characters too.
        """
        try:
            facts = json.loads(written or b"")
            given = {each.name: facts[each.name] for each in fields(cls) if each.name in facts}
            if all(_is_fact(name, value) for name, value in given.items()):
                return cls(**given)
        except (RecursionError, TypeError, ValueError):
            pass
        return None


_NAMES, _ALWAYS = ("spider", "host", "ended"), ("spider", "host", "start")


def _is_fact(name: str, value: Any) -> bool:
    """Whether a fact of a note is one that a run may write."""
    if name in _NAMES:
        return isinstance(value, str) and len(value) <= _LONGEST
    kinds = (int, float) if name in ("start", "age") else (int,)
    return type(value) in kinds and 0 <= value < _LARGEST


class Stats:
    """Counts into Scrapy's stats under the names of this package.

    Valkey: ``batches`` (round trips), ``keys``, ``outages``, ``outage_seconds``, ``throttled``.
    """

    BATCHES = "dedup/valkey/batches"
    KEYS = "dedup/valkey/keys"
    OUTAGES = "dedup/valkey/outages"
    OUTAGE_SECONDS = "dedup/valkey/outage_seconds"
    THROTTLED = "dedup/valkey/throttled"

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self.count = collector.inc_value
        self._counted: dict[str, int] = {}
        """What Scrapy's stats do not have yet."""

    def count_soon(self, name: str) -> None:
        """Counts one: all of a turn of the event loop at once, as Scrapy takes a while for each."""
        counted = self._counted
        if not counted:
            asyncio.get_running_loop().call_soon(self.settle)
        counted[name] = counted.get(name, 0) + 1

    def settle(self) -> None:
        """Hands on what is counted so far."""
        counted, self._counted = self._counted, {}
        for name, number in counted.items():
            self.count(name, number)

    def count_nonzero(self, name: str, number: int) -> None:
        """Counts, unless there is nothing to count: a stat that is there says that it happened."""
        if number:
            self.count(name, number)

    def number(self, name: str) -> int:
        """What has been counted so far."""
        return int(self._collector.get_value(name, 0)) + self._counted.get(name, 0)

    def set(self, name: str, number: int) -> None:
        """Sets a number that may still change."""
        self._collector.set_value(name, number)

    def set_nonzero(self, name: str, number: int) -> None:
        """Sets a number that may still change; never makes a stat of nothing."""
        if number or self._collector.get_value(name):
            self._collector.set_value(name, number)

    def batch(self, keys: int) -> None:
        """One round trip, for this many keys."""
        self.count(self.BATCHES)
        self.count(self.KEYS, keys)

    def run_info(self, of: RunInfo, *, has_ended: bool = False) -> RunInfo:
        """The run so far; ``of``: what is known of it without the stats."""
        reason = self._collector.get_value("finish_reason") or "finished"
        return replace(
            of,
            new=self.number(ITEMS.new),
            duplicate=self.number(ITEMS.duplicate),
            unchecked=self.number(ITEMS.unchecked),
            outages=self.number(self.OUTAGES),
            ended=str(reason) if has_ended else "",
        )
