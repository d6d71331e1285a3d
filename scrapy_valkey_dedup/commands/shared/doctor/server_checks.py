"""Checks a server: permissions, TLS, evictions, memory, persistence, replicas, encoding."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from scrapy_valkey_dedup.commands.shared.connection import LedgerConnection
from scrapy_valkey_dedup.commands.shared.doctor.findings import (
    ADVICE,
    FINE,
    UNKNOWN,
    WRONG,
    Finding,
)
from scrapy_valkey_dedup.commands.shared.status.server import Node, reply_or_reason
from scrapy_valkey_dedup.commands.shared.status.state import LedgerState
from scrapy_valkey_dedup.selftest import Finding as RuleFinding
from scrapy_valkey_dedup.selftest import Status, examine
from scrapy_valkey_dedup.selftest.commands import COMMAND_RULES
from scrapy_valkey_dedup.selftest.surroundings import SURROUNDING_RULES
from scrapy_valkey_dedup.stats import quantity
from scrapy_valkey_dedup.valkey.urls import parsed

_NEARLY_FULL = 0.85
_LAG_SECONDS, _LAG_BYTES = 10, 1 << 20
_FULL_BUCKET = 512
_WRONG_WHEN = "docs/ledger.md#when-things-go-wrong"
_USER, _OPERATOR = "docs/security.md#the-user", "docs/security.md#the-operators-command"
_MANAGED = re.compile(r"\.(amazonaws\.com|aivencloud\.com|memorystore|upstash\.io)")
_NEEDS_INFO = "it needs the permission +info"
_CHECKED_HERE = ("evictions",)
"""Rules of the selftest that are skipped, because they are checked here in more detail."""
_LATENCY = ("round trips", "round trips of scripts")


async def try_server(connection: LedgerConnection) -> tuple[bool, list[Finding]]:
    """Runs the selftest; returns whether the server answered, and the findings.

    The selftest writes only to a shelf of its own, and removes its keys afterwards.
    """
    settings = connection.settings
    report = await examine(
        connection.url,
        options=settings.client_options,
        credentials=settings.credentials,
        namespace=settings.namespace,
        timeout=settings.timeout,
        rules=(*SURROUNDING_RULES, *COMMAND_RULES),
    )
    if not report.reached:
        cure = "start the server, or correct VALKEY_DEDUP_URL (--url): host, port, TLS"
        docs = "docs/settings.md#url-and-client_options"
        return False, [Finding("server", WRONG, report.findings[0].said, cure, docs)]
    tried = [each for each in report.findings if each.rule not in _CHECKED_HERE]
    wrong = [_refused(each) for each in tried if each.is_failure]
    fine = [
        Finding("latency", FINE, each.said) for each in tried if each.rule in _LATENCY and not wrong
    ]
    if not wrong:
        needed = sum(each.needed for each in tried)
        fine.append(Finding("permissions", FINE, f"all {needed} rules hold", docs=_USER))
    return True, [*wrong, *fine]


def _refused(tried: RuleFinding) -> Finding:
    cure = (
        "allow it" if tried.status is Status.REFUSED else "python -m scrapy_valkey_dedup.selftest"
    )
    return Finding("permissions", WRONG, f"{tried.rule}: {tried.said}", cure, _USER)


async def check_server(connection: LedgerConnection, state: LedgerState) -> list[Finding]:
    """Checks the server's configuration and state, and the state of the ledger."""
    found = [*_encryption(connection), *_claims(state), *_pages(connection, state)]
    for node in state.nodes:
        if not node.facts:
            said = "version, memory, evictions, persistence and replicas are not known"
            found.append(Finding("server", UNKNOWN, said, _NEEDS_INFO, _OPERATOR))
            break
        found += [*_memory(node), *_replicas(node)]
        found += await _persistence(connection, node)
    found += await _encoding(connection, state)
    return found


def _encryption(connection: LedgerConnection) -> Iterator[Finding]:
    if connection.settings.url is None:
        return
    url = parsed(connection.url)
    hosts = [host for host, _ in url.hosts]
    is_near = not hosts or all(host == "localhost" or host.startswith("127.") for host in hosts)
    if url.tls:
        yield Finding("TLS", FINE, "every connection is encrypted", docs="docs/security.md#tls")
    elif not is_near:
        scheme = urlsplit(connection.url).scheme
        said = f"{scheme}:// is not encrypted, and the server is on another machine"
        cure = "write valkeys://, unless the network between them is your own"
        yield Finding("TLS", ADVICE, said, cure, "docs/security.md#tls")


def _claims(state: LedgerState) -> Iterator[Finding]:
    seen = state.runs
    if seen.refused:
        cure = "it needs the permission +scan"
        yield Finding("claims", UNKNOWN, "claims of dead runs are not known", cure, _OPERATOR)
    elif seen.dead:
        claims = quantity(sum(seen.dead.values()), "open claim")
        said = (
            f"{claims} of {quantity(len(seen.dead), 'dead run')}: ignored, as their lease is over"
        )
        cure = (
            "nothing: the next run that meets such a post stores it, unless it is remembered; find "
            "out what killed the runs"
        )
        yield Finding("claims", ADVICE, said, cure, "docs/ledger.md#what-a-run-does")
    if state.spooled:
        listed = ", ".join(f"{number:,} {what}" for what, number in state.spooled.items())
        said = f"{listed} are stored, but not in the ledger: they wait on this machine's disk"
        cure = "run a spider here: it delivers them at its start"
        yield Finding("spool", WRONG, said, cure, "docs/settings.md#timeout-and-outages")


