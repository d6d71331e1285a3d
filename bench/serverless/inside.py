"""A client for looking inside: past the front, all backends as if they were one server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import valkey
from valkey.crc import key_slot

if TYPE_CHECKING:
    from bench.servers import ValkeyServer

_KEY_AT = {"EVAL": 3, "EVALSHA": 3, "OBJECT ENCODING": 2, "OBJECT": 2, "MEMORY USAGE": 2}


class Inside(valkey.Valkey):
    """Commands on one key go to its backend; commands on several keys are split."""

    def __init__(self, backends: Sequence[ValkeyServer]) -> None:
        super().__init__()
        self._clients = [
            valkey.Valkey(unix_socket_path=str(server.socket), password=server.password)
            for server in backends
        ]

    def _client(self, key: str | bytes) -> valkey.Valkey:
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        return self._clients[slot * len(self._clients) // 16384]

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Of valkey-py: all of its methods end here."""
        name = str(words[0]).upper()
        at = _KEY_AT.get(name, 1)
        if name in ("EVAL", "EVALSHA") and int(words[2]) == 0:
            replies = [each.execute_command(*words, **options) for each in self._clients]
            return replies[0]
        if name in ("KEYS", "DBSIZE"):
            found = [each.execute_command(*words, **options) for each in self._clients]
            return sum(found) if name == "DBSIZE" else list(chain.from_iterable(found))
        if name == "DEL":
            return sum(self._client(key).execute_command("DEL", key) for key in words[1:])
        if name == "MGET":
            return [self._client(key).execute_command("GET", key) for key in words[1:]]
        if name == "MSET":
            pairs = zip(words[1::2], words[2::2], strict=True)
            return all(self._client(key).execute_command("SET", key, v) for key, v in pairs)
        return self._client(words[at]).execute_command(*words, **options)

    def scan_iter(self, match: Any = None, count: Any = None, **_: Any) -> Iterator[Any]:
        """Of valkey-py."""
        for each in self._clients:
            yield from each.scan_iter(match, count)

    def close(self) -> None:
        """Of valkey-py."""
        for each in self._clients:
            each.close()
