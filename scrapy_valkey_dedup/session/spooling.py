"""Takes confirmations from memory to the spool's files, and from these files to Valkey."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import KEY_BYTES, Key
from scrapy_valkey_dedup.session.backlog import Backlog, split, take_last
from scrapy_valkey_dedup.session.spool import MOST, Spool
from scrapy_valkey_dedup.stats import StatNames, Stats

_MINUTE = 60.0


class Spooler:
    """Writes what this run could not deliver, and delivers that and what earlier runs have left."""

    def __init__(self, spool: Spool, ledger: Ledger, stats: Stats, names: StatNames) -> None:
        self._spool = spool
        self._ledger = ledger
        self._stats = stats
        self._names = names
        self._written: dict[Path, int] = {}
        self._saved_at = monotonic()
        self._saves = 0
        self._disk_fails = False
        self.has_unlisted = False
        """A file may have been written since the files were last listed for delivery."""
        self.delivered = 0
        """Confirmations from files that Valkey has acknowledged."""
        self.confirmed = 0
        """Those of them that were this run's own."""

    @property
    def spooled(self) -> int:
        """How many posts of this run the files hold."""
        return sum(self._written.values())

    @property
    def is_due(self) -> bool:
        """Whether nothing was written for a minute."""
        return monotonic() - self._saved_at >= _MINUTE

    def save_late(self, key: Key) -> None:
        """Writes a post that was stored after the end of the run: the next one confirms it."""
        self._spool.write(key)

    async def relieve(self, backlog: Backlog) -> None:
        """Saves the stored posts if the disk takes them; forgets the excess if it does not."""
        if not self._disk_fails:
            await self.save(backlog)
        backlog.drop_excess()

    async def save(self, backlog: Backlog) -> None:
        """Moves the stored posts of the backlog to files."""
        keys = backlog.take_stored()
        if not keys:
            return
        self._saved_at = monotonic()
        self._saves += 1
        self.has_unlisted = True
        try:
            written, left = await asyncio.to_thread(self._write, keys)
        finally:
            self._saves -= 1
        self._written |= written
        self._disk_fails = bool(left)
        backlog.add_stored(left)

    def _write(self, keys: bytes) -> tuple[dict[Path, int], bytes]:
        """Writes keys to files; returns these, and what could not be written. Runs in a thread."""
        written: dict[Path, int] = {}
        size = MOST * KEY_BYTES
        for at in range(0, len(keys), size):
            some = keys[at : at + size]
            path = self._spool.write(some)
            if path is None:
                return written, keys[at:]
            written[path] = len(some) // KEY_BYTES
        return written, b""

    async def deliver(self, ledger: str) -> None:
        """Delivers the files of earlier runs and of this one. ``ledger``: its identity.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: the rest is still in the files.

        """
        await asyncio.to_thread(self._spool.learn, ledger)
        self.has_unlisted = self._saves > 0  # what is being written is not among the files yet
        written = list(self._written)  # what is written from here on may be missing in the list
        paths = await asyncio.to_thread(self._spool.files)
        for path in paths:
            await self._deliver_file(path)
        for path in [path for path in written if path not in paths]:
            self._is_delivered(path)  # by another run
        self._disk_fails = False

    async def _deliver_file(self, path: Path) -> None:
        keys = bytearray(await asyncio.to_thread(self._spool.read, path))
        count = len(keys) // KEY_BYTES
        while keys:
            some = split(take_last(keys, KEY_BYTES))
            await self._ledger.confirm_many(some)
            self.delivered += len(some)
        if count:
            await asyncio.to_thread(self._spool.remove, path)
            if path not in self._written:
                self._stats.count(self._names.recovered, count)
            self._is_delivered(path)

    def _is_delivered(self, path: Path) -> None:
        count = self._written.pop(path, 0)
        self.confirmed += count
        self._stats.count_nonzero(self._names.confirmed, count)
