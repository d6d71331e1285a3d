"""What a crawl says when it starts: how it is set up, and which settings may surprise."""

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


def warn_of_special_runs(settings: DedupSettings) -> None:
    """Warns that a run stores known posts again, or that no other run will know of its posts."""
    if settings.reset:
        logger.warning(
            "VALKEY_DEDUP_RESET = True: what earlier runs have stored is fetched and stored once "
            "more, and remembered again. Remove it after this run."
        )
    name = settings.trial
    if name is None:
        return
    logger.warning(
        "VALKEY_DEDUP_TRIAL = %r: what this run stores is remembered for the trial only, and every "
        "other run will store it once more. To keep it: `scrapy dedup dump --trial %s FILE`, then "
        "`scrapy dedup load FILE --into %s`. `scrapy dedup forget --trial %s` ends the trial.",
        name,
        name,
        settings.tried_namespace,
        name,
    )


def warn_of_closing(settings: BaseSettings) -> None:
    """Warns that a run which meets only duplicates is closed as one that scrapes nothing."""
    for name in COUNT_STORED_ONLY:
        if settings.getfloat(name):
            logger.warning(
                "%s = %s counts the items that are stored. A run that meets only duplicates for "
                "so long is closed, though it works. Set it to 0, or use CLOSESPIDER_TIMEOUT "
                "or CLOSESPIDER_PAGECOUNT.",
                name,
                settings[name],
            )
