"""Counts the known and new posts of a file or a database, for `check` and `import --dry-run`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import connect
from scrapy_valkey_dedup.commands.shared.records.counts import show_counts
from scrapy_valkey_dedup.commands.shared.records.identification import (
    RecordIdentifier,
    SkippedRecords,
)
from scrapy_valkey_dedup.commands.shared.records.sources import Source
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.commands.shared.usage import FINE, FOUND
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.session.keyset import KeySet


@dataclass
class SourceCounts:
    """How many posts of a file or a database are known, new, or cannot be used."""

    records: int = 0
    known: int = 0
    new: int = 0
    duplicates: int = 0
    """Posts that occur earlier in the same source."""
    bad: SkippedRecords = field(default_factory=SkippedRecords)
    unkeyed: SkippedRecords = field(default_factory=SkippedRecords)


async def count_posts(
    ledger: Ledger, identifier: RecordIdentifier, origin: Source, advance: Advance
) -> SourceCounts:
    """Counts known and new posts of a source. Uses about 16 bytes of memory per post."""
    counts, met = SourceCounts(), KeySet()
    for block in origin.blocks():
        identified = identifier.identify_block(block)
        if not counts.records:
            identified.check_usable(origin.name)
        counts.records += identified.records
        counts.bad.join(identified.bad)
        counts.unkeyed.join(identified.unkeyed)
        first_met = []
        for key in identified.keys:
            if key in met:
                counts.duplicates += 1
            else:
                met.add(key)
                first_met.append(key)
        known = sum(await ledger.seen_many(first_met)) if first_met else 0
        counts.known += known
        counts.new += len(first_met) - known
        advance(block.size)
    return counts


async def check_source(job: Job, identifier: RecordIdentifier, origin: Source) -> int:
    """Counts the posts of a source and shows the counts; returns the exit code."""
    settings, screen = job.project.settings, job.screen
    async with connect(settings) as connection:
        ledger = connection.ledger()
        await ledger.exists()
        with screen.progress(f"check {origin.name}", origin.total, origin.unit) as advance:
            found = await count_posts(ledger, identifier, origin, advance)
    about = [("ledger", connection.name), ("namespace", settings.namespace), *identifier.rule.facts]
    screen.facts(about)
    show_counts(
        screen,
        [
            ("records", found.records),
            ("known", found.known),
            ("new", found.new),
            ("duplicates in the file", found.duplicates),
        ],
        found.bad,
        found.unkeyed,
    )
    screen.result(
        {
            "ledger": connection.name,
            "namespace": settings.namespace,
            "source": origin.name,
            "identity": asdict(identifier.rule),
            "records": found.records,
            "known": found.known,
            "new": found.new,
            "duplicates": found.duplicates,
            "bad": found.bad.listed(),
            "without_identity": found.unkeyed.listed(),
        }
    )
    return FOUND if found.bad.total or found.unkeyed.total else FINE
