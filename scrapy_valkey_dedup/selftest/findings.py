"""What a server said to each rule, and what follows from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from scrapy_valkey_dedup.stats import quantity

FINE, NOT_FINE, NO_SERVER, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class Status(Enum):
    """How a rule ended."""

    OK = "ok"
    REFUSED = "refused"
    """The server said no; these are its words."""
    DIFFERS = "differs"
    """It said something else than it should."""
    SILENT = "silent"
    """It said nothing in time."""


class DiffersError(Exception):
    """The server has answered something else than the plugin goes by."""


Check: TypeAlias = Callable[[Any], Awaitable[str]]
"""Tries a rule at a place; returns what the server said, or raises."""


@dataclass(frozen=True)
class Rule:
    """One thing that is tried."""

    name: str
    check: Check
    needed: bool = True
    """Without it the plugin does not work; the others are good to know."""


@dataclass(frozen=True)
class Finding:
    """What came of one rule."""

    rule: str
    status: Status
    said: str
    needed: bool = True
    milliseconds: float = 0.0

    @property
    def is_failure(self) -> bool:
        """Whether the plugin does not work because of it."""
        return self.needed and self.status is not Status.OK

    def line(self) -> str:
        """One line for a reader."""
        note = "" if self.needed or self.status is Status.OK else " (not needed)"
        return f"{self.status.value:<8} {self.rule:<28} {self.said}{note}"


@dataclass
class Report:
    """All findings of one examination."""

    server: str
    """The URL as it may be shown."""
    namespace: str
    findings: list[Finding] = field(default_factory=list)
    reached: bool = False
    has_written: bool = False
    left: str = ""
    """Why not all was taken away again; "" if it was."""

    @property
    def code(self) -> int:
        """The exit code."""
        if not self.reached:
            return NO_SERVER
        return NOT_FINE if self.failures else FINE

    @property
    def failures(self) -> list[Finding]:
        """The rules without which the plugin does not work, and that do not hold."""
        return [finding for finding in self.findings if finding.is_failure]

    @property
    def verdict(self) -> str:
        """One line."""
        if not self.reached:
            return f"No Valkey that can be asked at {self.server}."
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
            "docs/security.md has the permissions that are needed."
        )

    def as_json(self) -> dict[str, Any]:
        """For machines: what the lines say."""
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
