"""The words of the ledger as types: keys, verdicts and errors. Imports nothing of the package."""

from __future__ import annotations


class DedupError(Exception):
    """Root of this package's errors. The message names what is wrong, the value, and the cure."""


class EmbeddedServerError(DedupError):
    """The embedded Valkey server cannot be started, reached or stopped."""
