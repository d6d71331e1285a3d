"""Finds the runs of a namespace again and again, in few and small steps."""

from __future__ import annotations

import re
from time import monotonic

from scrapy_valkey_dedup.ledger.keys import KeyNames
from scrapy_valkey_dedup.model import LedgerRefusedError, LedgerReplyError
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

_STEP = 1000
"""Keys per SCAN; one takes the server well under a millisecond."""
_LONGEST = 2.0
"""Seconds after which the first search stops; the next ones go on where it was."""
_STEPS = 10
"""Steps of each later search, at most."""


class RunFinder:
    """Finds runs by SCAN, and goes on with each call where the last one stopped.

    All keys of runs are in one slot: in a cluster, a Valkey 8 or newer looks only there, and one
    step is enough, however many posts it remembers. A single server goes through all its keys.
    """

    def __init__(self, server: Client, namespace: str) -> None:
        self.refused = ""
        """Why the search was refused, such as a missing permission; "" if it was not."""
        self._server = server
        # Nothing in a namespace's tag means anything in a pattern.
        self._root = KeyNames(namespace).root
        self._of_runs = re.compile(rf"{re.escape(self._root)}:(?:run|info):(.+)", re.DOTALL)
        self._cursor = b"0"

    async def first(self) -> set[str]:
        """The runs that have a heartbeat or a note."""
        return await self._search(monotonic() + _LONGEST, None)

    async def more(self) -> set[str]:
        """Some of them; after a few calls all. None after a refusal: a server logs each."""
        return set() if self.refused else await self._search(monotonic() + _LONGEST, _STEPS)

    async def _search(self, until: float, steps: int | None) -> set[str]:
        found = set[str]()
        done = 0
        try:
            while True:
                found |= await self._step()
                done += 1
                if self._cursor == b"0" or done == steps or monotonic() > until:
                    return found
        except (LedgerRefusedError, LedgerReplyError) as error:
            self.refused = str(error)
            return found

    async def _step(self) -> set[str]:
        scan = command("SCAN", self._cursor, "MATCH", f"{self._root}:[ri]*", "COUNT", _STEP)
        ((cursor, keys),) = await self._server.ask(scan, key=self._root)
        self._cursor = bytes(cursor)
        names = (key.decode("utf-8", "replace") for key in keys)
        return {match[1] for name in names if (match := self._of_runs.fullmatch(name))}
