"""Asking several servers at once, and not waiting for one that has been replaced."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

_Found = TypeVar("_Found")

_MOMENT = 0.1  # seconds for the other answers after one has come
_CANCEL_AGAIN = 0.05  # seconds
_LOOK = 0.5  # seconds without an answer before each look whether another server is in charge


async def majority_answer(questions: Iterable[Coroutine[Any, Any, _Found]]) -> _Found:
    """Puts all questions at once, each to another server; returns what most of them answer.

    Who is frozen or far away is not waited for: the first answer ends the wait in a moment. But not
    at once, or one that is cut off from the others, and answers fastest, would always be believed.
    Raises what one of them raised if there is no answer; there must be one question at least.
    """
    waiting = {asyncio.ensure_future(question) for question in questions}
    answers, moment = Counter[_Found](), None
    trouble: BaseException | None = None
    while waiting:
        done, waiting = await _wait_or_cancel(waiting, moment)
        if not done:
            break
        for task in done:
            error = task.exception()
            if error is None:
                answers[task.result()] += 1
            else:
                trouble = error
        if answers:
            moment = _MOMENT
    await _end(waiting)
    if not answers:
        assert trouble is not None  # noqa: S101 (whoever has not answered has failed)
        raise trouble
    return answers.most_common(1)[0][0]


async def _wait_or_cancel(
    tasks: set[asyncio.Task[_Found]], seconds: float | None
) -> tuple[set[asyncio.Task[_Found]], set[asyncio.Task[_Found]]]:
    try:
        return await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    except BaseException:
        await _end(tasks)
        raise


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended.

    More than once: on Python 3.10 valkey-py loses a cancellation that comes while it looks whether
    a connection is still good (``async_timeout`` takes it for its own), and reads on.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        done, tasks = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN)
        for task in done:
            if not task.cancelled():
                task.exception()  # so that nobody misses it


async def unless_replaced(
    exchange: Coroutine[Any, Any, _Found], is_replaced: Callable[[], Awaitable[bool]]
) -> _Found | None:
    """What came of an exchange; None if the server is mute and another is in charge by now.

    A frozen server, or one behind a dead line, would else cost the whole time of an attempt, of
    which a deadline has two, though its successor may be there in the middle of the first.
    """
    asking = asyncio.ensure_future(exchange)

    async def watch() -> None:
        while not await is_replaced():  # noqa: ASYNC110 (no server tells of it unasked)
            await asyncio.sleep(_LOOK)

    watching = None
    try:
        await asyncio.wait([asking], timeout=_LOOK)
        if not asking.done():
            watching = asyncio.ensure_future(watch())
            await asyncio.wait([asking, watching], return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else None
    finally:
        asking.cancel()
        if watching is not None:
            watching.cancel()


class SingleFlight:
    """A piece of work that many wait for and that is under way once at most."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Returns when it was done once more; raises what it raised."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
            # Whoever waits for it may be cancelled: then nobody would look at how it failed.
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        task = self._task
        await asyncio.wait([task])  # who is cancelled here leaves it to the others
        task.result()

    async def close(self) -> None:
        """Gives it up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
