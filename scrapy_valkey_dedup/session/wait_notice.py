"""Logs that a run waits for others which seem to have ended: without it, it seems to hang."""

from __future__ import annotations

import logging
from time import monotonic

from scrapy_valkey_dedup.model import Key

logger = logging.getLogger(__name__)


class WaitNotice:
    """Knows what a run waits for and the heartbeats of its holders. Logs once."""

    def __init__(self, subject: str, *, wait: float, lease: float) -> None:
        """``subject``: "posts" or "pages"; ``wait`` and ``lease`` are the settings, in seconds."""
        self._subject = subject
        self._lease = lease
        # Twice as long as two heartbeats are apart: see Heartbeat.
        self._patience = min(2 * lease / 3, max(wait, 1))
        self._holders: dict[Key, str] = {}
        self._beats: dict[str, tuple[bytes, float]] = {}
        self._told = False

    def note(self, key: Key, holder: str, beat: bytes) -> None:
        """A run still holds what is waited for; ``beat`` is its last heartbeat."""
        if self._told:
            return
        self._holders[key] = holder
        last, since = self._beats.get(holder, (b"", 0.0))
        if beat != last:
            self._beats[holder] = beat, monotonic()
        elif monotonic() - since >= self._patience:
            self._told = True
            count = sum(other == holder for other in self._holders.values())
            logger.info(
                "Waiting for %d %s that a run which seems to have ended holds, up to %g s "
                "(VALKEY_DEDUP_LEASE).",
                count,
                self._subject if count > 1 else self._subject.removesuffix("s"),
                self._lease,
            )
            self._holders.clear()

    def end(self, key: Key) -> None:
        """The wait for it is over."""
        self._holders.pop(key, None)
