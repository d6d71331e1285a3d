"""Says when a post counts as stored, and what of a crawl's storages would lose posts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from scrapy_valkey_dedup.items.storages import (
    EXPORTED,
    NOWHERE,
    SCRAPED,
    Storages,
    name_of,
    seems_to_store,
)

logger = logging.getLogger(__name__)


def when_stored(storages: Storages, setting: str | None, *, is_fleet: bool = False) -> str:
    """When a post counts as stored: as the setting says, else as the storages need it.

    ``is_fleet``: whether other runs may start in the same moment.

    One line in the log says which it is and why, and one each what of the storages loses posts.
    """
    mode = setting or storages.when_stored
    if setting is None and mode != NOWHERE and (storages.feeds is not None or mode == SCRAPED):
        logger.info(_REASONS[mode])
    if setting == SCRAPED and storages.feeds:
        logger.log(
            logging.INFO if storages.before or storages.behind else logging.WARNING,
            "VALKEY_DEDUP_CONFIRM = 'scraped' does not wait for the feeds: a post that is still in "
            "a feed's buffer when the process is killed, or in a feed that cannot be stored, is "
            "remembered, and lost. Where feeds are the storage, remove the setting.",
        )
    if mode == EXPORTED and storages.feeds is None:
        logger.warning(
            "FEEDS is set, but Scrapy has not enabled its feed exporter, as its own message above "
            "says: no feed is stored, so no post is remembered. Correct FEEDS or, if a pipeline "
            "stores the posts, set VALKEY_DEDUP_CONFIRM = 'scraped'."
        )
    overwriting = [feed for feed in storages.feeds or () if feed.overwrites]
    for feed in overwriting:
        append = _APPEND if feed.may_append else ""
        logger.warning(_OVERWRITES, feed.uri, _FATES[mode == NOWHERE], append)
    for feed in storages.feeds or ():
        if feed.shares_seconds and is_fleet:
            logger.warning(_SHARES_SECONDS, feed.uri)
    _tell_of_pipelines(
        storages.before, storages.number, nowhere=mode == NOWHERE and not overwriting
    )
    return mode


_REASONS = {
    EXPORTED: "VALKEY_DEDUP_CONFIRM is not set and there are feeds, so it is 'exported': a post is "
    "remembered when every feed that takes it is stored.",
    SCRAPED: "VALKEY_DEDUP_CONFIRM is not set and there are no feeds, so it is 'scraped': a post "
    "is remembered when every pipeline has accepted it.",
}
_NOWHERE = (
    "Nothing that can be seen stores the posts of this crawl: there are no feeds, and no item "
    "pipeline behind the deduplication that does. So no post is remembered. %sIf an extension or a "
    "signal handler stores them, as on Scrapy Cloud, or files and images are all that you want, "
    "set VALKEY_DEDUP_CONFIRM = 'scraped'."
)
_STORED_BEFORE = (
    "Before the deduplication in ITEM_PIPELINES is what seems to store or to fetch: %s. %s every "
    "duplicate, too%s. Give %s a number above %s, which is the deduplication's."
)
_OVERWRITES = (
    "The feed %s overwrites in every run what an earlier run stored there. %s Put %%(batch_time)s "
    "into its URI, and each run has a file of its own%s."
)
_APPEND = "; or append to it (-o instead of -O, or 'overwrite': False)"
_SHARES_SECONDS = (
    "The feed %s has %%(time)s in its URI, which has whole seconds: workers of a job that start in "
    "the same second overwrite each other's file. Write %%(batch_time)s instead."
)
_FATES = {
    False: "Posts that were stored before are dropped, so they will be missing in it.",
    True: "Nothing else stores the posts, so none is remembered, and every run stores them all.",
}


def tell_of_failed_handler() -> None:
    """A handler of ``item_scraped`` has raised something, and the user has said ``scraped``."""
    logger.warning(
        "A handler of item_scraped has failed, as Scrapy's error says. With VALKEY_DEDUP_CONFIRM = "
        "'scraped' a handler may be what stores the posts: one whose handler fails is not "
        "remembered, and is stored again in the next run. Mend the handler; if it stores nothing, "
        "have it catch its errors. The stat dedup/items/released counts these posts."
    )


def _tell_of_pipelines(before: Sequence[Any], number: Any, *, nowhere: bool) -> None:
    """Those that stand before ours; and if ``nowhere``, that nothing stores the posts."""
    storing = [name_of(pipeline) for pipeline in before if seems_to_store(pipeline)]
    others = [name_of(pipeline) for pipeline in before if not seems_to_store(pipeline)]
    if storing:
        too = ", and as nothing behind the deduplication stores the posts, none is remembered"
        logger.warning(
            _STORED_BEFORE,
            ", ".join(storing),
            _handle(storing),
            too if nowhere else "",
            "it" if len(storing) == 1 else "them",
            number,
        )
    elif nowhere and others:
        cure = (
            "If %s stores them, give it a number above %s in ITEM_PIPELINES, which is the "
            "deduplication's. "
        )
        logger.warning(_NOWHERE, cure % (" or ".join(others), number))
    elif nowhere:
        logger.warning(_NOWHERE, "")
    if others:
        logger.info(
            "Before the deduplication in ITEM_PIPELINES: %s. %s every duplicate, too: right for "
            "what cleans posts, wrong for what stores them.",
            ", ".join(others),
            _handle(others),
        )


def _handle(pipelines: Sequence[str]) -> str:
    return "It handles" if len(pipelines) == 1 else "They handle"
