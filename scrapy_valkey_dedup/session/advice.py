"""What a crawl says when it starts: how it is set up, and what in Scrapy's settings surprises."""

from __future__ import annotations

import logging

from scrapy.settings import BaseSettings

from scrapy_valkey_dedup.settings import DedupSettings

logger = logging.getLogger(__name__)

COUNT_STORED_ONLY = ("CLOSESPIDER_TIMEOUT_NO_ITEM", "CLOSESPIDER_PAGECOUNT_NO_ITEM")
"""Scrapy's settings that close a spider which stores nothing for a while."""


def describe(spider: str, run: str, place: str, settings: DedupSettings, confirm: str) -> None:
    """One line at DEBUG: server, namespace, identity, mode. ``place`` has no secret."""
    logger.debug(
        "Spider %r is run %s of the ledger at %s, namespace %r. Identity: %s. CONFIRM = %r, "
        "REQUESTS = %r, JOB = %r.",
        spider,
        run,
        place,
        settings.namespace,
        _identity(settings),
        confirm,
        settings.requests,
        settings.job,
    )


def _identity(settings: DedupSettings) -> str:
    if settings.identity is not None:
        return f"the function {getattr(settings.identity, '__qualname__', 'of IDENTITY')}"
    others = "any other class" if len(settings.fields) > 1 else "every class"
    rules = [
        f"{others if cls is None else cls.__qualname__} by "
        + (", ".join(map(str, rule.fields)) if rule.fields else "its own rule")
        for cls, rule in settings.fields.items()
    ]
    if None not in settings.fields:
        rules.append("where nothing is said, field metadata, else all fields")
    return "; ".join(rules)


def warn_of_trial(name: str) -> None:
    """Tells that nobody else will know of what this run stores."""
    logger.warning(
        "VALKEY_DEDUP_TRIAL = %r: what this run stores is remembered for the trial only, and every "
        "other run will store it once more. To keep it, have `scrapy dedup import` read what was "
        "stored; `scrapy dedup forget --trial %s` ends the trial.",
        name,
        name,
    )


def warn_of_closing(settings: BaseSettings) -> None:
    """Tells that a run which meets nothing but duplicates is closed as one that scrapes nothing."""
    for name in COUNT_STORED_ONLY:
        if settings.getfloat(name):
            logger.warning(
                "%s = %s counts the items that are stored. A run that meets nothing but duplicates "
                "for so long is closed, though it works. Set it to 0, or use CLOSESPIDER_TIMEOUT "
                "or CLOSESPIDER_PAGECOUNT.",
                name,
                settings[name],
            )
