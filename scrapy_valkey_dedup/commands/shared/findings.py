"""What a doctor has to say: what is wrong, what follows, the cure, and where it is written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FINE, ADVICE, WRONG, UNKNOWN = "fine", "advice", "wrong", "unknown"
"""It is as it should be; it may be so on purpose; it is not; nobody may ask."""

_PACKAGE = "scrapy_valkey_dedup"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    level: str
    said: str
    cure: str = ""
    docs: str = ""
    spider: str | None = None


@contextmanager
def captured_warnings() -> Iterator[list[str]]:
    """What the package's own code warns of meanwhile, as a crawl would log it."""
    messages: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, ear = logging.getLogger(_PACKAGE), Ear(logging.WARNING)
    before = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(ear)
    try:
        yield messages
    finally:
        logger.removeHandler(ear)
        logger.setLevel(before[0])
        logger.propagate = before[1]
