"""The laws of the sets of keys in which a run keeps what it knows by itself."""

from __future__ import annotations

import sys
from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from scrapy_valkey_dedup.session.keyset import KNOWN, KeySet, RecentKeys

# Of few different bytes: keys that begin like others, and that stand across the ends of two.
KEYS = st.lists(st.binary(min_size=1, max_size=2).map(lambda part: (part * 16)[:16]), max_size=60)


def digests(count: int) -> list[bytes]:
    """Keys as the ledger's are."""
    return [blake2b(b"%d" % number, digest_size=16).digest() for number in range(count)]


@given(KEYS, KEYS)
def test_it_is_a_set(added: list[bytes], asked: list[bytes]) -> None:
    """It holds what was added, once, and nothing else."""
    keys = KeySet()
    for key in added:
        keys.add(key)
    assert len(keys) == len(set(added))
    assert sorted(keys) == sorted(set(added))
    assert [key in keys for key in asked] == [key in set(added) for key in asked]


def test_a_key_across_two_others_is_not_there() -> None:
    """The end of one key and the beginning of the next are no key."""
    keys = KeySet()
    first, second = b"ab" + bytes(13) + b"a", b"ab" + bytes(13) + b"b"
    keys.add(first)
    keys.add(second)
    assert (first + second)[15:31] not in keys
    assert b"ab" + bytes(14) not in keys


def test_the_newest_keys_are_known() -> None:
    """At least half of the limit, and never more than the limit."""
    recent, keys = RecentKeys(1000), digests(5000)
    for number, key in enumerate(keys):
        recent.add(key)
        assert all(known in recent for known in keys[max(number - 499, 0) : number + 1 : 50])
        if number % 500 == 0:
            assert sum(known in recent for known in keys[: number + 1]) <= 1000
    assert keys[0] not in recent


def memory(keys: KeySet) -> int:
    """The bytes that a set takes."""
    return sys.getsizeof(keys._buckets) + sum(sys.getsizeof(each) for each in keys._buckets if each)


def test_what_a_run_knows_stops_growing() -> None:
    """From a hundred thousand posts on it takes no more than then: two and a half megabytes."""
    recent, most = RecentKeys(KNOWN), 0
    for number, key in enumerate(digests(4 * KNOWN), 1):
        recent.add(key)
        if number % (KNOWN // 2) in (0, KNOWN // 2 - 1):
            most = max(most, memory(recent._newer) + memory(recent._older))
    assert 16 * KNOWN < most < 25 * KNOWN, most


def test_a_small_set_holds_many() -> None:
    """One that has more keys than expected still holds them all."""
    for expected in (0, 1, 9, 100):
        keys = KeySet(expected)
        for key in digests(2000):
            keys.add(key)
        assert len(keys) == len(set(keys)) == 2000
        assert all(key in keys for key in digests(2000))


def test_a_key_takes_twenty_bytes() -> None:
    """A hundred thousand keys take what the manual says, and half a megabyte for the whole."""
    keys = KeySet()
    for key in digests(100_000):
        keys.add(key)
    buckets = [bucket for bucket in keys._buckets if bucket]
    used = sum(map(sys.getsizeof, buckets)) - len(buckets) * sys.getsizeof(b"")
    assert used == 1_600_000
    assert sys.getsizeof(keys._buckets) < 600_000
