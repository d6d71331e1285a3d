"""The readings of timelines that are in progress in this run, by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.requests.meta.marks import ReadingMark
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.requests.timelines.memory import Timelines
from scrapy_valkey_dedup.requests.timelines.reading import Reading
from scrapy_valkey_dedup.session.session import Session


class Readings:
    """Adds each page to its readings, and remembers a reading that is complete."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._timelines: Timelines | None = None
        self._readings: dict[str, Reading] = {}
        session.when_ledger_opens(self._open_timelines)

    def _open_timelines(self) -> None:
        shelf = self._session.shelf("timelines", retention=self._session.settings.retention)
        self._timelines = Timelines(shelf, self._session.outage)
        self._session.flushers.append(self._timelines.flush)

    def begin(self, name: str, page: Page) -> None:
        """A page has a next page in a timeline: its reading begins, if it has not."""
        if name not in page.readings:
            reading = self._reading(name)
            reading.expect_page()
            self._join(page, name, reading)

    def add_next_page(self, mark: ReadingMark, page: Page) -> None:
        """The next page of a timeline has come."""
        if mark.timeline in page.readings:
            return
        reading = self._readings.get(mark.timeline)
        if reading is None or not mark.is_mine:  # it waited in a JOBDIR, or the spider was idle
            reading = self._reading(mark.timeline)
            reading.fail()
            reading.expect_page()
        self._join(page, mark.timeline, reading)

    async def all_met(self, name: str, posts: Sequence[Key]) -> bool:
        """Whether an earlier reading, which was complete, has met all of the posts."""
        return self._timelines is not None and await self._timelines.all_met(name, posts)

    def forget(self) -> None:
        """Nothing is in progress: pages that a reading still expects will not come."""
        self._readings.clear()

    def _reading(self, name: str) -> Reading:
        """The reading that is in progress, or a new one."""
        reading = self._readings.get(name)
        if reading is None or reading.ended:
            reading = self._readings[name] = Reading(name)
        return reading

    def _join(self, page: Page, name: str, reading: Reading) -> None:
        page.readings[name] = reading
        page.watch(partial(self._page_done, reading))

    def _page_done(self, reading: Reading, well: bool) -> None:  # noqa: FBT001 (a callback)
        if reading.page_done(well=well) and self._timelines is not None:
            self._timelines.remember(reading)
        if reading.ended and self._readings.get(reading.name) is reading:
            del self._readings[reading.name]
