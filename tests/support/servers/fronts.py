"""A front of real servers that answers some commands by itself, with errors that a test chooses."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import BinaryIO

from bench.servers import ValkeyServer

Command = list[bytes]
Rule = Callable[[Command], str | None]
"""What is said to a command instead of asking a server: an error without its minus; None: ask."""


def name_of(command: Command) -> str:
    """The command, in upper case."""
    return command[0].decode().upper()


class Front:
    """One address before one or more servers, each of which is asked in turn (or by ``choose``).

    ``rule`` may be changed at any time, from any thread. Commands are counted as they come.
    """

    def __init__(
        self,
        servers: Sequence[ValkeyServer],
        rule: Rule = lambda _: None,
        choose: Callable[[Command], int] | None = None,
    ) -> None:
        self.rule = rule
        self.asked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._servers = servers
        self._chance = random.Random(1)
        self._choose = choose or (lambda _: self._chance.randrange(len(servers)))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"valkey://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Front:  # noqa: PYI034 (Self needs Python 3.11)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        behind = [socket.create_connection(("127.0.0.1", each.port or 0)) for each in self._servers]
        sockets = [client, *behind]
        with self._lock:
            self._open.update(sockets)
        try:
            with suppress(OSError, EOFError):
                self._answer_all(client, behind)
        finally:
            with self._lock:
                self._open.difference_update(sockets)
            for each in sockets:
                each.close()

    def _answer_all(self, client: socket.socket, behind: Sequence[socket.socket]) -> None:
        heard, replies = client.makefile("rb"), [each.makefile("rb") for each in behind]
        while True:
            command, raw = _command(heard)
            with self._lock:
                self.asked[name_of(command)] += 1
                said, chosen = self.rule(command), self._choose(command)
                self.refused[name_of(command)] += said is not None
            if said is not None:
                client.sendall(b"-%b\r\n" % said.encode())
                continue
            behind[chosen].sendall(raw)
            client.sendall(_reply(replies[chosen]))


def _line(source: BinaryIO) -> bytes:
    line = source.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    return line


def _command(source: BinaryIO) -> tuple[Command, bytes]:
    """The next command, and as it was sent."""
    line = _line(source)
    raw, parts = [line], []
    for _ in range(int(line[1:])):
        size = _line(source)
        part = source.read(int(size[1:]) + 2)
        raw += [size, part]
        parts.append(part[:-2])
    return parts, b"".join(raw)


def _reply(source: BinaryIO) -> bytes:
    """The next reply, as it was sent (RESP 2)."""
    line = _line(source)
    size = int(line[1:]) if line[:1] in b"$*" else -1
    if line[:1] == b"$" and size >= 0:
        return line + source.read(size + 2)
    if line[:1] == b"*":
        return line + b"".join(_reply(source) for _ in range(max(size, 0)))
    return line


def by_chance(share: float, words: str, commands: Sequence[str] = (), seed: int = 1) -> Rule:
    """That share of the commands (all, unless some are named) is answered with an error."""
    chance = random.Random(seed)
    return lambda command: (
        words
        if (not commands or name_of(command) in commands) and chance.random() < share
        else None
    )


def always(words: str, *commands: str) -> Rule:
    """Each of these commands is answered with an error."""
    return lambda command: words if name_of(command) in commands else None
