"""How a verb says that it cannot do what it was told, and what it returns to the shell."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from scrapy_valkey_dedup.model import DedupError

FINE, FOUND, FAILED = 0, 1, 2
"""Exit codes: all is well; something is wrong with the posts; wrong usage, or no ledger."""


class CommandError(DedupError):
    """The command cannot be carried out as it was given. The message says why, and the cure."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        """``code``: what the command returns to the shell."""
        super().__init__(message)
        self.code = code


def suggestion(name: str, known: Iterable[str]) -> str:
    """What may have been meant instead of an unknown name, or all that there are."""
    listed = sorted(known)
    close = difflib.get_close_matches(name, listed, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(listed)}"
