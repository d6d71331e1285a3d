"""Sets of keys in little memory: what a run knows without asking Valkey."""

from __future__ import annotations

from collections.abc import Iterator

from scrapy_valkey_dedup.model import KEY_BYTES, Key

_BUCKETS = 1 << 16


class KeySet:
    """A set of keys: 16 bytes each, and half a megabyte (a Python set takes 120 bytes each).

    Keys are digests, so their first bits spread them evenly; each bucket has its keys in one row.
    """

    def __init__(self) -> None:
        self._buckets = [b""] * _BUCKETS
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: Key) -> bool:
        return _holds(self._buckets[_bucket_of(key)], key)

    def __iter__(self) -> Iterator[Key]:
        for bucket in self._buckets:
            for at in range(0, len(bucket), KEY_BYTES):
                yield bucket[at : at + KEY_BYTES]

    def add(self, key: Key) -> None:
        """Adds a key, once."""
        number = key[0] << 8 | key[1]  # as _bucket_of: a call of it takes as long as the rest
        bucket = self._buckets[number]
        if key not in bucket or not _holds(bucket, key):
            self._buckets[number] = bucket + key
            self._size += 1


class RecentKeys:
    """The newest keys: at least half of the limit, and at most the limit."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._newer, self._older = KeySet(), KeySet()

    def __contains__(self, key: Key) -> bool:
        return key in self._newer or key in self._older

    def add(self, key: Key) -> None:
        """Adds a key; the oldest half goes when there are too many."""
        self._newer.add(key)
        if len(self._newer) >= self._half:
            self._newer, self._older = KeySet(), self._newer


def _bucket_of(key: Key) -> int:
    return (key[0] << 8) | key[1]


def _holds(bucket: bytes, key: Key) -> bool:
    at = bucket.find(key)
    while at % KEY_BYTES and at >= 0:  # the end of one key and the beginning of the next
        at = bucket.find(key, at + 1)
    return at >= 0
