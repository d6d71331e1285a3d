"""Whether a namespace can be used: the server's version, its kind, and the layout of the keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from scrapy_valkey_dedup.ledger.keys import LAYOUT, PROBE_POST, KeyNames, claim_key
from scrapy_valkey_dedup.model import CommandRefusedError, LedgerRefusedError, LedgerReplyError
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command
from scrapy_valkey_dedup.valkey.slots import slot_of

OLDEST = (7, 0)
"""The oldest server that knows ``SET NX GET``: Redis 7.0, of which Valkey 7.2 is the successor."""


async def check_server(client: Client, names: KeyNames) -> None:
    """Checks version and kind of the server. HELLO changes nothing and needs no permission.

    Raises:
        LedgerRefusedError: it is too old, a Sentinel, or one node of a cluster.

    """
    try:
        (about,) = await client.ask(command("HELLO"), key=names.root)
    except (LedgerReplyError, CommandRefusedError):
        return  # a proxy that does not know it: the permission check shows what scripts can do
    facts = _facts(about)
    product, version = facts.get("server", ""), facts.get("version", "")
    if facts.get("mode") == "sentinel":
        raise LedgerRefusedError(
            "VALKEY_DEDUP_URL names a Sentinel: write valkey+sentinel:// (with TLS "
            "valkeys+sentinel://) and the name of the service, as in "
            "valkey+sentinel://one:26379,two:26379/posts"
        )
    if facts.get("mode") == "cluster":
        await _check_slots(client, names)
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise LedgerRefusedError(
            f"the server is {product or 'redis'} {version}, which is too old: Valkey 7.2 is "
            "the oldest that works (or Redis 7.0). Upgrade it, or let VALKEY_DEDUP_URL name "
            "another"
        )


async def _check_slots(client: Client, names: KeyNames) -> None:
    """Meets the MOVED of a node of a cluster that is addressed as one server.

    Reads at both ends of the range of slots: where there are several nodes, one has the first
    slots and another one the last.
    """
    ends = min(names.partitions, key=slot_of), max(names.partitions, key=slot_of)
    claims = [claim_key(partition, PROBE_POST) for partition in ends]
    await client.ask_each({claim: command("GET", claim) for claim in claims})


class Opening:
    """Checks the layout of a namespace, and writes layout and identity of a new one."""

    def __init__(self, client: Client, names: KeyNames) -> None:
        self._client = client
        self._names = names
        self._is_new = False
        self.identity = ""
        """Of the namespace, when it has been opened."""

    async def look(self, *, is_known: bool) -> None:
        """Checks server and layout; changes nothing. ``is_known``: the server was checked before.

        Raises:
            LedgerRefusedError: the layout is another version's; or as :func:`check_server` does.

        """
        found, identity = await _look_at(self._client, self._names, is_known=is_known)
        self._is_new = found in (None, LAYOUT.encode()) and None in (found, identity)
        if not self._is_new:
            self._take(found, identity)

    async def begin(self) -> None:
        """Writes what a new namespace has; asks nothing if it is none. May go with other questions.

        Raises:
            LedgerRefusedError: meanwhile another version has begun it.

        """
        if self._is_new:
            begin = [
                command("SET", key, value, "NX")
                for key, value in (
                    (self._names.layout, LAYOUT),
                    (self._names.identity, token_hex(8)),
                )
            ]
            self._take(*await _layout_and_identity(self._client, self._names, *begin))

    def _take(self, found: bytes | None, identity: bytes | None) -> None:
        _check_layout(self._names, found)
        self.identity = (identity or b"").decode("utf-8", "replace")


async def namespace_exists(client: Client, names: KeyNames) -> bool:
    """Whether anything was ever written to the namespace. Checks the server; changes nothing.

    Raises:
        LedgerRefusedError: as :meth:`Opening.look` does.

    """
    found, _ = await _look_at(client, names)
    _check_layout(names, found or LAYOUT.encode())
    return found is not None


async def _look_at(
    client: Client, names: KeyNames, *, is_known: bool = False
) -> tuple[bytes | None, bytes | None]:
    """Layout and identity; checks the server in the same round trip, unless it is known."""
    checks = () if is_known else (check_server(client, names),)
    *_, pair = await client.together(*checks, _layout_and_identity(client, names))
    found, identity = pair
    return found, identity


async def _layout_and_identity(
    client: Client, names: KeyNames, *before: bytes
) -> tuple[bytes | None, bytes | None]:
    # MGET, as heartbeats are read with it: a user who may not use it is told at the start.
    look = command("MGET", names.layout, names.identity)
    return _pair(await client.ask(*before, look, key=names.layout))


def _pair(replies: Sequence[Any]) -> tuple[bytes | None, bytes | None]:
    """The two values of an MGET, the last of these replies."""
    values = replies[-1]
    if not (isinstance(values, list) and len(values) == 2):  # noqa: PLR2004
        raise LedgerRefusedError(
            f"MGET of two keys was answered with {values!r:.60}: this is not a Valkey server. "
            "Check VALKEY_DEDUP_URL"
        )
    return values[0], values[1]


def _check_layout(names: KeyNames, found: bytes | None) -> None:
    if found != LAYOUT.encode():
        raise LedgerRefusedError(
            f"the ledger {names.root} has layout {found!r:.20}; this version of "
            f"scrapy-valkey-dedup writes layout {LAYOUT}: install the version that wrote it, "
            "or choose another VALKEY_DEDUP_NAMESPACE"
        )


def _facts(about: Any) -> dict[str, str]:
    """The reply to HELLO as a dict. What a proxy answers may be anything."""
    words = about if isinstance(about, list) else []
    texts = [str(word, "utf-8", "replace") if isinstance(word, bytes) else "" for word in words]
    return dict(zip(texts[::2], texts[1::2], strict=False))
