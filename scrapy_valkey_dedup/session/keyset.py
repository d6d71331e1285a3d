"""Sets of keys in little memory: what a run knows without asking Valkey."""

from __future__ import annotations

from collections.abc import Iterator

from scrapy_valkey_dedup.model import KEY_BYTES, Key

KNOWN = 100_000
"""Of so many posts, at most, a run knows by itself that they are stored: for outages only."""
KNOWN_TO_NONE_ELSE = 1_000_000
"""The same where Valkey does not know it or is not asked, so that this record alone tells."""
_MOST_BUCKETS = 1 << 16
_IN_A_BUCKET = 8


class KeySet:
    """A set of keys: 16 bytes each, and its buckets (a Python set takes 120 bytes each).

    Keys are digests, so their first bits spread them evenly; each bucket has its keys in one row.
    """

    def __init__(self, expected: int = _MOST_BUCKETS * _IN_A_BUCKET) -> None:
        """``expected``: how many keys it is to have. More make it slower, not wrong."""
        bits = max(expected // _IN_A_BUCKET - 1, 0).bit_length()
        count = min(1 << bits, _MOST_BUCKETS)
        self._buckets = [b""] * count
        self._mask = count - 1
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: Key) -> bool:
        return _holds(self._buckets[(key[0] << 8 | key[1]) & self._mask], key)

    def __iter__(self) -> Iterator[Key]:
        for bucket in self._buckets:
            for at in range(0, len(bucket), KEY_BYTES):
                yield bucket[at : at + KEY_BYTES]

    def add(self, key: Key) -> None:
        """Adds a key, once."""
        number = (key[0] << 8 | key[1]) & self._mask
        bucket = self._buckets[number]
        if key not in bucket or not _holds(bucket, key):
            self._buckets[number] = bucket + key
            self._size += 1


class RecentKeys:
    """The newest keys: at least half of the limit, and at most the limit."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._newer, self._older = KeySet(self._half), KeySet(0)

    def __contains__(self, key: Key) -> bool:
        return key in self._newer or key in self._older

    def add(self, key: Key) -> None:
        """Adds a key; the oldest half goes when there are too many."""
        self._newer.add(key)
        if len(self._newer) >= self._half:
            self._newer, self._older = KeySet(self._half), self._newer


def _holds(bucket: bytes, key: Key) -> bool:
    at = bucket.find(key)
    while at % KEY_BYTES and at >= 0:  # the end of one key and the beginning of the next
        at = bucket.find(key, at + 1)
    return at >= 0
