"""How a dump is laid out in its file: docs/dump-file.md describes it, byte by byte.

Every frame ends with a digest of all that stands before it, so that a file that was altered or cut
off is found out, wherever that was.
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
from scrapy_valkey_dedup.ledger.transfer import LEVELS, Bucket, Step

NAME, VERSION = b"scrapy-valkey-dedup dump ", b"1"
FIRST_LINE = NAME + VERSION + b"\n"
LEDGER, BUCKETS, END_OF_FILE = b"L", b"B", b"E"
FRAME = Struct("<cI")
"""Kind and length of what follows."""
LONGEST = 1 << 20
"""Bytes of a frame."""
DIGEST_BYTES = 16
KINDS = tuple(SHELVES)

_STEP = Struct("<BBBQ")
_BUCKET = Struct("<II")
_MEMBER_BYTES = 8
_BITS_OF_FIRST, _BITS_OF_OTHERS = 8, 3


@dataclass(frozen=True)
class Head:
    """Whose ledger it is."""

    namespace: str | None
    """None: whoever wrote it did not know its name, only the digest that stands in keys."""
    tag: str
    """The namespace as it stands in keys."""
    created: str
    layout: str = LAYOUT


def new_digest() -> Any:
    """Of a file, from its first byte on."""
    return blake2b(digest_size=DIGEST_BYTES)


def packed(kind: str, step: Step) -> bytes:
    """Some buckets of ``posts``, ``pages`` or ``timelines``."""
    level = len(step.buckets[0].path) - 1
    parts = [_STEP.pack(KINDS.index(kind), step.partition, level, step.ends)]
    for bucket in step.buckets:
        parts.append(_BUCKET.pack(_number_of(bucket.path), len(bucket.members)))
        parts.append(_swapped(bucket.members).tobytes())
    return b"".join(parts)


def unpacked(content: bytes) -> tuple[str, Step]:
    """What :func:`packed` made.

    Raises:
        ValueError: it is nothing of the kind.

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
    return KINDS[kind], Step(partition, ends, buckets)


def _swapped(members: array[int]) -> array[int]:
    """Between this machine's order of bytes and the file's, which is the usual one."""
    if sys.byteorder == "big":
        members = members[:]
        members.byteswap()
    return members


def _number_of(path: str) -> int:
    """A path as a number: 8 bits, and 3 for each level below the first."""
    first, others = int(path[:2], 16), path[2:]
    return first << _BITS_OF_OTHERS * len(others) | int(others or "0", 8)


def _path_of(number: int, level: int) -> str:
    below = _BITS_OF_OTHERS * (level - 1)
    if number >> below >> _BITS_OF_FIRST:
        raise ValueError("no path")
    others = f"{number & (1 << below) - 1:0{level - 1}o}" if below else ""
    return f"{number >> below:02x}{others}"
