"""The front: one address, and the backends behind it. A process, for its speed.

``python -m bench.serverless.front`` reads its configuration (JSON, one line) from its input, says
``ready``, and ends when its input does. A Unix socket takes orders and questions, as JSON lines.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from contextlib import suppress
from typing import Any

from bench.serverless import rules as law
from bench.serverless.backends import SLOTS, Backend, slot_of
from bench.serverless.connection import Connection
from bench.serverless.meter import Meter
from bench.serverless.tokens import Cache
from bench.serverless.whole import HOST, Whole

_LOOK = 0.05  # seconds between two questions what scripts have cost
_BACKLOG = 1024


class Front:
    """All connections, and what they have in common."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self.rules = law.Rules().changed(config["rules"])
        self.backends = [Backend(socket, config["secret"]) for socket in config["backends"]]
        self.whole = Whole(self.backends, config["port"])
        self.meter = Meter(len(self.backends))
        self.meter.refill(self.rules.ecpu_limit)
        self._cache = Cache(**config["cache"]) if config.get("cache") else None
        self._by_token = set(config["by_token"])
        self._open: set[asyncio.StreamWriter] = set()
        self._connections = 0

    async def run(self) -> None:
        """Until the input ends."""
        context = None
        if tls := self._config.get("tls"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls["certificate"], tls["key"])
        await self._welcome()
        await self._look()
        await asyncio.start_unix_server(self._control, self._config["control"])
        await asyncio.start_server(
            self._serve, HOST, self._config["port"], ssl=context, backlog=_BACKLOG
        )
        looking = asyncio.create_task(self._keep_looking())
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        looking.cancel()

    async def _welcome(self) -> None:
        for backend in self.backends:
            for name, (password, permissions) in self._config["users"].items():
                await backend.welcome(name, password, permissions, self.rules)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self._connections += 1
        try:
            await Connection(self, reader, writer).serve()
        finally:
            self._open.discard(writer)

    # -- for connections ---------------------------------------------------------------------------

    def owner(self, key: bytes) -> int:
        """The number of the backend that has a key."""
        return slot_of(key) * len(self.backends) // SLOTS

    def password_of(self, user: str, given: str) -> str:
        """The user's password at the backends; for users with tokens, if the token is right."""
        if user not in self._by_token or self._cache is None:
            return given
        if self._cache.fault(user, given):
            return ""
        return str(self._config["users"][user][0])

    # -- the meter and the switches ----------------------------------------------------------------

    async def _look(self) -> None:
        for number, backend in enumerate(self.backends):
            with suppress(OSError):
                self.meter.told(number, await backend.ask("INFO", "commandstats", "cpu"))

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            await self._look()

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            order = json.loads(line)
            if "set" in order:
                before, self.rules = self.rules, self.rules.changed(order["set"])
                if self.rules.ecpu_limit != before.ecpu_limit:
                    self.meter.refill(self.rules.ecpu_limit)
                await self._welcome()
            if order.get("cut"):
                for each in list(self._open):
                    each.transport.abort()
            await self._look()
            found = self.meter.read() | {
                "connections": self._connections, "open": len(self._open)
            }  # fmt: skip
            if order.get("reset"):
                self.meter.reset()
            writer.write(json.dumps(found).encode() + b"\n")
        writer.close()


if __name__ == "__main__":
    asyncio.run(Front(json.loads(sys.stdin.readline())).run())
