"""What a callback yields for one response: items, and next pages that wait for something new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scrapy.http import Request, Response

from scrapy_valkey_dedup.model import Key, Verdict
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.session.claim import NO_CLAIM
from scrapy_valkey_dedup.session.item_in_progress import ItemInProgress, ItemOutcome


class CallbackOutput:
    """The output for one response, while it is scraped."""

    def __init__(self, page: Page, send: Callable[[Request], None]) -> None:
        self.page = page
        self.failed = False
        """The callback, or a spider middleware, has raised an exception."""
        self.times_begun = 0
        """How often its output was begun: once more after an exception that was handled."""
        self.empty_before = 0
        """How many empty pages in a row came before this one."""
        self.redirects = 0
        """How many redirects led here from the page that a reading requested."""
        self.fetched_again = False
        """The callback has requested the same page again."""
        self.new = False
        """It has something new."""
        self.posts: list[Key] = []
        """Its items that have an identity."""
        self.waiting: list[Request] = []
        """Requests that are sent only if there is something new."""
        self.next_pages: list[tuple[str, Request]] = []
        """Next pages of named timelines, by name; they wait until all items have ended."""
        self.others = 0
        """How many items without an identity there are, and requests that do not wait."""
        self._send = send

    def add_item(self, outcome: ItemOutcome, item: ItemInProgress) -> None:
        """An item has ended."""
        verdict, claim = item.verdict, item.claim
        scraped, failed = outcome is ItemOutcome.SCRAPED, outcome is ItemOutcome.FAILED
        if item.key is not None:
            self.posts.append(item.key)
        else:
            self.others += 1
        if verdict in (Verdict.NEW, Verdict.HELD) or failed:
            self.found_new()
        unsettled = claim if scraped else NO_CLAIM
        if verdict is Verdict.HELD or item.duplicate_of.accepted:
            unsettled = item.duplicate_of
        if unsettled.is_open and not failed:
            self.page.await_claim(unsettled)
            return
        in_flight = verdict is Verdict.HELD  # it is unknown whether the other run stores it
        released = scraped and (claim.stored is False or not item.remembered)
        known = verdict is Verdict.SEEN
        self.page.add_item(
            stored=known or (scraped and not in_flight and not released),
            failed=failed or in_flight or released,
            is_post=item.key is not None,
        )

    def found_new(self) -> None:
        """Sends the requests that wait for something new."""
        self.new = True
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            self._send(request)

    @property
    def has_no_post(self) -> bool:
        """Whether it has no item with an identity: then it is unknown whether it has news."""
        return not self.posts

    @property
    def empty_pages(self) -> int:
        """How many empty pages there are in a row, this one included; 0 if it is not empty."""
        return self.empty_before + 1 if not self.posts and not self.others else 0


class CallbackOutputs:
    """The output of each response that is being scraped."""

    def __init__(self) -> None:
        # By identity: a weak dictionary would cost every item half a microsecond.
        self._outputs: dict[int, tuple[Response, CallbackOutput]] = {}

    def begin(self, response: Response, output: CallbackOutput) -> None:
        """The scraping of a response begins."""
        self._outputs[id(response)] = response, output

    def end(self, response: Response) -> None:
        """The response is scraped."""
        del self._outputs[id(response)]

    def get(self, response: Any) -> CallbackOutput | None:
        """The output of a response; None for anything else, such as an errback's failure."""
        found = self._outputs.get(id(response))
        return None if found is None else found[1]

    def add_item(self, response: Any, outcome: ItemOutcome, item: ItemInProgress) -> None:
        """An item has ended; it came from this response, if from any."""
        output = self.get(response)
        if output is not None:
            output.add_item(outcome, item)
