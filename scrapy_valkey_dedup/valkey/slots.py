"""Hash slots: by which keys a cluster is shared out among its nodes."""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache

SLOTS = 16384


@lru_cache(maxsize=4096)
def slot_of(key: str) -> int:
    """The slot of a key: that of what stands in its first braces, if anything does."""
    _, brace, rest = key.partition("{")
    tag, end, _ = rest.partition("}")
    return crc_hqx((tag if brace and end and tag else key).encode(), 0) % SLOTS
