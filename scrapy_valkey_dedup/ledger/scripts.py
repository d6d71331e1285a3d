"""The Lua scripts of the ledger, put together from the files in ``lua/``, and calls of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from scrapy_valkey_dedup.ledger.keys import split_key
from scrapy_valkey_dedup.ledger.tokens import number_bytes
from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.valkey.resp import Argument, Script, ScriptCall

POSTS_PER_CALL = 500
"""ElastiCache Serverless allows 3,999 arguments."""

Calls = list[tuple[ScriptCall, list[int]]]
"""Calls of a script, each with the positions of its posts in the question."""

PARTS = {
    "claim": (
        "clock", "find", "claim", "generations", "refresh", "tokens", "contend", "record",
    ),
    "confirm": ("confirm", "clock", "generations", "overflow"),
    "release": ("release", "tokens", "doubt"),
    "renew": ("tokens", "renew"),
    "look": ("find", "look"),
    "inspect": ("find", "inspect"),
    "forget": ("generations", "forget"),
    "restore": ("clock", "generations", "restore"),
    "count": ("find", "count"),
    "history": ("history",),
}  # fmt: skip
"""The files of each script, after the layout. What most calls do comes first, and returns."""


def all_scripts() -> dict[str, Script]:
    """The scripts by name."""
    return {name: script(name) for name in PARTS}


@cache
def script(name: str) -> Script:
    """The script of this name."""
    folder = files("scrapy_valkey_dedup.ledger") / "lua"
    parts = ("layout", *PARTS[name])
    source = "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in parts)
    # A server keeps the source; without its comments it is half as long.
    return Script(name, re.sub(r"^\s*(--.*)?\n", "", source, flags=re.MULTILINE))


def calls_for(  # noqa: PLR0913 (all that a call consists of)
    lua: Script,
    partitions: Sequence[str],
    head: tuple[Argument, ...],
    keys: Sequence[Key],
    *,
    numbers: Sequence[int] | None = None,
    first: tuple[bytes, ...] = (),
) -> Calls:
    """One call for each partition (more, if one has many posts).

    Each post is followed by its number, if there are any; ``first`` goes before the posts.
    """
    groups: dict[int, tuple[list[bytes], list[int]]] = {}
    for position, key in enumerate(keys):
        partition, post = split_key(key)
        if numbers is not None:
            post += number_bytes(numbers[position])
        group = groups.get(partition)
        if group is None:
            group = groups[partition] = ([], [])
        group[0].append(post)
        group[1].append(position)
    return [
        (
            ScriptCall(
                lua, partitions[partition], head, [*first, *posts[at : at + POSTS_PER_CALL]]
            ),
            places[at : at + POSTS_PER_CALL],
        )
        for partition, (posts, places) in groups.items()
        for at in range(0, len(posts), POSTS_PER_CALL)
    ]


def in_order(calls: Calls, found: Sequence[Sequence[Any]], size: int) -> list[Any]:
    """The replies of several calls, each at the position of its post."""
    replies: list[Any] = [None] * size
    for (_, positions), answers in zip(calls, found, strict=True):
        for position, answer in zip(positions, answers, strict=True):
            replies[position] = answer
    return replies
