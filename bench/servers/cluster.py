"""A real Valkey cluster on loopback; tests kill, move and restart parts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from urllib.parse import quote

from valkey.crc import key_slot

from bench.servers.cluster_node import ClusterNode, Line
from bench.servers.lifetime import Equipment
from bench.servers.ports import free_port
from bench.servers.tls import Tls
from bench.servers.waiting import wait_for

SLOTS = 16384
PATIENCE = 300  # seconds: a deadline for what takes a few


class ValkeyCluster(Equipment):
    """Primaries with replicas, from ``start`` to ``stop``; ``node_timeout`` in ms.

    A primary that dies is replaced after about 1.5 times ``node_timeout`` and up to a second.
    Without ``persistent`` a killed primary comes back empty, and so do its replicas. ``options``
    go to every node.
    """

    def __init__(  # noqa: PLR0913 (each is a choice of its own)
        self,
        primaries: int = 3,
        replicas: int = 1,
        node_timeout: int = 1000,
        *,
        options: Sequence[str] = (),
        persistent: bool = True,
        password: str = "",
        tls: Tls | None = None,
    ) -> None:
        self._primaries, self._replicas = primaries, replicas
        self._password = password
        self._tls = tls
        told = (
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout),
            "--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no",
            "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
            *(["--masterauth", password] if password else []), *options,
        )  # fmt: skip
        self.nodes = [
            self._node(told, persistent=persistent) for _ in range(primaries * (replicas + 1))
        ]

    def _node(self, options: Sequence[str], *, persistent: bool) -> ClusterNode:
        bus_port = free_port()
        node = ClusterNode(
            "--cluster-port", str(bus_port), *options, port=free_port(),
            persistent=persistent, password=self._password, tls=self._tls,
        )  # fmt: skip
        node.bus_port = bus_port
        return node

    @property
    def url(self) -> str:
        """Where a client finds it: all nodes, the first primaries first."""
        scheme = "valkeys+cluster" if self._tls else "valkey+cluster"
        user = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"{scheme}://{user}" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def living(self) -> list[ClusterNode]:
        """The nodes whose processes run."""
        return [node for node in self.nodes if node.alive]

    def start(self) -> ValkeyCluster:
        """Forms the cluster; returns when every node says that it is complete and in sync."""
        for node in self.nodes:
            node.start()
            node.id = node.ask("CLUSTER", "MYID")
        primaries, replicas = self.nodes[: self._primaries], self.nodes[self._primaries :]
        for number, node in enumerate(primaries):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first, end = (SLOTS * n // self._primaries for n in (number, number + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for number, node in enumerate(self.nodes):  # faster than gossip
            for other in self.nodes[:number]:
                node.ask("CLUSTER", "MEET", "127.0.0.1", other.port or 0, other.bus_port)
        wait_for(self._all_met, PATIENCE, "all nodes to know one another")
        for number, node in enumerate(replicas):
            node.ask("CLUSTER", "REPLICATE", primaries[number % self._primaries].id)
        self.wait_ok()
        return self

    def stop(self) -> None:
        """Ends all nodes and removes their directories."""
        for node in self.nodes:
            node.stop()

    # -- looking ---------------------------------------------------------------------------------

    def slot_of(self, key: str | bytes) -> int:
        """The slot of a key, by its hash tag if it has one."""
        return int(key_slot(key.encode() if isinstance(key, str) else key))

    def primary_of(self, key_or_slot: str | bytes | int) -> ClusterNode:
        """The owner of a slot by the newest epoch; a dead one until another has taken over."""
        slot = key_or_slot if isinstance(key_or_slot, int) else self.slot_of(key_or_slot)
        lines = [line for node in self.living for line in node.view() if line.owns(slot)]
        if not lines:
            raise LookupError(f"no living node knows the owner of slot {slot}")
        return self._by_id(max(lines, key=lambda line: line.epoch).node)

    @property
    def primaries(self) -> list[ClusterNode]:
        """The living nodes that say they are primaries."""
        return [node for node in self.living if "master" in node.myself().flags]

    def replicas_of(self, node: ClusterNode) -> list[ClusterNode]:
        """The living nodes that say they are its replicas."""
        return [replica for replica in self.living if replica.myself().primary == node.id]

    def is_ok(self) -> bool:
        """Whether all living nodes agree on living owners of all slots, and are in sync."""
        views = [node.view() for node in self.living]
        states = [node.state() for node in self.living]
        return (
            all(self._is_content(view) for view in views)
            and len({_owners(view) for view in views}) == 1
            and all(state.get("cluster_state") == "ok" for state in states)
            # A node that does not know the newest epoch could stand for election with one in use.
            and len({state["cluster_current_epoch"] for state in states}) == 1
            and all(node.in_sync() for node in self.living)
        )

    def wait_ok(self, seconds: float = PATIENCE) -> None:
        """Waits until ``is_ok``."""
        try:
            wait_for(self.is_ok, seconds, "the cluster to be in order", pause=0.05)
        except TimeoutError as error:
            views = "\n".join(f"{node.port}: {node.view()}" for node in self.living)
            raise TimeoutError(f"{error}:\n{views}") from None

    # -- faults and changes -----------------------------------------------------------------------

    def kill(self, node: ClusterNode) -> None:
        """SIGKILL. ``wait_ok`` then waits until another has taken over."""
        node.kill()

    def restart(self, node: ClusterNode) -> None:
        """Starts a node on the data it had; returns when it is in sync and all agree again."""
        node.restart()
        self.wait_ok()

    def failover(self, replica: ClusterNode, how: str = "") -> None:
        """Makes a replica the primary, by default without losing a write.

        ``how`` is "", or FORCE: its primary is not asked. (TAKEOVER may choose an epoch in use,
        and is then undone.) Takes six seconds where the other primaries have just voted for
        another replica.
        """
        for _ in range(20):
            replica.ask("CLUSTER", "FAILOVER", *([how] if how else []))
            with suppress(TimeoutError):  # the servers give up after 5 s
                wait_for(lambda: "master" in replica.myself().flags, 6, "the failover")
            self.wait_ok()
            if "master" in replica.myself().flags:
                return
        raise TimeoutError(f"the failover to {replica.port} failed again and again:\n{replica.log}")

    def rolling_restart(self, *, gently: bool = True) -> None:
        """Restarts one node after the other, each when the one before is in sync.

        Gently: a primary's replica takes over first, then SIGTERM. Else: SIGKILL, and up again at
        once, as under systemd. By default a server may then lose what it acknowledged in the last
        two seconds, and its replicas follow: ``options=("--appendfsync", "always")`` loses nothing.
        """
        for node in self.nodes:
            if gently and (replicas := self.replicas_of(node)):
                self.failover(replicas[0])
            if not gently:
                node.kill()
            self.restart(node)

    def migration(self, slot: int, target: ClusterNode, batch: int = 50) -> Iterator[int]:
        """Moves a slot key by key; stands still after each step and tells how many keys moved.

        The first stop is before any key moves, the last after the last key, when the slot is not
        yet the target's. An iterator that is dropped leaves the slot half migrated; another
        migration to the same target continues from there.
        """
        source = self.primary_of(slot)
        if source is target:
            return
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        user = ["AUTH", self._password] if self._password else []
        moved = 0
        yield moved
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, batch):
            source.ask(
                "MIGRATE", "127.0.0.1", target.port or 0, "", 0, 5000, "REPLACE", *user,
                "KEYS", *keys,
            )  # fmt: skip
            moved += len(keys)
            yield moved
        # The target first: its new epoch wins over what the source may still say.
        others = [node for node in self.primaries if node not in (target, source)]
        for node in (target, source, *others):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def migrate_slot(
        self,
        slot: int,
        target: ClusterNode,
        step: Callable[[int], object] = lambda moved: None,  # noqa: ARG005
        batch: int = 50,
    ) -> None:
        """Moves a slot to another primary; ``step`` is called at each stop of ``migration``."""
        for moved in self.migration(slot, target, batch):
            step(moved)
        self.wait_ok()

    # -- helpers -----------------------------------------------------------------------------------

    def _by_id(self, identity: str) -> ClusterNode:
        return next(node for node in self.nodes if node.id == identity)

    def _all_met(self) -> bool:
        everyone = {node.id for node in self.nodes}
        return all(
            {line.node for line in view} == everyone and all(line.linked for line in view)
            for view in (node.view() for node in self.nodes)
        )

    def _is_content(self, view: Sequence[Line]) -> bool:
        """Whether a node sees all others, and only living, healthy nodes own slots."""
        alive = {node.id for node in self.living}
        return (
            {line.node for line in view} == {node.id for node in self.nodes}
            and alive <= {line.node for line in view if line.healthy}
            and {node for node, _ in _owners(view)} <= alive
        )


def _owners(view: Sequence[Line]) -> frozenset[tuple[str, tuple[range, ...]]]:
    return frozenset((line.node, line.slots) for line in view if line.slots)
