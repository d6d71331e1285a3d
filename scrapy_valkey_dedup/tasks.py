"""What is true of every task that is not simply awaited."""

from __future__ import annotations

import asyncio
from typing import Any


def retrieve(task: asyncio.Future[Any]) -> None:
    """Takes the error of a task that has ended, if it has one; a callback for when it is done.

    For a task whose waiter takes its error, but may be cancelled before: asyncio would log the
    error as one that was never retrieved.
    """
    if not task.cancelled():
        task.exception()
