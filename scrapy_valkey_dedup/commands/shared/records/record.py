"""The type of a record that is read from a source, and its limits."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from scrapy_valkey_dedup.commands.shared.usage import CommandError

CHUNK = 1 << 19  # bytes, or characters, per read
LONGEST = 1 << 26  # bytes in one record, at most


class UnreadableRecord(NamedTuple):
    """Takes the place of a record that cannot be read, and says why."""

    reason: str


Record: TypeAlias = tuple[int, Any]
"""The line or number of a record, and its content or an :class:`UnreadableRecord`."""


def check_length(name: str, size: int) -> None:
    """Limits the memory that one record takes.

    Raises:
        CommandError: the record is longer than ``LONGEST`` bytes.

    """
    if size > LONGEST:
        raise CommandError(f"{name} has a record of more than {LONGEST >> 20} MB: is it a feed?")
