"""Time as an event loop has had it: a deadline means the same however busy the machine is.

A process that other programs keep waiting for a second has not been idle for a second: its loop has
not turned. On a patient loop's clock one turn counts for a moment at most, so deadlines are late
there by what the code under test does, never by what the machine does beside.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import selectors
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic, sleep
from typing import Any

PATIENCE = 300  # seconds for what takes one: a wait that lasts so long has found a fault
LOOP = f"{__name__}.PatientLoop"  # for Scrapy's ASYNCIO_EVENT_LOOP
_SLICE = 0.02  # seconds that the loop sleeps at most
_LATE, _WORK = 0.002, 0.02  # seconds that waking up, and the work of one turn, may count for


class _Slices(selectors.DefaultSelector):
    """Sleeps a little at a time, so that the loop turns."""

    def __init__(self, account: Callable[[float], None]) -> None:
        super().__init__()
        self._account = account

    def select(self, timeout: float | None = None) -> Any:
        """Waits for a slice of the time at most."""
        slice_ = _SLICE if timeout is None else min(timeout, _SLICE)
        self._account(_WORK)
        events = super().select(slice_)
        self._account(max(slice_, 0) + _LATE)
        return events


class PatientLoop(asyncio.SelectorEventLoop):
    """An event loop whose ``time()`` never runs ahead of the machine's, and stops when it stops."""

    def __init__(self) -> None:
        self._had, self._since = monotonic(), monotonic()
        super().__init__(_Slices(self._account))

    def _account(self, at_most: float) -> None:
        now = monotonic()
        self._had, self._since = self._had + min(now - self._since, at_most), now

    def time(self) -> float:
        """Seconds that this loop has had."""
        return self._had + min(monotonic() - self._since, _WORK)


def now() -> float:
    """The time of the loop that runs."""
    return asyncio.get_running_loop().time()


def make_all_patient() -> None:
    """Every loop that this process makes by itself is a patient one."""
    patient = asyncio.DefaultEventLoopPolicy()
    patient._loop_factory = PatientLoop
    asyncio.set_event_loop_policy(patient)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """``asyncio.run`` with a patient loop. No task's error may be lost.

    asyncio logs it whenever the task is collected: in an operator's log, or in another test's.
    """
    tasks = weakref.WeakSet[asyncio.Task[Any]]()
    lost: list[str] = []

    def make(loop: asyncio.AbstractEventLoop, work: Any, **named: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **named)
        tasks.add(task)
        return task

    def told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "never retrieved" in context["message"]:
            lost.append(str(context))
        loop.default_exception_handler(context)

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(make)
        loop.set_exception_handler(told)
        await main()

    _run(watched)
    lost += [repr(task) for task in tasks if task._log_traceback]
    assert lost == []


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=PatientLoop) as runner:
            runner.run(main())
        return
    policy = asyncio.get_event_loop_policy()
    make_all_patient()
    try:
        asyncio.run(main())
    finally:
        asyncio.set_event_loop_policy(policy)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test that awaits in a patient event loop."""

    @functools.wraps(test)
    def run_it(*arguments: object, **fixtures: object) -> None:
        async def main() -> None:
            await test(*arguments, **fixtures)

        run(main)

    return run_it


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Returns what the condition returns as soon as it is true.

    It is asked less often the longer it takes: workers who all ask their servers a hundred times a
    second have no time for what they wait for.
    """
    deadline, pause = monotonic() + seconds, 0.005
    while not (found := condition()):
        if monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {condition}")
        sleep(pause)
        pause = min(1.2 * pause, 0.05)
    return found


async def until(condition: Callable[[], Any]) -> Any:
    """Returns what the condition, or what it awaits, returns as soon as it is true.

    For a coroutine: the loop goes on meanwhile, and by its clock the wait ends.
    """
    deadline = now() + PATIENCE
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if now() > deadline:
            raise TimeoutError(f"waited {PATIENCE} s for {condition}")
        await asyncio.sleep(0.01)
