"""Mistyped names of settings: which of ours is meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from functools import lru_cache

PREFIX = "VALKEY_DEDUP_"

_NEAR = 0.65  # of difflib's 1 for the same name: "URI" is near "URL", "PASSWORD" near nothing
_NEAR_PREFIX = 0.8  # "VAKLEYDEDUP" and "VALKEYDEDUPE" are near, "VALKEY" and "REDISDEDUP" are not
_LETTERS_OF_PREFIX = "VALKEYDEDUP"
_PREFIX_WITH_MORE = re.compile(r"VALKEY_*DEDUP[A-Z]*?_+(.+)")


def nearest_setting(name: str, known: Collection[str]) -> str | None:
    """The setting that is meant by a name with our prefix; None if none is near."""
    return _nearest(name.removeprefix(PREFIX).upper(), known)


def mistyped_prefix(name: str, known: Collection[str]) -> str | None:
    """The setting that is meant by a name with nearly our prefix; None if it is none of ours.

    A name with a word before our whole prefix is no mistake: settings.py may choose between
    ``PROD_VALKEY_DEDUP_URL`` and ``DEV_VALKEY_DEDUP_URL``.
    """
    if name.upper().find(PREFIX) > 0:
        return None
    if (found := _PREFIX_WITH_MORE.fullmatch(name.upper())) is not None:
        return _nearest(found[1], known)
    letters = _letters(name)
    for setting, ending in _endings(tuple(known)):
        if letters.endswith(ending) and _is_near_prefix(letters.removesuffix(ending)):
            return setting
    return None


def _nearest(ending: str, known: Collection[str]) -> str | None:
    endings = [setting.removeprefix(PREFIX) for setting in known]
    close = difflib.get_close_matches(ending, endings, 1, _NEAR)
    return PREFIX + close[0] if close else None


@lru_cache
def _endings(known: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each setting and the letters of its own part of the name.

    Once for all the names of a project: there are some two hundred.
    """
    longest_first = sorted(known, key=len, reverse=True)  # REQUEST_RETENTION before RETENTION
    return [(setting, _letters(setting.removeprefix(PREFIX))) for setting in longest_first]


def _is_near_prefix(letters: str) -> bool:
    matcher = difflib.SequenceMatcher(None, letters, _LETTERS_OF_PREFIX)
    # By their lengths alone most of Scrapy's own names are far.
    return matcher.real_quick_ratio() >= _NEAR_PREFIX and matcher.ratio() >= _NEAR_PREFIX


def _letters(name: str) -> str:
    return re.sub("[^A-Z]", "", name.upper())
