"""A TCP proxy on loopback whose faults are switched on and off while it runs."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

_BACKLOG = 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER without patience


class FaultyProxy:
    """Carries connections to ``target_port`` from ``start`` to ``close``, in a thread of its own.

    The switches may be set from any thread, and hold for what comes from then on; ``target_port``
    is one of them and holds for new connections. ``seed`` decides what ``reset_chance`` hits.
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
        self.resets = 0
        """How many were reset by ``reset_chance`` and ``cut``."""
        self._swallow = self._swallow_replies = False
        self._chance = random.Random(seed)
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="faulty proxy", daemon=True)

    def start(self) -> FaultyProxy:
        """Returns when it listens, on ``port``."""
        self._thread.start()
        self._in_loop(self._listen)
        return self

    def close(self) -> None:
        """Resets what is open and ends the thread; a second time it does nothing."""
        if self._thread.is_alive():
            self._in_loop(self._end)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    @property
    def swallow(self) -> bool:
        """Nothing passes in either direction, and neither side learns that the other has gone.

        A connection that has lost a byte stays mute when the switch is off again: its client has to
        find out. One that was idle meanwhile is as before.
        """
        return self._swallow

    @swallow.setter
    def swallow(self, on: bool) -> None:
        self._swallow = on
        self._in_loop(self._bury)

    @property
    def swallow_replies(self) -> bool:
        """As ``swallow``, but what clients send arrives: the deed is done and nobody is told."""
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
        """Resets all connections now, on both sides; new ones are welcome."""
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
        self._server.close()
        for pair in list(self._pairs):
            pair.reset()
        while self._pairs:  # noqa: ASYNC110 (each leaves within the loop's next rounds)
            await asyncio.sleep(0)

    def _accept(self) -> _Side:
        self.connections += 1
        return _Pair(self, self._loop, self._pairs).client

    def _cut(self) -> None:
        for pair in list(self._pairs):
            self.resets += 1
            pair.reset()

    def _bury(self) -> None:
        if not (self._swallow or self._swallow_replies):
            for pair in list(self._pairs):
                pair.bury()

    def __enter__(self) -> FaultyProxy:  # noqa: PYI034 (Self needs Python 3.11)
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Pair:
    """One connection: its two sides. The server's is there once the target has accepted."""

    def __init__(
        self, proxy: FaultyProxy, loop: asyncio.AbstractEventLoop, pairs: set[_Pair]
    ) -> None:
        self.proxy, self.loop = proxy, loop
        self._pairs = pairs
        self._connecting: asyncio.Task[None] | None = None
        self.client, self.server = _Side(self), _Side(self)
        self.client.other, self.server.other = self.server, self.client

    def made(self, side: _Side) -> None:
        """A side is there. A client is heard when the server is there too."""
        if side is self.server:
            self.client.hear()
            return
        self._pairs.add(self)
        if self.proxy.refuse:
            self.reset()
        else:
            # Not now: before Python 3.12 a transport begins to read after this, paused or not, and
            # what a client says at once would be lost.
            self.loop.call_soon(self._let_wait)
            self._connecting = self.loop.create_task(self._connect())

    def _let_wait(self) -> None:
        if not self.server.transport:
            self.client.turn_away()

    async def _connect(self) -> None:
        target = self.proxy.target_port
        try:
            await self.loop.create_connection(lambda: self.server, "127.0.0.1", target)
        except OSError:
            if not self.proxy.swallows(reply=True):
                self.client.reset()
        finally:
            self._connecting = None
            self.left()

    @property
    def is_connecting(self) -> bool:
        """Whether the server's side is still to come."""
        return self._connecting is not None

    def reset(self) -> None:
        """Resets both sides."""
        if self._connecting:
            self._connecting.cancel()
        self.client.reset()
        self.server.reset()

    def bury(self) -> None:
        """Resets the side whose other has gone while it could not be told."""
        if not (self._connecting or (self.client.transport and self.server.transport)):
            self.reset()

    def left(self) -> None:
        """Forgets a connection of which nothing is left."""
        if not (self._connecting or self.client.transport or self.server.transport):
            self._pairs.discard(self)


class _Side(asyncio.Protocol):
    """One side of a connection; what is sent to it waits in its queue for its time."""

    other: _Side

    def __init__(self, pair: _Pair) -> None:
        self.transport: asyncio.Transport | None = None  # while it is open
        self._pair = pair
        self._mute = False  # it has said what was swallowed: what it says now has lost its meaning
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        # Before Python 3.11 a client is heard although it was turned away when it connected.
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"".join(self._early))
        self._pair.made(self)

    def data_received(self, data: bytes) -> None:
        proxy = self._pair.proxy
        self._mute = self._mute or self._is_swallowed
        if self._mute:
            return
        if proxy.strikes():
            proxy.resets += 1
            self.other.write(proxy.tear(data))
            self._pair.reset()
        else:
            self.other.later(lambda: self.other.write(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self._is_swallowed:
            self.other.later(self.other.reset if exc else self.other.end)
        self._pair.left()

    def pause_writing(self) -> None:
        self.other.turn_away()

    def resume_writing(self) -> None:
        self.other.hear()

    @property
    def _is_swallowed(self) -> bool:
        return self._pair.proxy.swallows(reply=self is self._pair.server)

    def later(self, deed: Callable[[], None]) -> None:
        """Does it after the delay and after all that came before."""
        delay = self._pair.proxy.delay
        if not self._queue and delay <= 0:
            deed()
            return
        due = self._pair.loop.time() + delay
        if self._queue:
            due = max(due, self._queue[-1][0])
        self._queue.append((due, deed))
        if not self._timer:
            self._timer = self._pair.loop.call_at(due, self._catch_up)

    def _catch_up(self) -> None:
        loop = self._pair.loop
        while self._queue and self._queue[0][0] <= loop.time():
            self._queue[0][1]()
            self._queue.popleft()
        self._timer = loop.call_at(self._queue[0][0], self._catch_up) if self._queue else None

    def write(self, data: bytes) -> None:
        """Sends it what the other has said."""
        if self.transport:
            self.transport.write(data)
        elif self._pair.is_connecting:
            self._early.append(data)

    def end(self) -> None:
        """Closes it after all that was sent to it."""
        if self.transport:
            self.transport.close()

    def reset(self) -> None:
        """Closes it with RST, now."""
        if self.transport:
            connection = self.transport.get_extra_info("socket")
            with suppress(OSError):  # macOS: a connection that the other end has reset already
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()

    def hear(self) -> None:
        """Takes what it says."""
        if self.transport:
            self.transport.resume_reading()

    def turn_away(self) -> None:
        """Leaves what it says in its own buffers."""
        if self.transport:
            self.transport.pause_reading()
