"""Questions to several servers at once, without waiting for one that has been replaced."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from scrapy_valkey_dedup.tasks import retrieve

_Found = TypeVar("_Found")

_MOMENT = 0.1  # seconds for the other answers after one has come
_CANCEL_AGAIN = 0.05  # seconds
_LOOK = 0.5  # seconds without an answer before each check whether another server is in charge


async def majority_answer(questions: Iterable[Coroutine[Any, Any, _Found]]) -> _Found:
    """Asks all questions at once, each of another server; returns the most common answer.

    After the first answer the others have only a moment: a server that is frozen or far away is not
    waited for. Without that moment, a server that is cut off from the others and answers fastest
    would always win. Raises the error of one of them if there is no answer. There must be at least
    one question.
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
        assert trouble is not None  # noqa: S101 (each has answered or failed)
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

    More than once: on Python 3.10 valkey-py loses a cancellation that arrives while it checks a
    connection (``async_timeout`` takes it for its own), and reads on.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        done, tasks = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN)
        for task in done:
            retrieve(task)


async def unless_replaced(
    exchange: Coroutine[Any, Any, _Found], is_replaced: Callable[[], Awaitable[bool]]
) -> _Found | None:
    """The outcome of an exchange; None if the server is silent and another is in charge by now.

    Otherwise a frozen server, or one behind a dead connection, would cost the whole time of an
    attempt, and a deadline has only two, although its successor may be there in the middle of the
    first one.
    """
    asking = asyncio.ensure_future(exchange)

    async def watch() -> None:
        while not await is_replaced():  # noqa: ASYNC110 (no server announces it)
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
    """Work that many callers may wait for, and that runs at most once at a time."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Joins the run that is on its way, or starts one; raises what it raises."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
            self._task.add_done_callback(retrieve)
        task = self._task
        await asyncio.wait([task])  # a caller that is cancelled here leaves it to the others
        task.result()

    async def close(self) -> None:
        """Cancels it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
