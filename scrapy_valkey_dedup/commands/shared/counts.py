"""Shows the result of reading many records: counts, and why some were skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.explain import RuleShown
from scrapy_valkey_dedup.commands.shared.identification import SkippedRecords
from scrapy_valkey_dedup.commands.shared.progress_file import ImportProgress
from scrapy_valkey_dedup.commands.shared.screen import Screen


def show_counts(
    screen: Screen, counts: Sequence[tuple[str, int]], bad: SkippedRecords, unkeyed: SkippedRecords
) -> None:
    """Shows counts, and each reason for skipping records with the first line where it occurred."""
    rows = [(name, f"{count:,}", "") for name, count in counts]
    for name, faults in (("bad", bad), ("without identity", unkeyed)):
        if not faults.total:
            rows.append((name, "0", ""))
        rows += [
            (name, f"{count:,}", f"from line {faults.first[reason]}: {reason}")
            for reason, count in faults.counts.most_common()
        ]
    screen.table(None, rows)


def show_import(
    job: Job, ledger_name: str, progress: ImportProgress, origin: str, rule: RuleShown | None = None
) -> None:
    """Shows the result of an import; ``rule``: how the posts are identified, None for pages."""
    screen, namespace = job.screen, job.project.settings.namespace
    screen.facts([("ledger", ledger_name), ("namespace", namespace), *(rule.facts if rule else ())])
    counts = [("records", progress.records), ("remembered", progress.remembered)]
    show_counts(screen, counts, progress.bad, progress.unkeyed)
    for name, faults in (("bad", progress.bad), ("without identity", progress.unkeyed)):
        if faults.total > len(faults.first):
            lines = ", ".join(map(str, faults.lines))
            more = ", ..." if faults.total > len(faults.lines) else ""
            screen.line(f"{name}: lines {lines}{more}")
    found: dict[str, Any] = {
        "ledger": ledger_name,
        "namespace": namespace,
        "source": origin,
        "identity": asdict(rule) if rule else None,
        "records": progress.records,
        "remembered": progress.remembered,
        "bad": progress.bad.listed(),
        "without_identity": progress.unkeyed.listed(),
        "lines": sorted({*progress.bad.lines, *progress.unkeyed.lines}),
    }
    screen.result(found)
