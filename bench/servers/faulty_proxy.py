"""A TCP proxy on loopback whose faults are switched on and off while it runs."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable

from bench.servers.lifetime import Equipment
from bench.servers.proxied import Pair

_BACKLOG = 1024


class FaultyProxy(Equipment):
    """Carries connections to ``target_port`` from ``start`` to ``stop``, in a thread.

    The switches may be set from any thread, and apply to whatever comes after; ``target_port``
    is one of them and applies to new connections. ``seed`` decides what ``reset_chance`` hits.
    """

    delay = 0.0
    """Seconds that each direction takes more."""
    reset_chance = 0.0
    """The probability, for each chunk, that it is torn and its connection reset on both sides."""
    refuse = False
    """New connections are reset at once."""

    def __init__(self, target_port: int, *, seed: int = 0, port: int = 0) -> None:
        self.target_port = target_port
        self.port = port
        self.connections = 0
        """How many were ever accepted, the refused ones too."""
        self.round_trips = 0
        """How often a client has asked something, counting as one what it asks before a reply."""
        self.resets = 0
        """How many were reset by ``reset_chance`` and ``cut``."""
        self._swallow = self._swallow_replies = False
        self._chance = random.Random(seed)
        self._pairs: set[Pair] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="faulty proxy", daemon=True)

    def start(self) -> FaultyProxy:
        """Returns when it listens, on ``port``."""
        self._thread.start()
        self._in_loop(self._listen)
        return self

    def stop(self) -> None:
        """Resets what is open and ends the thread; a second time it does nothing."""
        if self._thread.is_alive():
            self._in_loop(self._end)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    @property
    def swallow(self) -> bool:
        """Nothing passes in either direction, and neither side learns that the other is gone.

        A connection that has lost a byte stays mute after the switch is off again, and its client
        has to notice. One that was idle meanwhile works as before.
        """
        return self._swallow

    @swallow.setter
    def swallow(self, on: bool) -> None:
        self._swallow = on
        self._in_loop(self._bury)

    @property
    def swallow_replies(self) -> bool:
        """As ``swallow``, but what clients send arrives: commands run, their replies are lost."""
        return self._swallow_replies

    @swallow_replies.setter
    def swallow_replies(self, on: bool) -> None:
        self._swallow_replies = on
        self._in_loop(self._bury)

    @property
    def open(self) -> int:
        """How many connections are open, on one side at least."""
        return len(self._pairs)

    def cut(self) -> None:
        """Resets all connections now, on both sides; new ones are accepted."""
        self._in_loop(self._cut)

    # -- in the thread -----------------------------------------------------------------------------

    def swallows(self, *, reply: bool) -> bool:
        """Whether bytes of this direction are lost now."""
        return self._swallow or (reply and self._swallow_replies)

    def strikes(self) -> bool:
        """Whether chance resets a connection at this chunk."""
        return self.reset_chance > 0 and self._chance.random() < self.reset_chance

    def tear(self, chunk: bytes) -> bytes:
        """The part of a chunk that arrives before the reset."""
        return chunk[: self._chance.randrange(len(chunk))]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _in_loop(self, deed: Callable[[], object]) -> None:
        """Has it done in the thread; returns when it is done."""
        if not self._thread.is_alive():
            return

        async def do() -> None:
            done = deed()
            if asyncio.iscoroutine(done):
                await done

        asyncio.run_coroutine_threadsafe(do(), self._loop).result()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            self._accept, "127.0.0.1", self.port, backlog=_BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server:
            self._server.close()
        for pair in list(self._pairs):
            pair.reset()
        while self._pairs:  # noqa: ASYNC110 (each leaves within the loop's next rounds)
            await asyncio.sleep(0)

    def _accept(self) -> asyncio.Protocol:
        self.connections += 1
        return Pair(self, self._loop, self._pairs).client

    def _cut(self) -> None:
        for pair in list(self._pairs):
            self.resets += 1
            pair.reset()

    def _bury(self) -> None:
        if not (self._swallow or self._swallow_replies):
            for pair in list(self._pairs):
                pair.bury()
