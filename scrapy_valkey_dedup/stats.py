"""Every stat name of the package, once, and the sentence that sums a run up."""

from __future__ import annotations

from typing import Any, Protocol

_ITEMS = "dedup/items/"
_VALKEY = "dedup/valkey/"


class Collector(Protocol):
    """What of Scrapy's stats collector is used here."""

    def inc_value(self, key: str, count: int = 1) -> None: ...  # noqa: D102
    def set_value(self, key: str, value: Any) -> None: ...  # noqa: D102
    def get_value(self, key: str, default: Any = None) -> Any: ...  # noqa: D102
    def get_stats(self) -> dict[str, Any]: ...  # noqa: D102


class Stats:
    """Counts into Scrapy's stats under the names of this package.

    Items: ``new``, ``duplicate``, ``in_flight`` (dropped because a live run was storing it),
    ``unkeyed``, ``unchecked`` (passed because Valkey could not be asked), ``confirmed``,
    ``released``, ``unconfirmed`` (stored, but Valkey could not be told), ``taken_over`` (new: a
    dead run had claimed it). Valkey: ``batches`` (round trips), ``keys``, ``outages``,
    ``outage_seconds``.
    """

    NEW = _ITEMS + "new"
    DUPLICATE = _ITEMS + "duplicate"
    IN_FLIGHT = _ITEMS + "in_flight"
    UNKEYED = _ITEMS + "unkeyed"
    UNCHECKED = _ITEMS + "unchecked"
    CONFIRMED = _ITEMS + "confirmed"
    RELEASED = _ITEMS + "released"
    UNCONFIRMED = _ITEMS + "unconfirmed"
    TAKEN_OVER = _ITEMS + "taken_over"
    BATCHES = _VALKEY + "batches"
    KEYS = _VALKEY + "keys"
    OUTAGES = _VALKEY + "outages"
    OUTAGE_SECONDS = _VALKEY + "outage_seconds"

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self.count = collector.inc_value

    def count_some(self, name: str, number: int) -> None:
        """Counts, unless there is nothing to count: a stat that is there says that it happened."""
        if number:
            self.count(name, number)

    def set_some(self, name: str, number: int) -> None:
        """Sets a number that may still change; never makes a stat of nothing."""
        if number or self._collector.get_value(name):
            self._collector.set_value(name, number)

    def batch(self, keys: int) -> None:
        """One round trip that served so many keys."""
        self.count(self.BATCHES)
        self.count(self.KEYS, keys)

    def settled(self, confirmed: int, released: int) -> None:
        """Valkey has acknowledged these."""
        self.count_some(self.CONFIRMED, confirmed)
        self.count_some(self.RELEASED, released)

    def feeds_failed(self) -> int:
        """How many files the feed exporter could not store."""
        stats = self._collector.get_stats().items()
        return sum(value for name, value in stats if name.startswith("feedexport/failed_count/"))

    def summary(self) -> str:
        """One sentence for the end of a run; parts that count nothing are left out."""
        number = {name: self._collector.get_value(name, 0) for name in _WORDS}
        seen = sum(number[name] for name in _SEEN)
        parts = [word.format(number[name]) for name, word in _WORDS.items() if number[name]]
        return f"{seen} posts seen" + (": " + ", ".join(parts) if parts else "")


_SEEN = (Stats.NEW, Stats.DUPLICATE, Stats.IN_FLIGHT, Stats.UNKEYED, Stats.UNCHECKED)
_WORDS = {
    Stats.NEW: "{} new",
    Stats.DUPLICATE: "{} duplicate",
    Stats.IN_FLIGHT: "{} being stored by another run",
    Stats.UNKEYED: "{} without an identity",
    Stats.UNCHECKED: "{} unchecked because Valkey could not be asked",
    Stats.CONFIRMED: "{} confirmed as stored",
    Stats.RELEASED: "{} not stored and released",
    Stats.UNCONFIRMED: "{} stored but not confirmed, a later run will store them again",
}
