"""How many empty pages in a row are read before a timeline is given up."""

from __future__ import annotations

import logging

from scrapy.http import Request

from scrapy_valkey_dedup.requests.callback_output import CallbackOutput

logger = logging.getLogger(__name__)


class EmptyPageLimit:
    """The limit that ``VALKEY_DEDUP_EMPTY_PAGES`` sets."""

    def __init__(self, limit: int | None) -> None:
        """``limit``: None is no limit; with 0 an empty page is the end of a timeline."""
        self._limit = limit
        self._warned = False

    @property
    def is_end(self) -> bool:
        """Whether an empty page is the regular end of a timeline."""
        return self._limit == 0

    def is_reached(self, output: CallbackOutput) -> bool:
        """Whether this page is empty, and no further one is read."""
        return self._limit is not None and 0 < output.empty_pages >= self._limit

    def warn(self, request: Request) -> None:
        """A next page is not sent, and it is unknown whether there is anything below it."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "VALKEY_DEDUP_EMPTY_PAGES = %d: so many pages in a row had nothing, so %s is not "
                "sent. The pages below were not read, so this reading is not complete. If an empty "
                "page is the end of that timeline, send no next page from it, or set 0. If posts "
                "follow, set a higher number. Further ones are not reported.",
                self._limit,
                request,
            )
