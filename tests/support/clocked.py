"""A ledger whose time the test makes, so that years pass in a moment and always in the same way.

The scripts are the plugin's own but for three substitutions, each of which must be found:

- ``milliseconds()`` reads a clock that the test keeps in a key, instead of the server's;
- the lifetime of a claim, and of what was given back, counts on that clock, too;
- on demand a bucket holds fewer posts, so that few posts overflow into all levels.

The clock starts in the year 2100, so the server itself never expires a key; the test does it when
it moves the clock: every key whose ``PEXPIRETIME`` has come is deleted, none sooner, none later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import valkey

from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, namespace_tag
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.resp import Script

START = 4_102_444_800_000  # ms

_BEGIN = "local base, call, sub = KEYS[1], redis.call, string.sub\n"
_CLOCK = re.compile(r"^local function milliseconds\(list\)\n.*?^end$", re.DOTALL | re.MULTILINE)
_TEST_CLOCK = """local function milliseconds()
  return tonumber(call('GET', base .. ':clock'))
end
"""
_HAVE_ONE = {"claim", "confirm", "restore"}
_EXPIRE = """
local gone = 0
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local ends = redis.call('PEXPIRETIME', key)
  if ends > 0 and ends <= tonumber(ARGV[2]) then gone = gone + redis.call('DEL', key) end
end
return gone
"""


_LIFETIMES = {"claim": ["lifetime"], "renew": ["lifetime"], "release": ["turned_away"]}
"""Each lasts so many ms from now."""


def _replaced(source: str, old: str, new: str) -> str:
    assert old in source
    return source.replace(old, new)


def clocked(ledger: Ledger, capacity: int | None = None) -> Ledger:
    """Puts a ledger on the test's clock; ``capacity``: how many posts fill a bucket."""
    for name, script in ledger._scripts.items():
        source, found = _CLOCK.subn("", script.source)
        assert found == (name in _HAVE_ONE)
        source = _replaced(source, _BEGIN, _BEGIN + _TEST_CLOCK)
        for how_long in _LIFETIMES.get(name, ()):
            source = _replaced(source, f"'PX', {how_long}", f"'PXAT', milliseconds() + {how_long}")
        if capacity:
            source = _replaced(source, "CAPACITY = 511", f"CAPACITY = {capacity}")
        ledger._scripts[name] = Script(name, source)
    return ledger


class Clock:
    """The clock of some partitions of a namespace. ``now`` is in ms."""

    def __init__(self, raw: valkey.Valkey, namespace: str, partitions: Iterable[int]) -> None:
        self._raw = raw
        self._prefix = f"vd1:{{{namespace_tag(namespace)}"
        self._names = [f"{self._prefix}:{PARTITION_TAGS[number]}}}:clock" for number in partitions]
        self.set(START)

    def set(self, now: int) -> None:
        """Moves the clock, and expires what has come to its end."""
        self.now = now
        self._raw.mset(dict.fromkeys(self._names, now))
        self._raw.eval(_EXPIRE, 0, f"{self._prefix}*", now)

    def pass_(self, seconds: float) -> None:
        """Lets time pass."""
        self.set(self.now + int(seconds * 1000))
