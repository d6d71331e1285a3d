"""The servers behind the front, each with a part of the slots, as the front sees them."""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections import deque
from collections.abc import Callable

from bench.serverless.rules import DATA, SCRIPTS, Rules
from bench.serverless.wire import Replies, packed

SLOTS = 16384
WHOLE = ":whole"
"""Behind a user's name: the user with all permissions of their own, to ask what they may do."""


def slot_of(key: bytes) -> int:
    """The slot of a key: that of what stands in its first braces, if anything does."""
    _, brace, rest = key.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    return crc_hqx(tag if brace and end and tag else key, 0) % SLOTS


def share(number: int, backends: int) -> tuple[int, int]:
    """The first and the last slot of a backend."""
    return SLOTS * number // backends, SLOTS * (number + 1) // backends - 1


class Entry:
    """A command on its way: its reply, when there is one, keeps its place among the others."""

    __slots__ = ("heard", "held", "instead", "reply", "script", "sent")

    def __init__(self, reply: bytes | None = None, sent: int = 0, *, script: bool = False) -> None:
        self.reply = reply
        self.sent = sent
        self.script = script
        self.held: float | None = None
        """What the meter has set aside for it; None if it is free."""
        self.instead: bytes | None = None
        """What the client hears instead of the reply."""
        self.heard: asyncio.Future[bytes] | None = None
        """Set for a command whose reply the front itself needs."""


class Link(asyncio.Protocol):
    """One client's connection to one backend."""

    transport: asyncio.Transport

    def __init__(self, replied: Callable[[Entry, bytes], None], flush: Callable[[], None],
                 lost: Callable[[], None]) -> None:  # fmt: skip
        self._replied, self._flush, self._lost = replied, flush, lost
        self._waiting: deque[Entry] = deque()
        self._replies = Replies()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, raw: bytes, entry: Entry) -> None:
        """Passes a command on."""
        self._waiting.append(entry)
        self.transport.write(raw)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        for reply in self._replies.feed(data):
            self._replied(self._waiting.popleft(), reply)
        self._flush()

    def connection_lost(self, _: Exception | None) -> None:
        """Of asyncio."""
        self._lost()


class Backend:
    """A server, as its superuser sees it: one connection, one question at a time."""

    def __init__(self, socket: str, password: str) -> None:
        self.socket = socket
        self._password = password
        self._lock = asyncio.Lock()
        self._replies = Replies()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, *words: bytes | str) -> bytes:
        """The reply to a command, as bytes; raises OSError if there is none."""
        async with self._lock:
            try:
                if self._streams is None:
                    self._streams = await asyncio.open_unix_connection(self.socket)
                    await self._exchange(packed("AUTH", self._password))
                return await self._exchange(packed(*words))
            except OSError:
                self._streams, self._replies = None, Replies()
                raise

    async def _exchange(self, raw: bytes) -> bytes:
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(raw)
        while data := await reader.read(1 << 16):
            for reply in self._replies.feed(data):
                return reply
        raise ConnectionResetError("the backend is gone")

    async def welcome(self, name: str, password: str, permissions: str, rules: Rules) -> None:
        """Makes a user. From scripts they may call only what the service allows there.

        For everything else the front checks their permissions, and does it for them.
        """
        commands = await self.ask("COMMAND", "LIST")
        known = {word.decode() for word in commands.split(b"\r\n") if word[:1].isalpha()}
        kept = DATA | SCRIPTS | {"script", "auth", "hello"} | {*rules.allowed_in_scripts}
        without = [
            f"-{name}" for name in sorted(known - (kept - {*rules.refused})) if "|" not in name
        ]
        words = permissions.split()
        for user, granted in ((name, [*words, *without]), (name + WHOLE, words)):
            reply = await self.ask("ACL", "SETUSER", user, "reset", "on", f">{password}", *granted)
            if reply.startswith(b"-"):
                raise ValueError(f"{user}: {reply.decode()}")

    async def may(self, name: str, words: list[bytes]) -> bytes:
        """The error with which the user may not do it; empty if they may."""
        reply = await self.ask("ACL", "DRYRUN", name + WHOLE, *words)
        if reply.startswith((b"+OK", b"-ERR")):  # an error: the command itself is wrong
            return b""
        text = reply.split(b"\r\n")[1].replace((name + WHOLE).encode(), name.encode())
        return b"-NOPERM %b\r\n" % text
