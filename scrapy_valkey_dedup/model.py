"""The types that all rooms use: key, verdict, claim, errors. Imports nothing of the package."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias

from scrapy.exceptions import DropItem, IgnoreRequest

KEY_BYTES = 16
Key: TypeAlias = bytes
"""The identity of a post: 16 bytes, see :mod:`scrapy_valkey_dedup.identity.encoding`."""
Token: TypeAlias = bytes
"""Identifies one claim on a post: a run's name and a number."""
TRIAL_MARK = "+trial-"
"""Stands in a trial's namespace between the name of the namespace that it tries and its own."""
CLAIM_LIFETIME = 86400.0
"""Seconds. Claims that are open for longer are renewed."""


class Verdict(Enum):
    """The ledger's answer for a post, or a page, that a run wants to claim."""

    NEW = "new"
    """Not stored, and no other run is storing it: store it."""
    SEEN = "seen"
    """It is stored and remembered: drop it."""
    HELD = "held"
    """Another run is storing it at this moment."""


@dataclass(frozen=True)
class Answer:
    """A verdict; with ``HELD`` the token of the holder, with ``NEW`` whether a dead run had it."""

    verdict: Verdict
    holder: Token = b""
    taken_over: bool = False


@dataclass(frozen=True)
class PostState:
    """What the ledger keeps of one post."""

    until: float | None
    """The time, in seconds, until which it is remembered: ``inf`` forever, None: it is not."""
    holder: str | None
    """The run that has claimed it."""


class ReleasedClaim(NamedTuple):
    """A claim that is released; ``in_doubt``: a copy of its question may still arrive."""

    key: Key
    number: int = 0
    in_doubt: bool = False


class DuplicatePost(DropItem):
    """The item was dropped: its post is stored already, or another run is storing it."""


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
    """Valkey did not answer in time. Waiting may help."""


class LedgerReplyError(LedgerUnavailableError):
    """Valkey answered with an error that asking again does not cure."""


class UnknownReplyError(LedgerReplyError):
    """An unknown error was the answer again and again, until the deadline."""


class CredentialsUnavailableError(LedgerUnavailableError):
    """The provider gives no credentials at this moment. The next attempt may get them."""


class OutageError(LedgerUnavailableError):
    """Valkey was not asked at all: there is an outage."""


class LedgerRefusedError(DedupError):
    """Valkey refuses: credentials, permissions, layout. Waiting does not help."""


class CommandRefusedError(LedgerRefusedError):
    """The server does not know a command, or forbids it to all users, or in scripts."""


class EmbeddedServerError(DedupError):
    """The embedded Valkey server cannot be started, reached or stopped."""
