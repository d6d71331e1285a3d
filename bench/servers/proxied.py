"""A connection through the faulty proxy: its two sides, and what happens to their bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.servers.faulty_proxy import FaultyProxy

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER without patience


class Pair:
    """One connection: its two sides. The server's is there once the target has accepted."""

    def __init__(
        self, proxy: FaultyProxy, loop: asyncio.AbstractEventLoop, pairs: set[Pair]
    ) -> None:
        self.proxy, self.loop = proxy, loop
        self._pairs = pairs
        self._connecting: asyncio.Task[None] | None = None
        self._is_asked = False
        self.client, self.server = _Side(self), _Side(self)
        self.client.other, self.server.other = self.server, self.client

    def made(self, side: _Side) -> None:
        """A side is connected. A client is read from when the server is connected, too."""
        if side is self.server:
            self.client.hear()
            return
        self._pairs.add(self)
        if self.proxy.refuse:
            self.reset()
        else:
            # Not now: before Python 3.12 a transport begins to read after this, paused or not, and
            # what a client sends at once would be lost.
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

    def count(self, side: _Side) -> None:
        """A side has sent something: what a client asks after a reply is one more round trip."""
        if side is self.client and not self._is_asked:
            self.proxy.round_trips += 1
        self._is_asked = side is self.client

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
        """Resets a side whose other side closed while that could not be passed on."""
        if not (self._connecting or (self.client.transport and self.server.transport)):
            self.reset()

    def left(self) -> None:
        """Forgets a connection when both sides are closed."""
        if not (self._connecting or self.client.transport or self.server.transport):
            self._pairs.discard(self)


class _Side(asyncio.Protocol):
    """One side of a connection; what is sent to it waits in a queue until it is due."""

    other: _Side

    def __init__(self, pair: Pair) -> None:
        self.transport: asyncio.Transport | None = None  # while it is open
        self._pair = pair
        self._mute = False  # bytes of it were swallowed: what follows makes no sense without them
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        # Before Python 3.11 a client is read from although reading was paused when it connected.
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"".join(self._early))
        self._pair.made(self)

    def data_received(self, data: bytes) -> None:
        proxy = self._pair.proxy
        self._pair.count(self)
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
        """Sends it what the other side has sent."""
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
        """Reads what it sends."""
        if self.transport:
            self.transport.resume_reading()

    def turn_away(self) -> None:
        """Leaves what it sends in the buffers of the system."""
        if self.transport:
            self.transport.pause_reading()
