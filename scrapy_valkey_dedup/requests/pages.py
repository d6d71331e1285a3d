"""Pages and what becomes of them: whether a page is done, and whether it brought anything new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scrapy.http import Request, Response

from scrapy_valkey_dedup.model import Key, Verdict
from scrapy_valkey_dedup.requests.timelines import Reading
from scrapy_valkey_dedup.session.claim import NO_CLAIM, Claim
from scrapy_valkey_dedup.session.item_in_progress import ItemInProgress, ItemOutcome


class Page:
    """A page, until it is known whether it is done.

    An attempt is one download and the scraping of its response. A retry and a redirect belong to
    the attempt of the request before them. A retry that a callback sends begins another attempt.
    """

    __slots__ = (
        "__weakref__",
        "_all_stored",
        "_any_post",
        "_attempts",
        "_failed",
        "_items",
        "_only_if_stored",
        "_settled",
        "_unsettled",
        "_watchers",
        "claims",
        "downloading",
        "readings",
        "scheduled",
        "shares_target",
        "target",
        "target_is_held",
    )

    def __init__(self, *claims: Claim, only_if_stored: bool = False) -> None:
        """``only_if_stored``: its claims are confirmed only if it had items and all are stored."""
        self.claims = list(claims)
        """The first is the page's own, the others are those of pages that it redirects to."""
        self.downloading = 0
        """Requests that are being downloaded."""
        self.target_is_held = False
        """Another run is at the page that it redirects to."""
        self.readings: dict[str, Reading] = {}
        """The readings of named timelines that it is part of."""
        self.shares_target = False
        """Another page has led to the same one by a redirect, while this one was under way."""
        self.target: Key | None = None
        """What is downloaded for it: the page itself, or the last one that it redirects to."""
        self.scheduled = 0
        """Requests on their way through the scheduler that carry an attempt on."""
        self._only_if_stored = only_if_stored
        self._attempts = 1
        self._unsettled = 0
        self._items = 0
        self._failed = False
        self._settled = False
        self._all_stored = True
        self._any_post = False
        self._watchers: list[Callable[[bool], None]] = []

    def watch(self, watcher: Callable[[bool], None]) -> None:
        """Has a reading told, when all is settled, whether the page went well."""
        self._watchers.append(watcher)

    def has(self, key: Key) -> bool:
        """Whether one of its claims is on this page."""
        return any(claim.key == key for claim in self.claims)

    def begin_attempt(self) -> None:
        """It is fetched again, as its callback wishes."""
        self._attempts += 1
        self.scheduled += 1

    def end_attempt(self, *, failed: bool) -> None:
        """A response of it is scraped, or there will be none."""
        self._attempts -= 1
        self._failed |= failed
        self._settle()

    def give_up(self) -> None:
        """Nobody will end its attempts: a middleware has made away with a request or a response."""
        if self._attempts > 0 and not self.target_is_held:
            self._attempts = 0
            self._failed = True
            self._settle()

    def add_item(self, *, stored: bool, failed: bool, is_post: bool = True) -> None:
        """An item of it is settled. ``is_post``: it has an identity."""
        self._items += 1
        self._all_stored &= stored
        self._any_post |= stored and is_post
        self._failed |= failed

    def await_claim(self, claim: Claim) -> None:
        """An item of it was scraped; whether it is stored shows when its claim is settled."""
        self._unsettled += 1
        claim.watch(self._claim_settled)

    def _claim_settled(self, stored: bool) -> None:  # noqa: FBT001 (the shape Claim calls)
        self._unsettled -= 1
        self.add_item(stored=stored, failed=not stored)
        self._settle()

    def _settle(self) -> None:
        if self._settled or self._attempts > 0 or self._unsettled > 0:
            return
        self._settled = True
        done = not self._failed
        if self._only_if_stored:
            done = done and self._items > 0 and self._all_stored
        for claim in self.claims:
            if done and (claim.key == self.target or self._redirects_well):
                claim.confirm()
            else:
                claim.release()
        for watcher in self._watchers:
            watcher(not self._failed)

    @property
    def _redirects_well(self) -> bool:
        """Whether a page that redirects is done when the page that it leads to is.

        It may have led to a block page: a login, a consent, "too many requests". A block page has
        no post, or many pages lead to it. To be wrong here costs a redirect, or the page's posts.
        """
        return self.target is None or (self._any_post and not self.shares_target)


