"""Reads the servers' counts of commands, and computes their ECPU.

``INFO commandstats`` counts the commands that scripts call, too, which cost nothing by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from scrapy_valkey_dedup.commands.shared.estimates.prices import Prices
from scrapy_valkey_dedup.commands.shared.status.server import Node, reply_or_reason
from scrapy_valkey_dedup.valkey.client import Client

_SCRIPTS = ("evalsha", "eval", "evalsha_ro", "eval_ro", "fcall", "fcall_ro")
_ASKED = (
    "hello",
    "auth",
    "client|setinfo",
    "mget",
    "cluster|slots",
    "scan",
    "sscan",
    "memory|usage",
)
"""Commands that spiders and operators send, and that no script calls."""
_DELETED_BY_A_RUN = 3
"""Keys that a run deletes itself at its start and end, without a script."""

_LOOKS_OF_A_START = 18
"""Lookups of a run at its start, which checks its permission in each partition."""


@dataclass
class Counted:
    """The counts of all servers since their start, or since ``CONFIG RESETSTAT``."""

    calls: Counter[str] = field(default_factory=Counter)
    """Calls by command; calls by scripts count, too."""
    script_us: int = 0
    """Microseconds of scripts."""
    bytes: int = 0
    """Bytes sent and received."""
    seconds: float = 0.0
    """Seconds of counting, of the server that was started last."""

    @property
    def scripts(self) -> int:
        """Calls of scripts."""
        return sum(self.calls[name] for name in _SCRIPTS)

    @property
    def plain(self) -> int:
        """An estimate of the calls of plain commands, without those of scripts.

        A claim is a SET in a script, and ends with a DEL in a script. So the SETs that no DEL
        follows are heartbeats and notes of runs, besides a few of lists; if several runs meet a
        post at once, also their questions. So it is rather too many than too few.
        """
        beats = max(self.calls["set"] - self.calls["del"], 0)
        deleted = 2 * _DELETED_BY_A_RUN * self.calls["hello"]
        return sum(self.calls[name] for name in _ASKED) + beats + deleted

    def ecpu(self, prices: Prices) -> float:
        """ECPU of all calls: scripts by their time, at least one per call, or one per kilobyte."""
        scripts = max(self.scripts, self.script_us / prices.script_us_per_ecpu)
        return max(scripts + self.plain, self.bytes / 1024)

    @property
    def new(self) -> int:
        """New posts and pages; one that moved to a later end counts once."""
        return max(self.calls["sadd"] - self.calls["srem"], 0)

    def sightings(self, generations: int) -> float:
        """An estimate of how often posts and pages were met.

        A new post is looked up in each generation, a known one until it is found; the first of an
        empty ledger not at all.
        """
        alive = max(generations, 1)
        looks = self.calls["sismember"] - _LOOKS_OF_A_START * self.calls["hello"]
        known = max(looks - alive * self.new, 0) / ((1 + alive) / 2)
        return self.new + known


async def counted(server: Client, nodes: Iterable[Node]) -> Counted | str:
    """Asks each server for its counts; returns the reason as text if they are not known."""
    found, seconds = Counted(), []
    for node in nodes:
        reply = await reply_or_reason(server, "INFO", "commandstats", key=node.key)
        if isinstance(reply, str):
            return reply
        for name, facts in _commands(reply):
            found.calls[name] += int(facts["calls"])
            if name in _SCRIPTS:
                found.script_us += int(facts["usec"])
        sent = node.number("total_net_input_bytes"), node.number("total_net_output_bytes")
        found.bytes += sum(each or 0 for each in sent)
        seconds.append(node.number("uptime_in_seconds") or 0)
    if not found.scripts:
        return "the server has counted no script (INFO commandstats)"
    found.seconds = min(seconds)
    return found


def _commands(reply: object) -> Iterable[tuple[str, dict[str, str]]]:
    lines = reply.decode("utf-8", "replace").splitlines() if isinstance(reply, bytes) else []
    for line in lines:
        name, _, rest = line.partition(":")
        if name.startswith("cmdstat_"):
            facts = dict(each.split("=", 1) for each in rest.split(",") if "=" in each)
            yield name.removeprefix("cmdstat_"), facts
