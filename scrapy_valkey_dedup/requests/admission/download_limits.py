"""How many requests may be downloaded at once, and how many pages are claimed ahead of that."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, inf
from typing import Any

from scrapy.http import Request

_NEWEST = 0.1  # the weight of the newest measured time, against all before it
_MOST_AHEAD = 8
"""Times as many pages as are downloaded at once are claimed ahead, even if Valkey is slower."""
_LEAST_GRANTED = 0.5
"""The share counts as no less: if all are granted again, not many too many have been asked for."""


class DownloadLimits:
    """The user's limits, as Scrapy's downloader knows them, and the times that are measured.

    With no page claimed ahead, a download would begin only when Valkey has answered: with Valkey
    20 ms away and pages that take 50 ms, a third of the downloads would be missing.
    """

    def __init__(self, downloader: Any, delay: float) -> None:
        """``downloader``: the engine's. Another kind of downloader may have no such limits.

        ``delay``: the delay, in seconds, of a site that has no slot in the downloader yet.
        """
        self._downloader = downloader
        self._delay = delay
        self.total: int = getattr(downloader, "total_concurrency", 0)
        """CONCURRENT_REQUESTS; 0 if there is no such limit."""
        self._answer_time = 0.0
        self._share_granted = 1.0
        self._downloaded = self._granted = 0
        self._download_time: float | None = None  # not known yet

    def slot_of(self, request: Request) -> str:
        """The key of a request's slot in the downloader, by default its domain."""
        return str(self._downloader.get_slot_key(request))

    def active(self) -> set[Request]:
        """The requests that the engine has taken from the scheduler and that have not ended."""
        active: set[Request] = self._downloader.active
        return active

    def expect_answer(self, seconds: float) -> None:
        """How long Valkey will take to answer, before it has answered any claim."""
        self._answer_time = seconds

    def answer_took(self, seconds: float) -> None:
        """How long Valkey took to answer a claim."""
        self._answer_time += _NEWEST * (seconds - self._answer_time)

    def claim_was(self, *, granted: bool) -> None:
        """Whether a claim was granted, or its page known or held."""
        self._granted += granted
        self._share_granted += _NEWEST * (granted - self._share_granted)

    def download_took(self, seconds: float | None) -> None:
        """How long a download took, if that is known."""
        self._downloaded += 1
        if seconds and self._download_time is None:
            self._download_time = seconds
        elif seconds and self._download_time is not None:
            self._download_time += _NEWEST * (seconds - self._download_time)

    def begun_meanwhile(self, downloads: float) -> float:
        """How many downloads begin while Valkey answers, if so many run at once: Little's law."""
        if self._download_time is None:
            return 0.0
        return min(downloads * self._answer_time / self._download_time, downloads * _MOST_AHEAD)

    def begun_meanwhile_in(self, slots: Iterable[str]) -> float:
        """The same for these slots together."""
        total, downloads = self.total, 0
        for slot in slots:
            downloads += self.downloads(slot) or total
            if total and downloads >= total:
                downloads = total
                break  # a broad crawl has very many slots
        return self.begun_meanwhile(downloads)

    def ahead(self, downloads: int) -> int:
        """How many pages are claimed ahead of so many downloads.

        As many as are granted while Valkey answers, and one more. But at the beginning no more than
        were granted before: in a fleet that starts with few links, each worker gets some of them.
        """
        asked = self.begun_meanwhile(downloads) / max(self._share_granted, _LEAST_GRANTED)
        return 1 + min(ceil(asked), max(self._granted, self._downloaded))

    def claims(self, key: str) -> float:
        """How many requests of a slot may have claimed their pages at once."""
        downloads = self.downloads(key)
        return downloads + self.ahead(downloads) if downloads else inf

    def downloads(self, key: str) -> int:
        """How many requests of a slot can be downloaded at once; 0 if there is no limit."""
        slot = getattr(self._downloader, "slots", {}).get(key)
        if slot is None:
            concurrency = getattr(self._downloader, "domain_concurrency", 0)
            own = getattr(self._downloader, "per_slot_settings", {}).get(key, {})
            concurrency = own.get("concurrency", concurrency)
            delay = own.get("delay", self._delay)
        else:
            concurrency, delay = slot.concurrency, slot.delay
        if self.total:  # a slot's own limit may be higher, and is never reached
            concurrency = min(concurrency, self.total)
        if concurrency and delay:  # fewer are downloaded at once: one begins after each delay
            concurrency = min(concurrency, ceil((self._download_time or delay) / delay))
        return int(concurrency)
