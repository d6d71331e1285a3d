"""The runs of a namespace: heartbeats say that a run is alive, its info says what it is doing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scrapy_valkey_dedup.ledger.keys import KeyNames
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

IDLE_MARK = "idle"
_RUNS_PER_MGET = 1000


class Runs:
    """What one run tells the others, and what it reads of them. Times are in seconds.

    Errors are those of :class:`~scrapy_valkey_dedup.valkey.client.Client`.
    """

    def __init__(self, client: Client, names: KeyNames, run: str) -> None:
        self._client = client
        self._names = names
        self._run = run

    async def write_heartbeat(
        self, count: int, lease: float, *, idle: bool = False
    ) -> bytes | None:
        """Tells the other runs that this one is alive, for ``lease`` seconds.

        ``idle``: it has nothing left to do but to wait for what they hold.
        Returns the heartbeat that stood there before.
        """
        name = self._names.heartbeat(self._run)
        beat = f"{count} {IDLE_MARK}" if idle else count
        set_and_get = command("SET", name, beat, "PX", int(lease * 1000), "GET")
        (before,) = await self._client.ask(set_and_get, key=name)
        return None if before is None else bytes(before)

    async def read_heartbeats(self, runs: Sequence[str]) -> list[bytes | None]:
        """The last heartbeat of each run; None if it is over. An idle run's ends in IDLE_MARK."""
        return await self._read(self._names.heartbeat, runs)

    async def write_info(self, info: bytes, lifetime: float) -> None:
        """Says what this run is doing, for ``lifetime`` seconds. Nothing is decided by it."""
        name = self._names.run_info(self._run)
        await self._client.ask(command("SET", name, info, "PX", int(lifetime * 1000)), key=name)

    async def read_infos(self, runs: Sequence[str]) -> list[bytes | None]:
        """What each run has said last; None: nothing, or long ago."""
        return await self._read(self._names.run_info, runs)

    async def sign_off(self, last: bytes = b"", lifetime: float = 0) -> None:
        """Ends this run's heartbeat: other runs may take over its claims at once.

        ``last``: what it says of itself for ``lifetime`` seconds more.
        """
        heartbeat, info = self._names.heartbeat(self._run), self._names.run_info(self._run)
        kept = command("SET", info, last, "PX", int(lifetime * 1000))
        await self._client.ask(
            command("DEL", heartbeat), kept if last else command("DEL", info), key=heartbeat
        )

    async def _read(self, name: Callable[[str], str], runs: Sequence[str]) -> list[bytes | None]:
        """The value of a key of each run, all at one moment unless they are very many."""
        questions = [
            command("MGET", *map(name, runs[start : start + _RUNS_PER_MGET]))
            for start in range(0, len(runs), _RUNS_PER_MGET)
        ]
        found = await self._client.ask(*questions, key=self._names.root)
        return [value for some in found for value in some]
