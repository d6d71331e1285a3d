"""What the cache answers as a whole: its topology, which is one node, and what all servers know."""

from __future__ import annotations

from collections.abc import Sequence

from bench.serverless.backends import SLOTS, Backend, slot_of
from bench.serverless.wire import bulk, error

HOST = "127.0.0.1"
_NODE = "0" * 40


class Whole:
    """Answers users who are allowed to ask."""

    def __init__(self, backends: Sequence[Backend], port: int) -> None:
        self._backends, self._port = backends, port

    async def answer(self, name: str, words: list[bytes], user: str) -> bytes:
        """What is asked of the cache as a whole."""
        if name.startswith("cluster|"):
            return self._topology(name, words)
        if name in ("readonly", "readwrite", "acl|whoami"):
            return bulk(user) if name == "acl|whoami" else b"+OK\r\n"
        if name == "scan":
            return await self._scan(words)
        if name == "dbsize":
            sizes = [await backend.ask(*words) for backend in self._backends]
            return b":%d\r\n" % sum(int(size[1:]) for size in sizes)
        if name in ("flushall", "flushdb"):
            replies = [await backend.ask(*words) for backend in self._backends]
            return replies[0]
        return await self._backends[0].ask(*words)

    async def _scan(self, words: list[bytes]) -> bytes:
        """One backend after the other; the cursor says which, and where there."""
        count = len(self._backends)
        try:
            cursor, number = divmod(int(words[1]), count)
        except (IndexError, ValueError):
            return error("ERR invalid cursor")
        reply = await self._backends[number].ask(words[0], str(cursor), *words[2:])
        if reply.startswith(b"-"):
            return reply
        _, _, found, rest = reply.split(b"\r\n", 3)
        cursor = int(found)
        following = cursor * count + number if cursor else (number + 1) % count
        return b"*2\r\n" + bulk(str(following)) + rest

    def _topology(self, name: str, words: list[bytes]) -> bytes:
        """All slots belong to one node: this address."""
        port = self._port
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
