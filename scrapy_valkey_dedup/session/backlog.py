"""Settlements that could not be delivered: kept in little memory until Valkey answers again."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from scrapy_valkey_dedup.model import KEY_BYTES, Key, ReleasedClaim

MOST = 1_000_000
"""So many confirmations are kept where they cannot go to disk, and so many releases in any case."""
_GIVEN = Struct(f">{KEY_BYTES}sI?")
_AT_ONCE = 10_000


class Backlog:
    """What Valkey is still to be told: 16 bytes for each stored post, 21 for each other one."""

    def __init__(self) -> None:
        self._stored = bytearray()
        self._not_stored = bytearray()

    def __len__(self) -> int:
        return self.stored_count + len(self._not_stored) // _GIVEN.size

    @property
    def stored_count(self) -> int:
        """How many posts of it are stored."""
        return len(self._stored) // KEY_BYTES

    @property
    def stored(self) -> list[Key]:
        """The posts of it that are stored."""
        return split(self._stored)

    def add(self, stored: Iterable[Key], not_stored: Iterable[ReleasedClaim]) -> None:
        """Adds settlements; releases beyond the limit are left to the end of the run."""
        self._stored += b"".join(stored)
        if len(self._not_stored) < MOST * _GIVEN.size:
            self._not_stored += _packed(not_stored)

    def put_back(self, stored: Iterable[Key], not_stored: Iterable[ReleasedClaim]) -> None:
        """Puts back what was taken and could not be delivered."""
        self._stored += b"".join(stored)
        self._not_stored += _packed(not_stored)

    def add_stored(self, keys: bytes) -> None:
        """Adds stored posts, one key after the other."""
        self._stored += keys

    def drop_excess(self) -> None:
        """Forgets the stored posts that are too many: later runs store them again."""
        del self._stored[MOST * KEY_BYTES :]

    def take_some(self) -> tuple[list[Key], list[ReleasedClaim]]:
        """Takes the newest, up to ten thousand of each kind."""
        stored = take_last(self._stored, KEY_BYTES)
        not_stored = take_last(self._not_stored, _GIVEN.size)
        return split(stored), _unpacked(not_stored)

    def take_all(self) -> tuple[list[Key], list[ReleasedClaim]]:
        """Takes all of it."""
        stored, not_stored = self._stored, self._not_stored
        self._stored, self._not_stored = bytearray(), bytearray()
        return split(stored), _unpacked(not_stored)

    def take_stored(self) -> bytes:
        """Takes the stored posts, one key after the other."""
        keys, self._stored = bytes(self._stored), bytearray()
        return keys


def take_last(entries: bytearray, size: int) -> bytes:
    """Takes up to ten thousand entries of that size off the end."""
    some = bytes(entries[-_AT_ONCE * size :])
    del entries[-_AT_ONCE * size :]
    return some


def split(keys: bytes | bytearray) -> list[Key]:
    """Splits keys that follow each other."""
    return [bytes(keys[at : at + KEY_BYTES]) for at in range(0, len(keys), KEY_BYTES)]


def _packed(claims: Iterable[ReleasedClaim]) -> bytes:
    return b"".join(_GIVEN.pack(*claim) for claim in claims)


def _unpacked(entries: bytes | bytearray) -> list[ReleasedClaim]:
    return [ReleasedClaim(*entry) for entry in _GIVEN.iter_unpack(entries)]
