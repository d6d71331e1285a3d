"""What a request says in its ``meta``: what the user wishes of it, and which page it is about."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from scrapy.crawler import Crawler
from scrapy.http import Request

from scrapy_valkey_dedup.model import KEY_BYTES, Key
from scrapy_valkey_dedup.settings import DedupSettings

logger = logging.getLogger(__name__)

WISH = "dedup"
"""The key by which users say what they wish of a request: True, False, or IF_NEW."""
IF_NEW = "if_new"
OWN_KEY = "dedup_key"
"""The key by which they say themselves which page a request is about."""
ERRBACK = "dedup_errback"
"""The key by which they have the errback of a request called if its page is known."""
TIMELINE = "dedup_timeline"
"""The key by which they name the timeline of which a request is the next page."""
_PAGE = "_dedup_page"
"""The key by which a request carries the run and the key of its page, through a JOBDIR too."""
_FILTERED = "filtered"
_READING = "_dedup_reading"
"""The key by which the next page of a named timeline carries the run that reads it, the page that
was asked for, and the timeline."""
_EMPTY = "_dedup_empty_pages"
"""The key by which a next page carries how many pages without anything came before it."""

_MARKS = (_PAGE, _READING, _EMPTY)


def whose_pages(settings: DedupSettings, spider: str) -> bytes:
    """What the keys of pages begin with: the job, or the spider."""
    whose = settings.job if settings.requests == "job" else spider
    return blake2b(f"{settings.requests} {whose}".encode("utf-8", "surrogatepass")).digest()


def key_of_page(fingerprint: bytes, whose: bytes) -> Key:
    """The key of a page that is told apart by its fingerprint."""
    return blake2b(fingerprint, digest_size=KEY_BYTES, key=whose).digest()


def key_of_own(key: bytes, whose: bytes) -> Key:
    """The key of a page that is told apart by the user's own."""
    return blake2b(key, digest_size=KEY_BYTES, key=whose, person=b"own key").digest()


@dataclass(frozen=True)
class ReadingMark:
    """What the next page of a named timeline says."""

    timeline: str
    page: Key
    """The page that was asked for; a redirect may lead to another."""
    is_mine: bool
    """Whether this run has asked for it."""


