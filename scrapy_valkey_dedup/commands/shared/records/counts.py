"""Shows how many records were read, and why some were skipped."""

from __future__ import annotations

from collections.abc import Sequence

from scrapy_valkey_dedup.commands.shared.records.identification import SkippedRecords
from scrapy_valkey_dedup.commands.shared.screen import Screen


def show_counts(
    screen: Screen, counts: Sequence[tuple[str, int]], bad: SkippedRecords, unkeyed: SkippedRecords
) -> None:
    """Shows counts, and each reason for skipping records with the first line where it occurred."""
    if dict(counts).get("records") == 0:
        screen.note("there are no records to read: the source is empty")
    rows = [(name, f"{count:,}", "") for name, count in counts]
    for name, faults in (("bad", bad), ("without identity", unkeyed)):
        if not faults.total:
            rows.append((name, "0", ""))
        rows += [
            (name, f"{count:,}", f"from line {faults.first[reason]}: {reason}")
            for reason, count in faults.counts.most_common()
        ]
    screen.table(None, rows)
