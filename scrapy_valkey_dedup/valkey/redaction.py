"""What messages say of objects and errors of code that is not ours, without what may be secret."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from scrapy_valkey_dedup.valkey.urls import NOT_SHOWN

_LONG_ENOUGH = 4  # characters: what is shorter keeps no secret, and stands in any text


def name_of(found: Any) -> str:
    """The name of a class or a function, or that of an object's class."""
    kind = found if isinstance(found, type) or inspect.isroutine(found) else type(found)
    return getattr(kind, "__name__", "it")


def values_of(found: Any) -> Iterable[Any]:
    """The values of an object's attributes, which may be secret."""
    return getattr(found, "__dict__", {}).values()


def error_text(error: Exception, secrets: Iterable[Any]) -> str:
    """Type and message of an error, without the secrets."""
    words = without_secrets(str(error), secrets).rstrip(".")
    return f"{type(error).__name__}: {words:.300}" if words else type(error).__name__


def without_secrets(words: str, secrets: Iterable[Any]) -> str:
    """A text in which no secret is shown."""
    texts = {secret for secret in secrets if isinstance(secret, str)}
    for text in sorted(texts, key=len, reverse=True):
        if len(text) >= _LONG_ENOUGH:
            words = words.replace(text, NOT_SHOWN)
    return words
