"""Shows the result of an import."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.imports.progress_file import ImportProgress
from scrapy_valkey_dedup.commands.shared.records.counts import show_counts
from scrapy_valkey_dedup.commands.shared.records.explain import RuleShown


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
