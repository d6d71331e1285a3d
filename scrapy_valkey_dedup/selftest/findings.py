"""Rules, their findings, and the report of a selftest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from scrapy_valkey_dedup.docs import linked
from scrapy_valkey_dedup.stats import quantity

FINE, NOT_FINE, NO_SERVER, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class Status(Enum):
    """How a rule ended."""

    OK = "ok"
    REFUSED = "refused"
    """The server refused; the finding has its message."""
    DIFFERS = "differs"
    """The server answered something else than the plugin expects."""
    SILENT = "silent"
    """The server did not answer in time."""


class DiffersError(Exception):
    """The server answered something else than the plugin expects."""


Check: TypeAlias = Callable[[Any], Awaitable[str]]
"""Tests a rule in a sandbox; returns one line about what works, or raises."""


@dataclass(frozen=True)
class Rule:
    """One thing that is tested."""

    name: str
    check: Check
    needed: bool = True
    """Whether the plugin works only if this rule holds; other rules are for information."""


@dataclass(frozen=True)
class Finding:
    """The result of one rule."""

    rule: str
    status: Status
    said: str
    needed: bool = True
    milliseconds: float = 0.0

    @property
    def is_failure(self) -> bool:
        """Whether the plugin does not work because of this finding."""
        return self.needed and self.status is not Status.OK

    def line(self) -> str:
        """The finding as one line of text."""
        note = "" if self.needed or self.status is Status.OK else " (not needed)"
        return f"{self.status.value:<8} {self.rule:<28} {self.said}{note}"


@dataclass
class Report:
    """All findings of one selftest."""

    server: str
    """The server's URL, without secrets."""
    namespace: str
    findings: list[Finding] = field(default_factory=list)
    reached: bool = False
    """Whether the server answered at all."""
    has_written: bool = False
    """Whether rules were run that may have written keys."""
    left: str = ""
    """Why not all keys could be removed; "" if all were."""

    @property
    def code(self) -> int:
        """The exit code."""
        if not self.reached:
            return NO_SERVER
        return NOT_FINE if self.failures else FINE

    @property
    def failures(self) -> list[Finding]:
        """The findings because of which the plugin does not work."""
        return [finding for finding in self.findings if finding.is_failure]

    @property
    def verdict(self) -> str:
        """The result as one line of text."""
        if not self.reached:
            return f"No Valkey answers at {self.server}."
        needed = [finding for finding in self.findings if finding.needed]
        others = [finding for finding in self.findings if not finding.needed]
        fine = sum(finding.status is Status.OK for finding in others)
        more = f", and {fine} of {len(others)} others" if others else ""
        checks = f"{quantity(len(self.findings), 'check')} at {self.server}"
        if not self.failures:
            return f"{checks}: all {len(needed)} that the plugin needs succeed{more}."
        names = ", ".join(finding.rule for finding in self.failures)
        return (
            f"{checks}: {len(self.failures)} of {len(needed)} that the plugin needs fail: {names}. "
            f"{linked('docs/security.md')} has the permissions that are needed."
        )

    def as_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "server": self.server,
            "namespace": self.namespace,
            "code": self.code,
            "verdict": self.verdict,
            "left": self.left,
            "rules": [
                {
                    "rule": finding.rule,
                    "status": finding.status.value,
                    "needed": finding.needed,
                    "said": finding.said,
                    "milliseconds": round(finding.milliseconds, 2),
                }
                for finding in self.findings
            ],
        }
