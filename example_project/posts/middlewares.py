"""How the project waits where an instance says "too many requests"."""

import asyncio
import math
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from scrapy import Request
from scrapy.downloadermiddlewares.retry import RetryMiddleware
from scrapy.http import Response
from scrapy.http.headers import Headers

# Mastodon's longest window for reading is 15 minutes. Seconds.
LONGEST_WAIT = 16 * 60
# Where a response does not say when to come back. Seconds.
UNTOLD_WAIT = 60


class PatientRetryMiddleware(RetryMiddleware):
    """Scrapy's retry, which after a 429 waits until the instance allows the next request.

    ``Retry-After`` (RFC 9110, sent by front ends) or ``X-RateLimit-Reset`` (ISO 8601, sent by
    Mastodon, https://docs.joinmastodon.org/api/rate-limits/) says when. ``RETRY_TIMES`` counts as
    usual. A wait longer than 16 minutes is not begun: the response goes on to the spider.
    """

    async def process_response(self, request: Request, response: Response) -> Request | Response:
        """Retry as Scrapy does, after the wait that a 429 asks for."""
        if response.status != HTTPStatus.TOO_MANY_REQUESTS:
            return super().process_response(request, response)
        wait = seconds_to_wait(response.headers)
        if wait > LONGEST_WAIT:
            return response
        outcome = super().process_response(request, response)
        if isinstance(outcome, Request):
            self.crawler.spider.logger.info(
                "%s allows the next request in %d s: waiting", response.url, wait
            )
            await self._pause(wait)
        return outcome

    async def _pause(self, seconds: int) -> None:
        # In steps, because a crawl that is asked to stop waits for its requests.
        for _ in range(seconds):
            if not self.crawler.crawling:
                return
            await asyncio.sleep(1)


def seconds_to_wait(headers: Headers) -> int:
    """Return the whole seconds, at least 1, after which a 429 with these headers may be retried."""
    after = _text(headers, "Retry-After")
    if after.isdecimal():
        return max(1, int(after))
    now = _moment(_text(headers, "Date")) or datetime.now(timezone.utc)
    until = _moment(after) or _moment(_text(headers, "X-RateLimit-Reset"))
    if until is None:
        return UNTOLD_WAIT
    return max(1, math.ceil((until - now) / timedelta(seconds=1)))


def _text(headers: Headers, name: str) -> str:
    return (headers.get(name) or b"").decode("latin-1").strip()


def _moment(text: str) -> datetime | None:
    """Read an HTTP date or an ISO 8601 one; None if it is neither."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            # Python 3.10 does not read "Z".
            moment = read(text.replace("Z", "+00:00"))
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return None
