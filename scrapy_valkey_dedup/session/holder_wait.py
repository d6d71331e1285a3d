"""How one item waits for the claim of another run: rules W3 and W4 of docs/ledger.md."""

from __future__ import annotations

from time import monotonic

from scrapy_valkey_dedup.model import Token
from scrapy_valkey_dedup.session.failure_detector import UNKNOWN, number_of

_FIRST_LOOK, _LONGEST_LOOK = 0.05, 0.5  # seconds between two looks at a claim of another run


class HolderWait:
    """What one item knows of the claim that it waits for. Outlasts outages."""

    def __init__(self, seconds: float, longest_step: float, began: float | None = None) -> None:
        """``seconds``: the setting. A freeze or an outage counts as ``longest_step`` at most.

        ``began``: when it was first asked, by the monotonic clock; None: now.
        """
        self._seconds = seconds
        self._longest_step = longest_step
        self._waited = 0.0
        self._last = monotonic() if began is None else began
        self._pause = _FIRST_LOOK
        self._holder: Token = b""
        self._is_late = False
        self._noted: int | None = None
        self._lives = False

    def is_over(self, holder: Token) -> bool:
        """Whether that claim is known to be a living run's, after the whole time to wait."""
        now = monotonic()
        self._waited += min(now - self._last, self._longest_step)
        self._last = now
        if holder != self._holder:
            # Its run may have been killed since then, or its question may have come late.
            self._holder, self._noted, self._lives = holder, None, False
        return self._lives

    def look(self, beat: bytes | None) -> Token:
        """Takes note of its holder's heartbeat. Returns the token if it is a dead run's."""
        if beat is None:
            return self._holder
        self._is_late = self._waited >= self._seconds
        if self._is_late and beat != UNKNOWN:
            number = number_of(beat)
            if self._noted is None or number < self._noted:
                self._noted = number  # one that went back, as at a failover, is no sign of life
            self._lives = number > self._noted
        return b""

    @property
    def waits(self) -> bool:
        """Whether another run held the claim."""
        return bool(self._holder)

    @property
    def lives(self) -> bool:
        """Whether its holder was seen alive after the whole time to wait: ask once more."""
        return self._lives

    def pause(self) -> float:
        """Seconds until the next look; one comes when the time to wait ends."""
        self._pause = min(1.5 * self._pause, _LONGEST_LOOK)
        left = self._seconds - self._waited
        return min(self._pause, left) if left > 0 else self._pause
