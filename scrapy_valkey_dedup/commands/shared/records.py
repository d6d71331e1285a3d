"""What is read where posts are stored: one record after the other."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from scrapy_valkey_dedup.commands.shared.usage import CommandError

CHUNK = 1 << 19  # bytes, or characters, that are read at a time
LONGEST = 1 << 26  # bytes of one record


class UnreadableRecord(NamedTuple):
    """Stands for a record that cannot be read."""

    reason: str


Record: TypeAlias = tuple[int, Any]
"""A line, or a number, and what was read there: a dict, or :class:`Bad`."""


def check_length(name: str, size: int) -> None:
    """Refuses what cannot be a record.

    Raises:
        CommandError: it is too long.

    """
    if size > LONGEST:
        raise CommandError(f"{name} has a record of more than {LONGEST >> 20} MB: is it a feed?")