def _pages(connection: LedgerConnection, state: LedgerState) -> Iterator[Finding]:
    """Finds a ledger with posts but without pages, although pages should be remembered."""
    settings = connection.settings
    if settings.requests != "stored" or settings.request_retention is None:
        return
    if (
        state.contents["posts"].entries
        and not state.contents["pages"].entries
        and not state.runs.alive
    ):
        said = (
            "posts are remembered, but no page: VALKEY_DEDUP_REQUEST_RETENTION "
            f"({settings.request_retention / 86400:g} days) is shorter than the crawl's interval"
        )
        cure = "set it to several times as long"
        yield Finding("pages", WRONG, said, cure, "docs/requests.md#incremental")


def _memory(node: Node) -> Iterator[Finding]:
    policy = node.facts.get("maxmemory_policy", "")
    evicted = node.number("evicted_keys") or 0
    if evicted:
        said = (
            f"{evicted:,} keys were evicted (maxmemory-policy {policy}): their posts are new again"
        )
        cure = "raise maxmemory, or shorten VALKEY_DEDUP_RETENTION; maxmemory-policy noeviction"
        yield Finding("evictions", WRONG, said, cure, _WRONG_WHEN)
    elif policy not in ("", "noeviction"):
        said = (
            f"maxmemory-policy is {policy}: when memory is full, posts are forgotten without notice"
        )
        cure = "set maxmemory-policy noeviction, or watch evicted_keys: it must stay 0"
        yield Finding("evictions", WRONG if node.limit else ADVICE, said, cure, _WRONG_WHEN)
    else:
        yield Finding("evictions", FINE, f"none; maxmemory-policy {policy or 'unknown'}")
    if node.limit is None or node.memory is None:
        return
    share = node.memory / node.limit
    if share >= _NEARLY_FULL:
        cure = "raise maxmemory, or shorten VALKEY_DEDUP_RETENTION"
        yield Finding("memory", WRONG, f"{share:.0%} of maxmemory is in use", cure, _WRONG_WHEN)
    else:
        yield Finding("memory", FINE, f"{share:.0%} of maxmemory is in use")


async def _persistence(connection: LedgerConnection, node: Node) -> list[Finding]:
    """Checks persistence, except on a managed service, which configures it itself."""
    if connection.settings.url is None or _MANAGED.search(connection.url):
        return []
    if node.facts.get("aof_enabled") == "1":
        return [Finding("persistence", FINE, "an append-only file")]
    config = await reply_or_reason(connection.server, "CONFIG", "GET", "save", key=node.key)
    saves = config[1] if isinstance(config, list) and len(config) > 1 else None
    replicas = node.number("connected_slaves")
    if saves:
        said = "snapshots only: what was stored since the last one is new again after a crash"
        level = ADVICE
    elif saves is None and node.number("rdb_saves"):
        return [Finding("persistence", UNKNOWN, "perhaps snapshots", "+config|get tells it", _USER)]
    else:
        said = "neither append-only file nor snapshots: a restart forgets every post"
        level = ADVICE if replicas else WRONG
    cure = "appendonly yes, appendfsync everysec"
    return [Finding("persistence", level, said, cure, _WRONG_WHEN)]


def _replicas(node: Node) -> Iterator[Finding]:
    end = node.number("master_repl_offset") or 0
    listed = [text for name, text in node.facts.items() if re.fullmatch(r"slave\d+", name)]
    for text in listed:
        facts = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
        behind = end - int(facts.get("offset", end))
        lag = int(facts.get("lag", 0))
        if facts.get("state") != "online" or lag > _LAG_SECONDS or behind > _LAG_BYTES:
            said = (
                f"the replica {facts.get('ip')}:{facts.get('port')} is {facts.get('state')}, "
                f"{lag} s and {behind:,} bytes behind: a failover would lose as much"
            )
            cure = "look at its log, and at the network between them"
            yield Finding("replicas", WRONG, said, cure, _WRONG_WHEN)
        else:
            yield Finding("replicas", FINE, f"{facts.get('ip')}:{facts.get('port')} follows")


async def _encoding(connection: LedgerConnection, state: LedgerState) -> list[Finding]:
    """Checks that buckets are stored as intsets, which take nine bytes per post."""
    found = []
    for what, held in state.contents.items():
        if not held.sample:
            continue
        encoding = await reply_or_reason(
            connection.server, "OBJECT", "ENCODING", held.sample, key=held.sample
        )
        if isinstance(encoding, str):
            cure = "it needs the permission +object|encoding"
            return [
                Finding("buckets", UNKNOWN, "how buckets are kept is not known", cure, _OPERATOR)
            ]
        if encoding not in (b"intset", None):
            said = f"buckets of {what} are kept as {encoding.decode()}: about six times the memory"
            cure = (
                f"set-max-intset-entries {_FULL_BUCKET}; it applies to what is stored from then on"
            )
            found.append(Finding("buckets", WRONG, said, cure, "docs/ledger.md#buckets"))
    return found or [Finding("buckets", FINE, "kept as sorted arrays, or there are none yet")]
