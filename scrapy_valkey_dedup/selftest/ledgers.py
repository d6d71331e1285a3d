"""Rules of the ledger: its keys, the start of a run, heartbeats, and the plugin's scripts."""

from __future__ import annotations

from scrapy_valkey_dedup.ledger.runs import IDLE_MARK
from scrapy_valkey_dedup.selftest.claims import CLAIM_RULES
from scrapy_valkey_dedup.selftest.expectations import expect, expect_soon
from scrapy_valkey_dedup.selftest.findings import Rule
from scrapy_valkey_dedup.selftest.memory import MEMORY_RULES
from scrapy_valkey_dedup.selftest.sandbox import SHORT, Sandbox

_MOMENT = 0.3  # seconds that a heartbeat lasts, to see it expire


async def _shelves(sandbox: Sandbox) -> str:
    """Tests the keys of each shelf, as a user may have permission for some: docs/security.md."""
    for shelf in ("", "pages", "timelines"):
        key = sandbox.key_of_shelf(shelf)
        expect(await sandbox.ask("SET", key, 1, "PX", 60_000, "GET", key=key), None, "SET PX GET")
    return "keys of posts, pages and timelines"


async def _open(sandbox: Sandbox) -> str:
    """Tests what every run does at its start: version, layout, identity and permissions."""
    first, second = sandbox.ledger(), sandbox.ledger()
    await first.open()
    await second.open()
    expect(second.identity, first.identity, "the identity of the ledger")
    return "a run starts, and another run finds its ledger"


async def _partitions(sandbox: Sandbox) -> str:
    await sandbox.ledger().probe.check_partitions()
    return "every server that has partitions accepts writes"


async def _heartbeats(sandbox: Sandbox) -> str:
    one, other = sandbox.ledger(), sandbox.ledger()
    expect(await one.runs.write_heartbeat(1, SHORT), None, "a first heartbeat")
    expect(await one.runs.write_heartbeat(2, SHORT, idle=True), b"1", "a second one")
    beats = await other.runs.read_heartbeats([one.run, other.run])
    expect(beats, [f"2 {IDLE_MARK}".encode(), None], "heartbeats")
    await one.runs.sign_off()
    expect(
        await other.runs.read_heartbeats([one.run]), [None], "the heartbeat of a run that has left"
    )
    await other.runs.write_heartbeat(1, _MOMENT)

    async def is_over() -> bool:
        return await one.runs.read_heartbeats([other.run]) == [None]

    await expect_soon(is_over, "a heartbeat that is not renewed expires")
    return "heartbeats are seen, renewed, and expire"


LEDGER_RULES = (
    Rule("keys", _shelves),
    Rule("start", _open),
    Rule("partitions", _partitions),
    *CLAIM_RULES,
    *MEMORY_RULES,
    Rule("heartbeat", _heartbeats),
)
