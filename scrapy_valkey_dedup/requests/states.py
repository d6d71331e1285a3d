"""The state of each request between Scrapy's scheduler and its download: one at a time."""

from __future__ import annotations

from enum import Enum, auto
from weakref import WeakKeyDictionary

from scrapy.http import Request


class RequestState(Enum):
    """Why a request is in the scheduler, or on its way there."""

    QUEUED = auto()
    """The scheduler has it, or its filter drops it."""
    REDIRECT = auto()
    """The scheduler has it, and it continues a page in progress: a redirect, or a retry."""
    HELD = auto()
    """It waits among the held pages, and must not enter the scheduler."""
    LEFT_OUT = auto()
    """It is not sent: it only wakes the engine, and must not enter the scheduler."""
    KNOWN = auto()
    """Valkey knows its page: the filter drops it."""
    KNOWN_ERRBACK = auto()
    """Valkey knows its page: it goes through the scheduler, and then its errback is called."""


class RequestStates:
    """The states, by request object: a mark in the ``meta`` would be copied by spiders.

    A request has none while it is downloaded, or when a component of Scrapy downloads it without
    the scheduler.
    """

    def __init__(self, *, keeps_queued: bool = True) -> None:
        """Without ``keeps_queued`` a request that is only queued has none: there are many."""
        self._keeps_queued = keeps_queued
        self._states: WeakKeyDictionary[Request, RequestState] = WeakKeyDictionary()

    def of(self, request: Request) -> RequestState | None:
        """The state of a request, if it has one."""
        return self._states.get(request)

    def set(self, request: Request, state: RequestState) -> None:
        """Replaces the state of a request."""
        self._states[request] = state

    def pop(self, request: Request) -> RequestState | None:
        """Removes the state of a request, and returns it."""
        return self._states.pop(request, None)

    def enter_scheduler(self, request: Request) -> bool:
        """Whether a request may enter the scheduler. It is queued then, unless Valkey knows it."""
        state = self._states.get(request)
        if state is RequestState.LEFT_OUT:
            del self._states[request]
        if state in (RequestState.HELD, RequestState.LEFT_OUT):
            return False
        if self._keeps_queued and state not in (RequestState.KNOWN, RequestState.KNOWN_ERRBACK):
            self._states[request] = RequestState.QUEUED
        return True
