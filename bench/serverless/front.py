"""The front: one address, behind it the backends. A process of its own: the test's is not its speed.

``python -m bench.serverless.front`` reads its configuration (JSON, one line) from its input, says
``ready``, and ends when its input does. It is told and asked through a Unix socket, by JSON lines.
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
from bench.serverless.wire import bulk, error

HOST = "127.0.0.1"
_LOOK = 0.05  # seconds between two questions what scripts have cost
_BACKLOG = 1024
_NODE = "0" * 40


class Front:
    """All connections, and what they have in common."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self.rules = law.Rules().changed(config["rules"])
        self.backends = [Backend(socket, config["secret"]) for socket in config["backends"]]
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
        for backend in self.backends:
            for name, (password, permissions) in self._config["users"].items():
                await backend.welcome(name, password, permissions)
        await self._look()
        await asyncio.start_unix_server(self._control, self._config["control"])
        await asyncio.start_server(
            self._serve, HOST, self._config["port"], ssl=context, backlog=_BACKLOG
        )
        looking = asyncio.create_task(self._keep_looking())
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        looking.cancel()

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
        """What the backends take for this user: of one who has tokens, if the token is right."""
        if user not in self._by_token or self._cache is None:
            return given
        if self._cache.fault(user, given):
            return ""
        return str(self._config["users"][user][0])

    async def answer(self, name: str, words: list[bytes], user: str) -> bytes:
        """What is asked of the cache as a whole."""
        if name.startswith("cluster|"):
            return self._topology(name, words)
        if name in ("readonly", "readwrite"):
            return b"+OK\r\n"
        if name == "acl|whoami":
            return bulk(user)
        if name == "scan":
            return await self._scan(words)
        if name == "dbsize":
            sizes = [await backend.ask(*words) for backend in self.backends]
            return b":%d\r\n" % sum(int(size[1:]) for size in sizes)
        if name in ("flushall", "flushdb"):
            replies = [await backend.ask(*words) for backend in self.backends]
            return replies[0]
        return await self.backends[0].ask(*words)

    async def _scan(self, words: list[bytes]) -> bytes:
        """One backend after the other; the cursor says which, and where there."""
        count = len(self.backends)
        try:
            cursor, number = divmod(int(words[1]), count)
        except (IndexError, ValueError):
            return error("ERR invalid cursor")
        reply = await self.backends[number].ask(words[0], str(cursor), *words[2:])
        if reply.startswith(b"-"):
            return reply
        _, _, found, rest = reply.split(b"\r\n", 3)
        cursor = int(found)
        following = cursor * count + number if cursor else (number + 1) % count
        return b"*2\r\n" + bulk(str(following)) + rest

    def _topology(self, name: str, words: list[bytes]) -> bytes:
        """All slots are one node's, which is this address."""
        port = self._config["port"]
        if name == "cluster|slots":
            node = b"*3\r\n%b:%d\r\n%b" % (bulk(HOST), port, bulk(_NODE))
            return b"*1\r\n*3\r\n:0\r\n:%d\r\n" % (SLOTS - 1) + node
        if name == "cluster|shards":
            facts = [bulk("id"), bulk(_NODE), bulk("port"), b":%d\r\n" % port,
                     bulk("ip"), bulk(HOST), bulk("endpoint"), bulk(HOST),
                     bulk("role"), bulk("master"), bulk("replication-offset"), b":0\r\n",
                     bulk("health"), bulk("online")]  # fmt: skip
            node = b"*%d\r\n" % len(facts) + b"".join(facts)
            slots = bulk("slots") + b"*2\r\n:0\r\n:%d\r\n" % (SLOTS - 1)
            return b"*1\r\n*4\r\n" + slots + bulk("nodes") + b"*1\r\n" + node
        if name == "cluster|nodes":
            return bulk(f"{_NODE} {HOST}:{port}@0 myself,master - 0 0 1 connected 0-{SLOTS - 1}\n")
        if name == "cluster|keyslot":
            return b":%d\r\n" % slot_of(words[2] if len(words) > 2 else b"")
        if name == "cluster|myid":
            return bulk(_NODE)
        return bulk(f"cluster_state:ok\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_size:1\r\n")

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
                limit = self.rules.ecpu_limit
                self.rules = self.rules.changed(order["set"])
                if self.rules.ecpu_limit != limit:
                    self.meter.refill(self.rules.ecpu_limit)
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
