"""What users say of a request in its ``meta``: ``dedup``, ``dedup_key`` and the like."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from scrapy.crawler import Crawler
from scrapy.http import Request

from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.requests.meta.page_keys import (
    key_of_fingerprint,
    key_of_own_key,
    scope_of_pages,
)
from scrapy_valkey_dedup.settings import DedupSettings

logger = logging.getLogger(__name__)

DEDUP = "dedup"
"""The ``meta`` key for whether Valkey is asked about a request: True, False, or IF_NEW."""
IF_NEW = "if_new"
"""The request is sent only if the page that it comes from has something new."""
OWN_KEY = "dedup_key"
"""The ``meta`` key for a text that identifies the page of a request."""
ERRBACK = "dedup_errback"
"""The ``meta`` key for whether the errback is called if the page of a request is known."""
TIMELINE = "dedup_timeline"
"""The ``meta`` key for the name of the timeline that a request reads on."""


class RequestOptions:
    """Reads the options of requests. A value that is not understood is ignored, with a warning."""

    def __init__(self, crawler: Crawler, settings: DedupSettings, spider: str) -> None:
        self._crawler = crawler
        self._settings = settings
        self._spider = spider
        self._scope = scope_of_pages(settings, spider)
        self._warned = False
        self.fingerprint: Callable[[Request], bytes] = self._scrapys_fingerprint
        """Identifies a page. The plugin's filter replaces it with the fingerprint that it uses."""

    def _scrapys_fingerprint(self, request: Request) -> bytes:
        fingerprinter = self._crawler.request_fingerprinter
        assert fingerprinter is not None  # noqa: S101 (a crawler that crawls has one)
        return fingerprinter.fingerprint(request)

    # -- the page --------------------------------------------------------------------------------

    def page_key(self, request: Request) -> Key:
        """What identifies a page, in its job or for its spider: ``dedup_key``, or a fingerprint."""
        own_key = self._own_key(request)
        if own_key is not None:
            return key_of_own_key(own_key.encode("utf-8", "surrogatepass"), self._scope)
        return key_of_fingerprint(self.fingerprint(request), self._scope)

    def _own_key(self, request: Request) -> str | None:
        own_key = request.meta.get(OWN_KEY)
        if own_key is None or (isinstance(own_key, str) and own_key):
            return own_key
        if isinstance(own_key, int) and not isinstance(own_key, bool):
            return str(own_key)
        self._ignore(request, OWN_KEY, "set it to a text, or a number, that identifies the page")
        return None

    def remove_copied_key(self, request: Request, first: Request) -> None:
        """Removes a ``dedup_key`` that a callback has copied from ``first`` to another page.

        In doubt that page is fetched, under a key of its own.
        """
        if OWN_KEY not in request.meta or OWN_KEY not in first.meta:
            return
        is_copied = request.meta[OWN_KEY] == first.meta[OWN_KEY]
        if is_copied and self.fingerprint(request) != self.fingerprint(first):
            self._ignore(
                request, OWN_KEY, "it is copied from the page that links there, so remove it"
            )
            del request.meta[OWN_KEY]

    # -- whether and when it is sent -------------------------------------------------------------

    def dedup(self, request: Request) -> Any:
        """True, False, IF_NEW, or None: the settings decide."""
        value = request.meta.get(DEDUP)
        if value in (None, True, False, IF_NEW):
            return value
        self._ignore(request, DEDUP, f"set it to True, False or {IF_NEW!r}")
        return None

    def is_shared(self, request: Request) -> bool:
        """Whether Valkey is asked about the page of a request."""
        value = self.dedup(request)
        # A timeline's page has other posts tomorrow, even if all of today's are stored.
        is_timeline = value == IF_NEW and self._settings.requests == "stored"
        if (value is not None and not value) or is_timeline:
            return False
        patterns = self._settings.requests_match
        return (
            not patterns
            or value is True
            or any(pattern.search(request.url) for pattern in patterns)
        )

    def is_opted_in(self, request: Request) -> bool:
        """Whether Valkey is asked about a request that skips the filter."""
        return request.dont_filter and self.dedup(request) is True

    def wants_errback(self, request: Request) -> bool:
        """Whether the errback of a request is called if its page is known."""
        return bool(request.meta.get(ERRBACK)) and request.errback is not None

    def timeline(self, request: Request) -> str | None:
        """The timeline that a request reads on; each spider has timelines of its own."""
        name = request.meta.get(TIMELINE)
        if name is None:
            return None
        if isinstance(name, str) and name:
            return f"{self._spider}\n{name}"
        self._ignore(request, TIMELINE, "set it to a text that names the timeline")
        return None

    # -- warnings --------------------------------------------------------------------------------

    def warn_if_ignored(self, request: Request) -> None:
        """Warns of ``"dedup": True`` where neither a job nor "stored" is set."""
        if request.meta.get(DEDUP) is True and self._settings.requests == "job":
            self._ignore(
                request, DEDUP, "set VALKEY_DEDUP_REQUESTS = 'stored', or VALKEY_DEDUP_JOB"
            )

    def _ignore(self, request: Request, option: str, cure: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "meta[%r] = %.60r of %s is ignored: %s. Further ones are not reported.",
                option,
                request.meta[option],
                request,
                cure,
            )
