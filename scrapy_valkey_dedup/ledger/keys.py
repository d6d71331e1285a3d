"""The keys of a namespace: how they are called, and which partition a post belongs to.

Of a post's 128 bits, 4 choose a partition (a hash tag, so one slot of a cluster) and 29 a path
through buckets that grow by levels (8 bits for the first, 3 for each below). The last 64 are the
integer in the bucket's set: the chance that a lookup meets another post's is below 2 to the -50.
``lua/layout.lua`` describes the keys of a partition.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from struct import Struct

from scrapy_valkey_dedup.model import KEY_BYTES, TRIAL_MARK, Key

LAYOUT = "2"
"""The version of the layout that this version of the package reads and writes."""
PARTITIONS = 16
"""Few, as each batch needs a call for every partition that it touches: of 80 posts, 16 with 16
partitions, 46 with 64."""
PARTITION_TAGS = tuple(f"{2 * (number >> 2)}{number & 3}" for number in range(PARTITIONS))
"""The end of each partition's hash tag. With these, each sixteenth of a cluster's slots has one
partition, whatever the namespace."""
END_DIGITS = 13
"""Digits of the end of a generation in a list of them; one more says how many levels it has."""
_PARTITION_BITS, _PATH_BITS, _LOWER_BITS = 4, 29, 21
_BEHIND_PARTITION = 64 - _PARTITION_BITS
_BEHIND_PATH = _BEHIND_PARTITION - _PATH_BITS
_PATH, _LOWER = (1 << _PATH_BITS) - 1, (1 << _LOWER_BITS) - 1
_halves = Struct(">Qq").unpack
_TRIAL = re.compile(rf"(.+)({re.escape(TRIAL_MARK)}[A-Za-z0-9._-]{{1,32}})", re.DOTALL)


def namespace_tag(namespace: str) -> str:
    """The namespace as it stands in key names: itself if it is plain and short, else its digest.

    A trial's tag begins with that of the namespace that it tries: the same permissions will do.
    """
    if trial := _TRIAL.fullmatch(namespace):
        return namespace_tag(trial[1]) + trial[2]
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", namespace):
        return namespace
    return "%" + blake2b(namespace.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def split_key(key: Key) -> tuple[int, bytes]:
    """A key as its partition, and the rest as the scripts read it: path and member in one text."""
    first, member = _halves(key)
    path = first >> _BEHIND_PATH & _PATH
    return first >> _BEHIND_PARTITION, b"%02x%07o%d" % (path >> _LOWER_BITS, path & _LOWER, member)


PROBE_POST = split_key(blake2b(b"nobody's", digest_size=KEY_BYTES, person=b"vd1").digest())[1]
"""A post that no item has. Checks use it in every partition, though its key belongs to one."""


class KeyNames:
    """The names of a namespace's keys; with a ``shelf``, its partitions are apart from the posts'.

    Layout, identity and what runs write of themselves belong to the namespace as a whole.
    """

    def __init__(self, namespace: str, shelf: str = "") -> None:
        tag = namespace_tag(namespace)
        self.root = f"vd1:{{{tag}}}"
        self.layout = f"{self.root}:layout"
        self.identity = f"{self.root}:id"
        self.history = f"{self.root}:history"
        # A tag has no plus sign but a trial's: no other namespace has a shelf's keys.
        self._part = f"{tag}+{shelf}" if shelf else tag
        self.partitions = [self.partition(number) for number in PARTITION_TAGS]

    def partition(self, name: str) -> str:
        """The key that names a partition; all its other keys derive from it."""
        return f"vd1:{{{self._part}:{name}}}"

    def heartbeat(self, run: str) -> str:
        """The key whose existence says that a run is alive."""
        return f"{self.root}:run:{run}"

    def run_info(self, run: str) -> str:
        """The key in which a run says what it is doing."""
        return f"{self.root}:info:{run}"


def claim_key(partition: str, post: bytes) -> str:
    """The key of the claim on a post."""
    return f"{partition}:c:{post.decode()}"
