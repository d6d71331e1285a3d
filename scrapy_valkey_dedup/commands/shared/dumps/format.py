"""The format of a dump's file, which docs/dump-file.md describes byte by byte.

Every frame ends with a digest of all bytes before it, so that any change or cut is detected.
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any

from scrapy_valkey_dedup.commands.shared.connection import SHELVES
from scrapy_valkey_dedup.ledger.keys import END_DIGITS, LAYOUT, PARTITIONS
from scrapy_valkey_dedup.ledger.transfer import LEVELS, Bucket, BucketBatch

NAME, VERSION = b"scrapy-valkey-dedup dump ", b"1"
FIRST_LINE = NAME + VERSION + b"\n"
LEDGER, BUCKETS, END_OF_FILE = b"L", b"B", b"E"
FRAME = Struct("<cI")
"""The head of a frame: its kind, and the length of its content."""
LONGEST = 1 << 20
"""Bytes in the content of a frame, at most."""
DIGEST_BYTES = 16
KINDS = tuple(SHELVES)

_STEP = Struct("<BBBQ")
_BUCKET = Struct("<II")
_MEMBER_BYTES = 8
_BITS_OF_FIRST, _BITS_OF_OTHERS = 8, 3


@dataclass(frozen=True)
class Header:
    """The first frame: which ledger was dumped, and when."""

    namespace: str | None
    """None if only the namespace's digest was known, which is written in keys."""
    tag: str
    """The namespace, as it is written in keys."""
    created: str
    """Date and time in ISO 8601."""
    layout: str = LAYOUT
    """The version of the ledger's layout."""


def new_digest() -> Any:
    """A new digest of a file, to be updated from its first byte on."""
    return blake2b(digest_size=DIGEST_BYTES)


def pack(kind: str, batch: BucketBatch) -> bytes:
    """Encodes buckets of ``posts``, ``pages`` or ``timelines`` as the content of a frame."""
    level = len(batch.buckets[0].path) - 1
    parts = [_STEP.pack(KINDS.index(kind), batch.partition, level, batch.ends)]
    for bucket in batch.buckets:
        parts.append(_BUCKET.pack(_number_of(bucket.path), len(bucket.members)))
        parts.append(_swapped(bucket.members).tobytes())
    return b"".join(parts)


def unpack(content: bytes) -> tuple[str, BucketBatch]:
    """Decodes the content of a frame that :func:`pack` encoded.

    Raises:
        ValueError: the content is invalid.

    """
    if len(content) < _STEP.size:
        raise ValueError("too short")
    kind, partition, level, ends = _STEP.unpack_from(content)
    is_known = kind < len(KINDS) and partition < PARTITIONS and 1 <= level <= LEVELS
    if not is_known or ends >= 10**END_DIGITS:
        raise ValueError("no such buckets")
    buckets, at = [], _STEP.size
    while at < len(content):
        start = at + _BUCKET.size
        if start > len(content):
            raise ValueError("no bucket")
        number, size = _BUCKET.unpack_from(content, at)
        at = start + size * _MEMBER_BYTES
        if at > len(content) or not size:
            raise ValueError("no members")
        members = array("q", content[start:at])
        buckets.append(Bucket(_path_of(number, level), _swapped(members)))
    if not buckets:
        raise ValueError("no buckets")
    return KINDS[kind], BucketBatch(partition, ends, buckets)


def _swapped(members: array[int]) -> array[int]:
    """Converts between this machine's byte order and the file's, which is little-endian."""
    if sys.byteorder == "big":
        members = members[:]
        members.byteswap()
    return members


def _number_of(path: str) -> int:
    """Encodes a path as a number: 8 bits, and 3 bits for each level below the first."""
    first, others = int(path[:2], 16), path[2:]
    return first << _BITS_OF_OTHERS * len(others) | int(others or "0", 8)


def _path_of(number: int, level: int) -> str:
    below = _BITS_OF_OTHERS * (level - 1)
    if number >> below >> _BITS_OF_FIRST:
        raise ValueError("no path")
    others = f"{number & (1 << below) - 1:0{level - 1}o}" if below else ""
    return f"{number >> below:02x}{others}"
