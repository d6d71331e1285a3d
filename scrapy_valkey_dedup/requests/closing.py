"""When the spider may close, and what goes to the ``JOBDIR`` then."""

from __future__ import annotations

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DontCloseSpider
from scrapy.utils.job import job_dir

from scrapy_valkey_dedup.requests.in_progress import PagesInProgress
from scrapy_valkey_dedup.requests.rescheduling import Rescheduling
from scrapy_valkey_dedup.requests.scraping import Scraping
from scrapy_valkey_dedup.requests.timelines.next_pages import NextPages
from scrapy_valkey_dedup.session.session import Session


class Closing:
    """Keeps the spider open while a page is held, or while a next page may still be sent."""

    def __init__(  # noqa: PLR0913 (all but one are keywords)
        self,
        crawler: Crawler,
        *,
        session: Session,
        pages: PagesInProgress,
        scraping: Scraping,
        next_pages: NextPages,
        rescheduling: Rescheduling,
    ) -> None:
        self._session = session
        self._pages = pages
        self._scraping = scraping
        self._next_pages = next_pages
        self._rescheduling = rescheduling
        if job_dir(crawler.settings):
            session.before_scheduler_closes.append(self._put_back)
        crawler.signals.connect(self._spider_idle, signals.spider_idle)
        crawler.signals.connect(rescheduling.close, signals.spider_closed)

    def _spider_idle(self) -> None:
        """Nothing is in progress: attempts that have not ended will not end."""
        if self._next_pages.undecided:
            raise DontCloseSpider("a next page may still be sent")
        held = self._rescheduling.held > 0
        if not self._scraping.busy:  # Scrapy may be idle a moment before the end is told here
            self._pages.give_up()
            if not held:
                self._next_pages.forget_readings()
        if held and not self._session.idle:
            self._rescheduling.ask_at_once()
        self._session.idle = held
        if held:
            raise DontCloseSpider("other runs are fetching pages that this run may have to fetch")

    def _put_back(self) -> None:
        """The spider is stopped: what is not decided or held goes to the ``JOBDIR``."""
        self._next_pages.send_undecided()
        self._rescheduling.put_back()
