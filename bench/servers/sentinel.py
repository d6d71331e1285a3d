"""One Valkey Sentinel: the server's binary in its other mode."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import Any

from valkey.exceptions import ValkeyError

from bench.servers.ports import free_port
from bench.servers.server import ValkeyServer
from bench.servers.tls import Tls

# ms. By default a sentinel first pings a server that it has just met after a second, or after
# ``down_after`` if that is less: a new primary would count as dead and be replaced at once.
_PERIODS = {
    # Five of them must be longer than a second, the greatest age of what is known of a replica:
    # else no replica qualifies.
    "PING-PERIOD": 400,
    "PUBLISH-PERIOD": 200,  # a second primary is corrected after four of them
    "INFO-PERIOD": 1000,
    "TILT-PERIOD": 1000,  # how long it stays passive after it was stopped for two seconds
}


class Sentinel(ValkeyServer):
    """A sentinel whose periods are shorter than by default."""

    def __init__(
        self, config: str, password: str, data_password: str, tls: Tls | None, service: str
    ) -> None:
        if password:
            config += f"sentinel sentinel-pass {password}\n"
        if data_password:
            config += f"sentinel auth-pass {service} {data_password}\n"
        super().__init__("--sentinel", port=free_port(), password=password, tls=tls, config=config)
        self._service = service

    def start(self) -> Sentinel:
        """Returns when it answers."""
        super().start()
        for name, period in _PERIODS.items():
            self.ask("SENTINEL", "DEBUG", name, period)
        return self

    def primary_port(self) -> int | None:
        """The port of the primary that it names; None if it does not answer."""
        with suppress(ValkeyError, OSError):
            _, port = self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            return int(port)
        return None

    def knows(self, replicas: int, sentinels: int) -> bool:
        """Whether it sees a healthy primary, and so many replicas and other sentinels."""
        with suppress(ValkeyError, OSError):
            primary = _fields(self.ask("SENTINEL", "MASTER", self._service))
            replied = [
                [_fields(entry) for entry in self.ask("SENTINEL", what, self._service)]
                for what in ("REPLICAS", "SENTINELS")
            ]
            return (
                primary["flags"] == "master"
                and [len(entries) for entries in replied] == [replicas, sentinels]
                and all(entry["runid"] for entry in chain(*replied))
            )
        return False


def _fields(flat: list[Any]) -> dict[str, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
