"""A request has one state, and that decides whether it enters the scheduler."""

from __future__ import annotations

import gc

import pytest
from scrapy.http import Request

from scrapy_valkey_dedup.requests.states import RequestState, RequestStates

URL = "https://example.test/"
ENTERING = [
    # The state before; whether the request enters the scheduler; the state after.
    (None, True, RequestState.QUEUED),
    (RequestState.QUEUED, True, RequestState.QUEUED),
    (RequestState.REDIRECT, True, RequestState.QUEUED),
    (RequestState.HELD, False, RequestState.HELD),
    (RequestState.LEFT_OUT, False, None),
    (RequestState.KNOWN, True, RequestState.KNOWN),
    (RequestState.KNOWN_ERRBACK, True, RequestState.KNOWN_ERRBACK),
]


@pytest.mark.parametrize(("before", "enters", "after"), ENTERING)
def test_the_state_decides_what_enters_the_scheduler(
    before: RequestState | None,
    enters: bool,  # noqa: FBT001 (a case)
    after: RequestState | None,
) -> None:
    """A held request does not enter, a request that is left out not this time, all others do."""
    states, request = RequestStates(), Request(URL)
    if before is not None:
        states.set(request, before)
    assert states.enter_scheduler(request) == enters
    assert states.of(request) == after


def test_a_queue_takes_no_memory_where_pages_are_not_shared() -> None:
    """Without ``keeps_queued`` a request in the scheduler has no state; all else is the same."""
    states = RequestStates(keeps_queued=False)
    for before, enters, after in ENTERING:
        request = Request(URL)
        if before is not None:
            states.set(request, before)
        assert states.enter_scheduler(request) == enters
        if before is None:
            assert states.of(request) is None
        elif after is not RequestState.QUEUED:
            assert states.of(request) == after


def test_every_state_is_a_case() -> None:
    """The table above has each state once."""
    assert {before for before, *_ in ENTERING} == {None, *RequestState}
    assert len(ENTERING) == 1 + len(RequestState)


def test_states_are_by_object() -> None:
    """A copy of a request has no state, and no state keeps a request alive."""
    states, request = RequestStates(), Request(URL)
    states.set(request, RequestState.KNOWN)
    assert states.of(request.copy()) is None
    assert states.pop(request) is RequestState.KNOWN
    assert states.pop(request) is None
    states.set(request, RequestState.HELD)
    del request
    gc.collect()
    assert len(states._states) == 0
