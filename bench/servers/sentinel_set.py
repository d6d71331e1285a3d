"""A real primary with replicas on loopback, watched by real sentinels."""

from __future__ import annotations

from collections import Counter
from urllib.parse import quote

from bench.servers.lifetime import Equipment
from bench.servers.ports import free_port
from bench.servers.sentinel import Sentinel
from bench.servers.server import ValkeyServer
from bench.servers.tls import Tls
from bench.servers.waiting import wait_for

PATIENCE = 300  # seconds: a deadline for what takes a few
_FAILOVER_TIMEOUT = 3000  # ms; twice as long after one failover the next can begin


class SentinelSet(Equipment):
    """One primary, replicas and sentinels, from ``start`` to ``stop``.

    A primary that dies is replaced after ``down_after`` (in ms, at least 600) and about a second.
    """

    def __init__(  # noqa: PLR0913 (each is a choice of its own)
        self,
        replicas: int = 2,
        sentinels: int = 3,
        service: str = "posts",
        down_after: int = 1000,
        *,
        password: str = "",
        sentinel_password: str = "",
        tls: Tls | None = None,
    ) -> None:
        self.service = service
        self._password = password
        self._tls = tls
        first = free_port()
        self.servers = [self._server(first, "")]
        self.servers += [
            self._server(free_port(), f"replicaof 127.0.0.1 {first}\n") for _ in range(replicas)
        ]
        config = (
            f"sentinel monitor {service} 127.0.0.1 {first} {sentinels // 2 + 1}\n"
            f"sentinel down-after-milliseconds {service} {down_after}\n"
            f"sentinel failover-timeout {service} {_FAILOVER_TIMEOUT}\n"
            f"sentinel parallel-syncs {service} {max(replicas, 1)}\n"
        )
        self.sentinels = [
            Sentinel(config, sentinel_password, password, tls, service) for _ in range(sentinels)
        ]

    def _server(self, port: int, config: str) -> ValkeyServer:
        return ValkeyServer(
            "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
            *(["--masterauth", self._password] if self._password else []),
            port=port, persistent=True, password=self._password, tls=self._tls, config=config,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """Where a client finds the sentinels and the service; with the servers' password."""
        scheme = "valkeys+sentinel" if self._tls else "valkey+sentinel"
        user = f":{quote(self._password, safe='')}@" if self._password else ""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"{scheme}://{user}{hosts}/{self.service}"

    @property
    def primary(self) -> ValkeyServer:
        """The primary that most sentinels name; it may be dead."""
        ports = Counter(filter(None, (sentinel.primary_port() for sentinel in self._watching)))
        if not ports:
            raise LookupError("no living sentinel")
        ((port, _),) = ports.most_common(1)
        return next(server for server in self.servers if server.port == port)

    @property
    def replicas(self) -> list[ValkeyServer]:
        """The living servers that say they are replicas."""
        return [server for server in self._serving if server.info().get("role") == "slave"]

    def start(self) -> SentinelSet:
        """Returns when the replicas are in sync and the sentinels know them and each other."""
        for server in self.servers:
            server.start()
            wait_for(self._is_settled, PATIENCE, "the replicas to be in sync")
        for sentinel in self.sentinels:
            sentinel.start()
        self.wait_ok()
        return self

    def stop(self) -> None:
        """Ends all and removes their directories."""
        for server in (*self.sentinels, *self.servers):
            server.stop()

    def is_ok(self) -> bool:
        """Whether all living servers follow the sentinels' primary, and sentinels know all."""
        replicas, colleagues = len(self.servers) - 1, len(self.sentinels) - 1
        return self._is_settled() and all(
            sentinel.knows(replicas, colleagues) for sentinel in self._watching
        )

    def wait_ok(self, seconds: float = PATIENCE) -> None:
        """Waits until ``is_ok``."""
        wait_for(self.is_ok, seconds, f"{self.service} to be in order", pause=0.05)

    def kill(self, server: ValkeyServer) -> None:
        """SIGKILL, for a server or a sentinel."""
        server.kill()

    def wait_failover(self, former: ValkeyServer, seconds: float = PATIENCE) -> ValkeyServer:
        """Returns the new primary when all living sentinels name it and all living replicas follow.

        The former one may be dead, frozen or alive by then.
        """
        wait_for(
            lambda: self.primary is not former and self._is_settled(former),
            seconds, f"another primary of {self.service} than {former.port}", pause=0.05,
        )  # fmt: skip
        return self.primary

    def restart(self, server: ValkeyServer, *, informed: bool = True) -> None:
        """Starts a server on the data it had; returns when it is in sync.

        Informed: it is told the primary, as by start scripts that ask the sentinels. Otherwise a
        former primary is a second one until a sentinel corrects it, about a second later.
        """
        server.terminate()
        if informed and server in self.servers and server is not (primary := self.primary):
            file = server.directory / "conf"
            lines = [line for line in file.read_text().splitlines() if "replicaof " not in line]
            file.write_text("\n".join([*lines, f"replicaof 127.0.0.1 {primary.port}", ""]))
        server.start()
        wait_for(self._is_settled, PATIENCE, f"{server.port} to be in sync", pause=0.05)

    @property
    def _watching(self) -> list[Sentinel]:
        return [sentinel for sentinel in self.sentinels if sentinel.alive]

    @property
    def _serving(self) -> list[ValkeyServer]:
        return [server for server in self.servers if server.alive]

    def _is_settled(self, but: ValkeyServer | None = None) -> bool:
        """Whether all living servers, and all living sentinels, agree on a primary that lives."""
        ports = {sentinel.primary_port() for sentinel in self._watching}
        for server in self._serving:
            info = server.info()
            if info.get("role") == "master" and server is not but:
                ports.add(server.port)
            elif server is not but:
                up = info.get("master_link_status") == "up"
                ports.add(info.get("master_port") if up else None)
        return len(ports) == 1 and ports <= {server.port for server in self._serving}