class CallbackOutput:
    """A response while it is scraped: its items, and the requests that wait for something new."""

    def __init__(self, page: Page, send: Callable[[Request], None]) -> None:
        self.page = page
        self.failed = False
        """The callback, or a spider middleware, has raised an exception."""
        self.times_begun = 0
        """How often its output was begun: once more after an exception that was handled."""
        self.empty_before = 0
        """How many pages without anything came before it, one after the other."""
        self.redirects = 0
        """How many redirects led to it from the page that a reading asked for."""
        self.fetched_again = False
        """Its callback wants the same page once more."""
        self.new = False
        """It brought something new."""
        self.posts: list[Key] = []
        """Its items that have an identity."""
        self.waiting: list[Request] = []
        """Requests that are sent only if it brings something new."""
        self.next_pages: list[tuple[str, Request]] = []
        """Requests for the next page of a named timeline, which wait until all items have ended."""
        self.others = 0
        """Items without an identity, and requests that do not wait."""
        self._send = send

    def add_item(self, outcome: ItemOutcome, item: ItemInProgress) -> None:
        """An item's way has ended."""
        verdict, claim, failed = item.verdict, item.claim, outcome is ItemOutcome.FAILED
        if item.key is not None:
            self.posts.append(item.key)
        else:
            self.others += 1
        if verdict in (Verdict.NEW, Verdict.HELD) or failed:
            self.found_new()
        unsettled = claim if outcome is ItemOutcome.SCRAPED else NO_CLAIM
        if verdict is Verdict.HELD or item.duplicate_of.accepted:
            unsettled = item.duplicate_of
        if unsettled.is_open and not failed:
            self.page.await_claim(unsettled)
            return
        in_flight = verdict is Verdict.HELD  # whether the other run stores it is not known
        given_back = outcome is ItemOutcome.SCRAPED and (
            claim.stored is False or not item.remembered
        )
        known = verdict is Verdict.SEEN
        self.page.add_item(
            stored=known or (outcome is ItemOutcome.SCRAPED and not in_flight and not given_back),
            failed=failed or in_flight or given_back,
            is_post=item.key is not None,
        )

    def found_new(self) -> None:
        """Sends what waits for it."""
        self.new = True
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            self._send(request)

    @property
    def says_nothing(self) -> bool:
        """Whether it brought nothing of which it is known if it is new."""
        return not self.posts

    @property
    def empty_pages(self) -> int:
        """How many pages without anything came one after the other, this one included."""
        return self.empty_before + 1 if not self.posts and not self.others else 0


class CallbackOutputs:
    """The outputs of one crawl, by response: what an item's signal names."""

    def __init__(self) -> None:
        # By identity: a weak dictionary would cost every item half a microsecond.
        self._outputs: dict[int, tuple[Response, CallbackOutput]] = {}

    def begin(self, response: Response, output: CallbackOutput) -> None:
        """The response is being scraped."""
        self._outputs[id(response)] = response, output

    def end(self, response: Response) -> None:
        """The response is scraped."""
        del self._outputs[id(response)]

    def get(self, response: Any) -> CallbackOutput | None:
        """The output of a response; None for anything else, such as an errback's failure."""
        found = self._outputs.get(id(response))
        return None if found is None else found[1]

    def add_item(self, response: Any, outcome: ItemOutcome, item: ItemInProgress) -> None:
        """An item's way has ended; it came from this response, if from any."""
        output = self.get(response)
        if output is not None:
            output.add_item(outcome, item)
