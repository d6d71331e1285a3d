"""How each item ended: heard where Scrapy sends its signals, as a receiver would cost too much."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from scrapy.crawler import Crawler
from scrapy.signalmanager import SignalManager

from scrapy_valkey_dedup.items.current_item import end_item
from scrapy_valkey_dedup.items.sending import send, sends_as_scrapy

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Any, Any, bool], None]
"""Gets the item, the response that it came from, if any, and whether a receiver has failed."""


class ItemEnds:
    """Calls a handler at the end of each item, in the item's own context.

    For each receiver of these signals Scrapy makes a task, which takes about a fifth of the time
    that it spends on an item. So the receivers that are connected here hear only of items that end
    before the first signal has come by :class:`_Listener`: where none comes, they remain.
    """

    def __init__(self, crawler: Crawler, handlers: Mapping[object, Handler]) -> None:
        """``handlers``: by signal, those of :mod:`scrapy.signals` that end an item."""
        self._crawler = crawler
        self._handlers = dict(handlers)
        self._receivers = {signal: _receiver(handle) for signal, handle in handlers.items()}
        for signal, receiver in self._receivers.items():
            crawler.signals.connect(receiver, signal)

    def listen(self, *, but_for: object = None) -> None:
        """Hears the signals where they are sent; ``but_for``: one that is left to its receiver.

        Source: the ``Scraper`` of Scrapy 2.14 to 2.19 sends them by its attribute ``signals``.
        """
        engine = self._crawler.engine
        scraper = engine.scraper if engine is not None else None
        inner = getattr(scraper, "signals", None)
        if scraper is not None and isinstance(inner, SignalManager):
            heard = {name: each for name, each in self._handlers.items() if name is not but_for}
            listener = _Listener(inner, heard, self._disconnect)
            scraper.signals = listener  # type: ignore[assignment] # (it hands everything on)

    def _disconnect(self, heard: Mapping[object, Handler]) -> None:
        for signal in heard:
            receiver = self._receivers.pop(signal, None)
            if receiver is not None:
                self._crawler.signals.disconnect(receiver, signal)


def _receiver(handle: Handler) -> Callable[[Any, Any], None]:
    def receive(item: Any, response: Any) -> None:
        handle(item, response, False)  # noqa: FBT003 (of the others it cannot know)

    return receive


def _any_failed(results: object) -> bool:
    """Whether a receiver has raised something, from what the signal manager returns."""
    for result in results if isinstance(results, list) else ():
        # A receiver that was cancelled has no pair.
        outcome = result[-1] if isinstance(result, tuple) and result else result
        if isinstance(outcome, BaseException):
            return True
    return False


class _Listener:
    """Stands for the scraper's signal manager."""

    def __init__(
        self,
        inner: SignalManager,
        handlers: Mapping[object, Handler],
        on_first: Callable[[Mapping[object, Handler]], None],
    ) -> None:
        self._inner = inner
        self._send = partial(send, inner) if sends_as_scrapy(inner) else inner.send_catch_log_async
        self._handlers = handlers
        self._on_first: Callable[[Mapping[object, Handler]], None] | None = on_first

    async def send_catch_log_async(self, signal: Any, **named: Any) -> list[tuple[Any, Any]]:
        """As the signal manager does; then the item has ended: its receivers may store it."""
        handle = self._handlers.get(signal)
        if handle is None:
            return await self._send(signal, **named)
        if self._on_first is not None:
            self._on_first(self._handlers)
            self._on_first = None
        try:
            results = await self._send(signal, **named)
        except BaseException:  # cancelled
            end_item().claim.release()
            raise
        try:
            handle(named["item"], named["response"], _any_failed(results))
        except Exception:  # as Scrapy deals with a receiver's
            logger.exception("What follows the end of an item has failed.")
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
