"""Tasks that may fail when nobody waits for them any more."""

from __future__ import annotations

import asyncio
from typing import Any


def retrieve(task: asyncio.Future[Any]) -> None:
    """Takes the error of a task that has ended, if it has one; a callback for when it is done.

    For a task whose waiter takes the error, but may be cancelled before: asyncio would log it as
    one that was never retrieved, whenever Python collects the task.
    """
    if not task.cancelled():
        task.exception()
