"""Deduplicates scraped posts across spiders, processes and runs, with Valkey as the memory.

The names below are imported when they are first used: each start of the `scrapy` command, whatever
the command, imports this package to find `scrapy dedup`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrapy_valkey_dedup.addon import Addon
    from scrapy_valkey_dedup.items.pipeline import DedupPipeline, current_claim
    from scrapy_valkey_dedup.items.processor import DedupItemProcessor
    from scrapy_valkey_dedup.model import DedupError, DuplicatePage, DuplicatePost
    from scrapy_valkey_dedup.requests.dupefilter import DupeFilter
    from scrapy_valkey_dedup.requests.middleware import RequestDedupMiddleware
    from scrapy_valkey_dedup.session.claim import Claim

__version__ = "0.1.0"

__all__ = [
    "Addon",
    "Claim",
    "DedupError",
    "DedupItemProcessor",
    "DedupPipeline",
    "DupeFilter",
    "DuplicatePage",
    "DuplicatePost",
    "RequestDedupMiddleware",
    "current_claim",
]

_MODULES = {
    "Addon": "addon",
    "Claim": "session.claim",
    "DedupError": "model",
    "DedupItemProcessor": "items.processor",
    "DedupPipeline": "items.pipeline",
    "DupeFilter": "requests.dupefilter",
    "DuplicatePage": "model",
    "DuplicatePost": "model",
    "RequestDedupMiddleware": "requests.middleware",
    "current_claim": "items.pipeline",
}

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = found  # the next access finds it without this function
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
