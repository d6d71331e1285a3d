"""Sends a signal as Scrapy does, but without a task for each receiver that awaits nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import copy_context
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_VARKEYWORDS, isawaitable
from types import CodeType, FunctionType, MethodType
from typing import Any

from pydispatch.dispatcher import getAllReceivers, liveReceivers
from pydispatch.robustapply import robustApply
from scrapy.signalmanager import SignalManager
from scrapy.utils.defer import ensure_awaitable
from scrapy.utils.python import global_object_name
from scrapy.utils.signal import logger
from twisted.internet.defer import Deferred

_NOT_PLAIN = CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR


def sends_as_scrapy(manager: SignalManager) -> bool:
    """Whether the manager sends as Scrapy's own does, so that :func:`send` may do it instead."""
    return type(manager).send_catch_log_async is SignalManager.send_catch_log_async


async def send(manager: SignalManager, signal: Any, **named: Any) -> list[Any]:
    """Calls all receivers; returns when all are done, with pairs of a receiver and its outcome.

    In the order and with the arguments of Scrapy's ``send_catch_log_async``, each in a context of
    its own; what is raised is logged and returned. Plain functions are called at once. From the
    first receiver that is to be awaited on each gets a task, as Scrapy gives to all.
    """
    arguments = {"signal": signal, "sender": manager.sender, **named}
    receivers = list(liveReceivers(getAllReceivers(manager.sender, signal)))
    results: list[Any] = []
    for place, receiver in enumerate(receivers):
        code = _plain_code(receiver)
        if code is None:
            return results + await _in_tasks(receivers[place:], arguments)
        try:
            result = copy_context().run(_call, receiver, code, arguments)
        except asyncio.CancelledError as error:
            results.append(error)
        except Exception as error:  # noqa: BLE001 (as Scrapy)
            results.append((receiver, _failed(receiver, arguments, error)))
        else:
            if result is not None and (isinstance(result, Deferred) or isawaitable(result)):
                others = receivers[place + 1 :]
                return results + await _in_tasks(others, arguments, (receiver, result))
            results.append((receiver, result))
    return results


def _plain_code(receiver: Any) -> CodeType | None:
    """The code of a function or a method that is called like any other, else None."""
    function = receiver.__func__ if type(receiver) is MethodType else receiver
    if type(function) is not FunctionType or function.__code__.co_flags & _NOT_PLAIN:
        return None
    return function.__code__


def _call(receiver: Any, code: CodeType, arguments: Mapping[str, Any]) -> Any:
    """Calls a receiver with the arguments that it takes, as ``robustApply`` does."""
    if code.co_flags & CO_VARKEYWORDS:
        return receiver(**arguments)
    taken = code.co_varnames[type(receiver) is MethodType : code.co_argcount]
    return receiver(**{name: arguments[name] for name in taken if name in arguments})


async def _in_tasks(
    receivers: list[Any], arguments: Mapping[str, Any], called: tuple[Any, Any] | None = None
) -> list[Any]:
    """Calls receivers, and awaits what they return; ``called``: one that was, and its result."""
    begun = [] if called is None else [_end(*called, arguments)]
    begun += [_begin(each, arguments) for each in receivers]
    return list(await asyncio.gather(*begun, return_exceptions=True))


async def _begin(receiver: Any, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    try:
        result = robustApply(receiver, **arguments)
    except Exception as error:  # noqa: BLE001 (as Scrapy)
        return receiver, _failed(receiver, arguments, error)
    return await _end(receiver, result, arguments)


async def _end(receiver: Any, result: Any, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    try:
        return receiver, await ensure_awaitable(result, _warn=global_object_name(receiver))
    except Exception as error:  # noqa: BLE001 (as Scrapy)
        return receiver, _failed(receiver, arguments, error)


def _failed(receiver: Any, arguments: Mapping[str, Any], error: Exception) -> Exception:
    """Logs it as Scrapy does, in its name."""
    logger.error(
        "Error caught on signal handler: %(receiver)s",
        {"receiver": receiver},
        exc_info=error,
        extra={"spider": arguments.get("spider")},
    )
    return error
