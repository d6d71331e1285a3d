"""Which item Scrapy is processing at this moment: its signals do not say."""

from __future__ import annotations

from contextvars import ContextVar

from scrapy_valkey_dedup.session.item_in_progress import ItemInProgress

# Scrapy runs an item's pipelines and sends its item_scraped, item_dropped or item_error in one
# context, so its ItemInProgress is found even if a pipeline has replaced the item. But contexts are
# inherited: while an item waits in a pipeline, the engine may start unrelated downloads in its
# context. So each item gets an ItemInProgress before anything else can end, and one that has ended
# leads to the one around it: that of the item whose pipeline has sent this one.
_current: ContextVar[ItemInProgress | None] = ContextVar("scrapy_valkey_dedup_item", default=None)


def current_item() -> ItemInProgress | None:
    """The innermost item of this context that has not ended."""
    current = _current.get()
    while current is not None and current.ended:
        current = current.outer
    return current


def begin_item() -> ItemInProgress:
    """An item has come to its pipelines."""
    outer = current_item()
    if outer is not None:
        outer.forget_ended()
    current = ItemInProgress(outer)
    _current.set(current)
    return current


def end_item() -> ItemInProgress:
    """Scrapy has signalled the end of an item. Returns which one; if there is none, a blank one."""
    current = current_item() or ItemInProgress()
    current.end()
    return current