class Marks:
    """Reads and writes what this package has in the ``meta`` of requests.

    Spiders copy a response's ``meta`` to the requests that they send, so a mark alone proves
    nothing: :meth:`remove` it from what a callback sends.
    """

    def __init__(self, crawler: Crawler, settings: DedupSettings, spider: str, run: str) -> None:
        self._crawler = crawler
        self._settings = settings
        self._spider = spider
        self._run = run
        self._whose = whose_pages(settings, spider)
        self._warned = False
        self.fingerprint: Callable[[Request], bytes] = self._scrapys_fingerprint
        """What tells pages apart; the plugin's filter puts in what it goes by itself."""

    def _scrapys_fingerprint(self, request: Request) -> bytes:
        fingerprinter = self._crawler.request_fingerprinter
        assert fingerprinter is not None  # noqa: S101 (a crawler that crawls has one)
        return fingerprinter.fingerprint(request)

    def key(self, request: Request) -> Key:
        """What identifies a page: the user's key or its fingerprint, in the job or the spider."""
        own = self._own_key(request)
        if own is not None:
            return key_of_own(own.encode("utf-8", "surrogatepass"), self._whose)
        return key_of_page(self.fingerprint(request), self._whose)

    # -- the page --------------------------------------------------------------------------------

    def put(self, request: Request, key: Key) -> None:
        """Marks a request as one for a page that is to be claimed, or is claimed by this run."""
        request.meta[_PAGE] = f"{self._run} {key.hex()}"

    def page(self, request: Request) -> Key | None:
        """The page that a request is marked with, by this run or by an earlier one of a JOBDIR."""
        mark = request.meta.get(_PAGE, "").split(" ")
        return bytes.fromhex(mark[1]) if len(mark) > 1 else None

    def is_mine(self, request: Request) -> bool:
        """Whether this run has marked the request."""
        return str(request.meta.get(_PAGE, "")).startswith(f"{self._run} ")

    def pass_filter(self, request: Request) -> None:
        """Has a marked request pass the filter, which has seen it already."""
        if not request.dont_filter:
            request.dont_filter = True
            request.meta[_PAGE] += f" {_FILTERED}"

    def restore(self, request: Request) -> None:
        """Takes back what :meth:`pass_filter` has done, in an earlier run if need be."""
        mark = request.meta[_PAGE]
        if mark.endswith(_FILTERED):
            request.dont_filter = False
            request.meta[_PAGE] = mark.removesuffix(f" {_FILTERED}")

    # -- the reading -----------------------------------------------------------------------------

    def put_reading(self, request: Request, timeline: str) -> None:
        """Marks a request as one by which this run reads a timeline on."""
        request.meta[_READING] = f"{self._run} {self.key(request).hex()} {timeline}"

    def reading(self, request: Request) -> ReadingMark | None:
        """The reading that goes on by a request, if any does."""
        mark = request.meta.get(_READING, "").split(" ", 2)
        if len(mark) < 3:  # noqa: PLR2004 (run, page, timeline)
            return None
        return ReadingMark(mark[2], bytes.fromhex(mark[1]), is_mine=mark[0] == self._run)

    def put_empty_pages(self, request: Request, count: int) -> None:
        """Notes how many pages without anything came before it, one after the other."""
        if count:
            request.meta[_EMPTY] = count

    def empty_pages(self, request: Request) -> int:
        """How many pages without anything came before it."""
        return int(request.meta.get(_EMPTY, 0))

    # -- copies ----------------------------------------------------------------------------------

    def is_copy(self, request: Request) -> bool:
        """Whether a callback has made a request from the one that it was called for."""
        return any(mark in request.meta for mark in (*_MARKS, "retry_times"))

    def hand_on(self, request: Request, again: Request) -> None:
        """Has a request for the same page, or that request itself, go on with its readings."""
        for mark in (_READING, _EMPTY):
            if mark in request.meta:
                again.meta[mark] = request.meta[mark]
            else:
                again.meta.pop(mark, None)

    def remove_page(self, request: Request) -> None:
        """Removes the mark of a page."""
        request.meta.pop(_PAGE, None)

    def remove_copies(self, request: Request, first: Request | None) -> None:
        """Removes what a request has copied from ``first``, whose callback sends it.

        All marks; and the user's own key for that page, as this is another one: in doubt it is
        fetched under a key of its own.
        """
        for mark in _MARKS:
            request.meta.pop(mark, None)
        if first is None or OWN_KEY not in request.meta or OWN_KEY not in first.meta:
            return
        key = request.meta[OWN_KEY]
        if key == first.meta[OWN_KEY] and self.fingerprint(request) != self.fingerprint(first):
            del request.meta[OWN_KEY]
            self._warn(OWN_KEY, key, request, "it is that of the page that leads there, copied")

    # -- the user's wishes -----------------------------------------------------------------------

    def is_subject(self, request: Request) -> bool:
        """Whether the fleet is asked about a request."""
        wish = self.wish(request)
        # A timeline's page has other posts tomorrow, whatever of it is stored today.
        if (wish is not None and not wish) or (
            wish == IF_NEW and self._settings.requests == "stored"
        ):
            return False
        patterns = self._settings.requests_match
        return (
            not patterns or wish is True or any(pattern.search(request.url) for pattern in patterns)
        )

    def is_included(self, request: Request) -> bool:
        """Whether the fleet is asked about a request although the filter does not see it."""
        return (
            request.dont_filter
            and self.wish(request) is True
            and not str(request.meta.get(_PAGE, "")).endswith(_FILTERED)
        )

    def wants_errback(self, request: Request) -> bool:
        """Whether the errback of a request is to be called if its page is known."""
        return bool(request.meta.get(ERRBACK)) and request.errback is not None

    def warn_if_ignored(self, request: Request) -> None:
        """Of a wish that nobody is asked about, as neither a job nor "stored" is set."""
        wish = request.meta.get(WISH)
        if wish is True and self._settings.requests == "job":
            cure = "set VALKEY_DEDUP_REQUESTS = 'stored', or VALKEY_DEDUP_JOB"
            self._warn(WISH, wish, request, cure)

    def _own_key(self, request: Request) -> str | None:
        key = request.meta.get(OWN_KEY)
        if key is None or (isinstance(key, str) and key):
            return key
        if isinstance(key, int) and not isinstance(key, bool):
            return str(key)
        self._warn(OWN_KEY, key, request, "it is a text, or a number, that names the page")
        return None

    def wish(self, request: Request) -> Any:
        """The user's wish for a request; one that is not known is ignored, with a warning."""
        wish = request.meta.get(WISH)
        if wish in (None, True, False, IF_NEW):
            return wish
        self._warn(WISH, wish, request, f"it knows True, False and {IF_NEW!r}")
        return None

    def timeline(self, request: Request) -> str | None:
        """The timeline that a request reads on: another spider's of that name is another."""
        name = request.meta.get(TIMELINE)
        if name is None:
            return None
        if isinstance(name, str) and name:
            return f"{self._spider}\n{name}"
        self._warn(TIMELINE, name, request, "it is a text that names the timeline")
        return None

    def _warn(self, key: str, value: Any, request: Request, cure: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "meta[%r] = %.60r of %s is ignored: %s. Further ones are not reported.",
                key,
                value,
                request,
                cure,
            )
