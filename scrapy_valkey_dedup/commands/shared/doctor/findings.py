"""The findings of `scrapy dedup doctor`: what is wrong, the cure, and the page about it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FINE, ADVICE, WRONG, UNKNOWN = "fine", "advice", "wrong", "unknown"
"""Levels of a finding: no fault; perhaps intended; a fault; not known, as permission is missing."""

_PACKAGE = "scrapy_valkey_dedup"


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    """The subject, such as "TLS" or "identity"."""
    level: str
    said: str
    """What was found."""
    cure: str = ""
    docs: str = ""
    """The page about it, with an anchor."""
    spider: str | None = None
    """The spider that it concerns; None: all spiders, or none in particular."""


@contextmanager
def captured_warnings() -> Iterator[list[str]]:
    """Collects the warnings that the package logs meanwhile, as a crawl would log them."""
    messages: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, recorder = logging.getLogger(_PACKAGE), Recorder(logging.WARNING)
    before = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(recorder)
    try:
        yield messages
    finally:
        logger.removeHandler(recorder)
        logger.setLevel(before[0])
        logger.propagate = before[1]
