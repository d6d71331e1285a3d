"""The words of the ledger as types: key, verdict, claim, errors. Imports nothing of the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias

from scrapy.exceptions import DropItem, IgnoreRequest

KEY_BYTES = 16
Key: TypeAlias = bytes
"""The identity of a post: 16 bytes, see :mod:`scrapy_valkey_dedup.encoding`."""
Token: TypeAlias = bytes
"""What tells one claim on a post from any other: a run's name and a number."""
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


class Claim:
    """The right to store one post. It settles once: by :meth:`confirm` or by :meth:`release`.

    What comes after the first is ignored, so a claim may be settled from several places. Neither
    method waits: the news goes to Valkey with the next batch, at the latest when the spider closes.
    """

    __slots__ = ("_settle", "_watchers", "accepted", "in_doubt", "key", "number", "stored")

    def __init__(self, key: Key, settle: Callable[[Claim, bool], None] | None) -> None:
        self.key = key
        self.number = 0
        """The last question for it. Tells the claims of one run on one post apart."""
        self.in_doubt = False
        """Its question was put more than once, and a copy of it may still be on its way."""
        self.accepted = False
        """All pipelines have accepted the item, and its storing is still to come."""
        self.stored: bool | None = None
        """How it was settled: True if confirmed, False if released, None before that."""
        self._settle = settle
        self._watchers: list[Callable[[bool], None]] | None = None

    def confirm(self) -> None:
        """The post is stored: remember it."""
        self._end(stored=True)

    def release(self) -> None:
        """The post was not stored: whoever meets it next may store it."""
        self._end(stored=False)

    @property
    def is_open(self) -> bool:
        """Neither confirmed nor released yet."""
        return self._settle is not None

    def _end(self, *, stored: bool) -> None:
        settle, self._settle = self._settle, None
        if settle is not None:
            self.stored = stored
            settle(self, stored)
            self._tell(stored=stored)

    def void(self, *, stored: bool) -> None:
        """The claim was not granted: the post is stored already, or another run is storing it."""
        self._settle, self.stored = None, stored
        self._tell(stored=stored)

    def _tell(self, *, stored: bool) -> None:
        for watcher in self._watchers or ():
            watcher(stored)

    def watch(self, watcher: Callable[[bool], None]) -> None:
        """Has the page of an item told, as soon as the claim is settled, whether it is stored."""
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(watcher)

    def __repr__(self) -> str:
        return f"<Claim {self.key.hex()} {'open' if self.is_open else 'settled'}>"


class Given(NamedTuple):
    """A claim that is given back."""

    key: Key
    number: int = 0
    in_doubt: bool = False


NO_CLAIM = Claim(b"", None)
"""Stands for "nothing to settle": an item without identity, a marked duplicate."""


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
        super().__init__(f"{len(faults)} fault(s) in the settings of scrapy-valkey-dedup:{lines}")


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
