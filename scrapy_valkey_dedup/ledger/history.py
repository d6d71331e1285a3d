"""What the runs of a namespace have counted, hour by hour and day by day: `scrapy dedup report`.

A record of each hour and of each day has a line for each spider. It is a small string that expires;
no spider reads it. Moments are UTC by the clock of the run that writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from scrapy_valkey_dedup.ledger.keys import KeyNames
from scrapy_valkey_dedup.ledger.scripts import script
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import ScriptCall, command

COUNTERS = (
    "runs", "seconds", "new", "duplicate", "in_flight", "unkeyed", "unchecked", "stored",
    "not_stored", "taken_over", "pages", "pages_saved", "outages", "outage_seconds",
)  # fmt: skip
"""The numbers of a line, in order: :mod:`scrapy_valkey_dedup.session.run_history` says what each
counts. Later versions may add to the end."""

OTHERS = "*"
"""The name of the line for the spiders that a record has no more room for."""
SPIDERS = 64
"""Lines that a record has at most, besides that."""
HOURS_KEPT, DAYS_KEPT = 14 * 24, 400
"""How long records are kept: two weeks by the hour, and longer than a year by the day."""
_HOUR, _DAY = "%Y%m%d%H", "%Y%m%d"
_LONGEST_NAME = 64
_MOST_DIGITS = 14
"""Digits that Lua writes exactly: a longer number is none that a run has written."""
_MARK_LIFETIME = 3600.0
LONGEST_DOUBT = _MARK_LIFETIME / 2
"""Seconds for which totals may be sent again after a reply was lost, without being added twice."""
_AT_ONCE = 100
"""Records in one reply: a record may have a few kilobytes."""


@dataclass
class Record:
    """What was counted in one hour, or one day."""

    posts: int | None = None
    """Posts that were remembered at some moment in it; None if nobody has counted them."""
    spiders: dict[str, dict[str, int]] = field(default_factory=dict)
    """By spider: its counters by name, without zeros."""

    @classmethod
    def parse(cls, written: bytes) -> Record:
        """Reads a record; what is not understood is left out."""
        first, *lines = written.decode("utf-8", "replace").split("\n")
        found = cls(_number(first))
        for line in lines:
            name, _, numbers = line.partition("\t")
            counted = zip(COUNTERS, map(_number, numbers.split(",")), strict=False)
            found.spiders[name] = {each: number for each, number in counted if number}
        return found


class History:
    """The records of a namespace. Times are in seconds since 1970.

    Errors are those of :class:`~scrapy_valkey_dedup.valkey.client.Client`.
    """

    def __init__(self, client: Client, names: KeyNames, run: str) -> None:
        self._client = client
        self._root = names.root
        self._name = names.history
        self._run = run

    async def add(
        self,
        spider: str,
        totals: Sequence[int],
        added: Sequence[int],
        now: float,
        posts: int | None = None,
    ) -> bool:
        """Adds what this run has counted since it last did, in all: to ask again adds nothing.

        ``totals`` are in the order of ``COUNTERS``; ``added`` is what is known to be added of them.
        ``posts``: how many the ledger remembers. Returns whether that is still to be told.
        """
        hour, day = (stamp(now, form) for form in (_HOUR, _DAY))
        arguments: list[bytes] = [
            self._run.encode(),
            _milliseconds(_MARK_LIFETIME),
            name_in_record(spider).encode(),
            _listed(totals),
            _listed(added),
            b"" if posts is None else b"%d" % posts,
            b"%d" % SPIDERS,
            hour.encode(), _milliseconds(HOURS_KEPT * 3600),
            day.encode(), _milliseconds(DAYS_KEPT * 86400),
        ]  # fmt: skip
        (due,) = await self._client.run([ScriptCall(script("history"), self._name, (), arguments)])
        return bool(due)

    async def read_hours(self, moments: Iterable[float]) -> dict[str, Record]:
        """The records of these hours that there are, by their names: ``YYYYMMDDHH``."""
        return await self._read(stamp(each, _HOUR) for each in moments)

    async def read_days(self, moments: Iterable[float]) -> dict[str, Record]:
        """The records of these days that there are, by their names: ``YYYYMMDD``."""
        return await self._read(stamp(each, _DAY) for each in moments)

    async def _read(self, stamps: Iterable[str]) -> dict[str, Record]:
        named = list(dict.fromkeys(stamps))
        found: dict[str, Record] = {}
        for start in range(0, len(named), _AT_ONCE):
            some = named[start : start + _AT_ONCE]
            asked = command("MGET", *(f"{self._name}:{each}" for each in some))
            (values,) = await self._client.ask(asked, key=self._root)
            pairs = zip(some, values, strict=True)
            found |= {name: Record.parse(value) for name, value in pairs if value is not None}
        return found


def stamp(moment: float, form: str = _HOUR) -> str:
    """The name of the record for a moment."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime(form)


def name_in_record(spider: str) -> str:
    """A spider's name as a record has it: on one line, and short."""
    plain = "".join(each if each.isprintable() else " " for each in spider)
    return plain.encode("utf-8", "replace")[:_LONGEST_NAME].decode("utf-8", "ignore") or " "


def total(records: Iterable[Record]) -> Mapping[str, int]:
    """All counters of records, added up over their spiders; zeros are there, too."""
    found = dict.fromkeys(COUNTERS, 0)
    for record in records:
        for counters in record.spiders.values():
            for name, number in counters.items():
                found[name] += number
    return found


def _number(text: str) -> int | None:
    """A number as a record has it; None for anything else, however long."""
    is_one = len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit()
    return int(text) if is_one else None


def _listed(numbers: Sequence[int]) -> bytes:
    return ",".join(map(str, numbers)).encode()


def _milliseconds(seconds: float) -> bytes:
    return b"%d" % (seconds * 1000)
