"""The words of the ledger as types: key, verdict, claim, errors. Imports nothing of the package."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias

from scrapy.exceptions import DropItem, IgnoreRequest

KEY_BYTES = 16
Key: TypeAlias = bytes
"""The identity of a post: 16 bytes, see :mod:`scrapy_valkey_dedup.identity.encoding`."""
Token: TypeAlias = bytes
"""What tells one claim on a post from any other: a run's name and a number."""
TRIAL_MARK = "+trial-"
"""Stands in a trial's namespace between the name of the namespace that it tries and its own."""
CLAIM_LIFETIME = 86400.0
"""Seconds. Claims that are open for longer are renewed."""


class Verdict(Enum):
    """What the ledger says of a post, or a page, that is asked for."""

    NEW = "new"
    """Nobody has it: it is yours to store."""
    SEEN = "seen"
    """It is stored and remembered: drop it."""
    HELD = "held"
    """Another run is storing it at this moment."""


@dataclass(frozen=True)
class Answer:
    """A verdict; with ``HELD`` who holds the claim, with ``NEW`` whether it was a dead run's."""

    verdict: Verdict
    holder: Token = b""
    taken_over: bool = False


class Given(NamedTuple):
    """A claim that is given back."""

    key: Key
    number: int = 0
    in_doubt: bool = False


class DuplicatePost(DropItem):
    """The item was dropped: its post is stored already, or a live run is storing it."""


class DuplicatePage(IgnoreRequest):
    """The page is known, so it is not fetched: what ``meta={"dedup_errback": True}`` asks for."""


class DedupError(Exception):
    """Root of this package's errors. The message names what is wrong, the value, and the cure."""


class SettingsError(DedupError, ValueError):
    """One or more settings are wrong; the message lists every fault."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        lines = "".join(f"\n  - {fault}" for fault in faults)
        noun = "fault" if len(faults) == 1 else "faults"
        super().__init__(f"{len(faults)} {noun} in the settings of scrapy-valkey-dedup:{lines}")


class UnkeyedError(DedupError, ValueError):
    """A post has no identity. ``reason`` says why in a few words, without the post's values."""


class LedgerUnavailableError(DedupError):
    """Valkey could not be asked in time. Waiting may cure it."""


class LedgerReplyError(LedgerUnavailableError):
    """Valkey has answered, but with an error that asking again does not cure."""


class UnknownReplyError(LedgerReplyError):
    """An error that nobody knows was the answer again and again, until there was no time left."""


class CredentialsUnavailableError(LedgerUnavailableError):
    """No credentials can be had at this moment. The next attempt may get them."""


class OutageError(LedgerUnavailableError):
    """Valkey was not asked at all: there is an outage."""


class LedgerRefusedError(DedupError):
    """Valkey refuses: credentials, permissions, layout. Waiting cures nothing."""


class CommandRefusedError(LedgerRefusedError):
    """The server does not know a command, or forbids it to everybody, or to scripts."""


class EmbeddedServerError(DedupError):
    """The embedded Valkey server cannot be started, reached or stopped."""
