"""The error of a command that cannot be carried out, and the exit codes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from scrapy_valkey_dedup.model import DedupError

FINE, FOUND, FAILED = 0, 1, 2
"""Exit codes: success; something is wrong with the posts; wrong usage, or no ledger."""


class CommandError(DedupError):
    """The command cannot be carried out as it was given. The message has the cause and the cure."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        """``code``: the exit code of the command."""
        super().__init__(message)
        self.code = code


def suggestion(name: str, known: Iterable[str]) -> str:
    """A known name that is close to a misspelt one, or all known names."""
    listed = sorted(known)
    close = difflib.get_close_matches(name, listed, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(listed)}"
