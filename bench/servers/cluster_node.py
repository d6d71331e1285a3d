"""One node of a cluster, and what it says of the others."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from valkey.exceptions import ValkeyError

from bench.servers.server import ValkeyServer


@dataclass(frozen=True)
class Line:
    """What one node says of another, or of itself: a line of CLUSTER NODES."""

    node: str
    flags: frozenset[str]
    primary: str
    """The primary that it copies; "-" for a primary."""
    epoch: int
    linked: bool
    slots: tuple[range, ...]

    @classmethod
    def read(cls, text: str) -> Line:
        """Slots on the move (``[7->-id]``) are listed among their owner's, too."""
        node, _, flags, primary, _, _, epoch, link, *slots = text.split()
        bounds = [slot.partition("-") for slot in slots if not slot.startswith("[")]
        ranges = tuple(range(int(first), int(last or first) + 1) for first, _, last in bounds)
        return cls(
            node, frozenset(flags.split(",")), primary, int(epoch), link == "connected", ranges
        )

    @property
    def healthy(self) -> bool:
        """Whether it can be reached and no node doubts it."""
        return self.linked and not self.flags & {"fail", "fail?", "handshake", "noaddr"}

    def owns(self, slot: int) -> bool:
        """Whether the node is said to own the slot."""
        return any(slot in slots for slots in self.slots)


_SILENCE = Line("", frozenset(), "", 0, linked=False, slots=())


class ClusterNode(ValkeyServer):
    """A server of a cluster. It keeps its ``id`` as it keeps its directory."""

    id: str
    bus_port: int

    def view(self) -> list[Line]:
        """The cluster as this node sees it; empty if it does not answer."""
        with suppress(ValkeyError, OSError):
            return [Line.read(line) for line in self.ask("CLUSTER", "NODES").splitlines()]
        return []

    def myself(self) -> Line:
        """What it says of itself; a line without flags if it does not answer."""
        return next((line for line in self.view() if "myself" in line.flags), _SILENCE)

    def state(self) -> dict[str, str]:
        """What it says of the whole, by CLUSTER INFO; empty if it does not answer."""
        with suppress(ValkeyError, OSError):
            lines = self.ask("CLUSTER", "INFO").splitlines()
            return dict(line.split(":", 1) for line in lines if line)
        return {}
