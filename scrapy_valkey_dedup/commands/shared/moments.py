"""Reads and formats moments; they are in UTC unless the text names another time zone."""

from __future__ import annotations

from datetime import datetime, timezone
from math import inf

from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.parsing import seconds


def moment(at: float) -> str:
    """Formats a moment in seconds since 1970; ``inf`` is "forever"."""
    if at == inf:
        return "forever"
    return f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M} UTC"


def read_moment(written: str, now: float) -> float:
    """Parses a date, a date and time, or how long ago it was, into seconds since 1970.

    Raises:
        CommandError: the text is none of these, or the moment is in the future.

    """
    try:
        found = now - seconds(written)
    except ValueError:
        found = _date(written.strip())
    if found > now:
        raise CommandError(f"--since {written}: that is in the future ({moment(found)})")
    return found


def _date(written: str) -> float:
    # Before Python 3.11 fromisoformat does not take a final Z.
    text = f"{written[:-1]}+00:00" if written.endswith(("Z", "z")) else written
    try:
        found = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise CommandError(
            f"--since {written}: write a date ('2026-11-20', '2026-11-20 14:00', which is UTC, "
            "'2026-11-20 14:00+01:00') or how long ago it was ('36h', '3d')"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=timezone.utc)
    return found.timestamp()
