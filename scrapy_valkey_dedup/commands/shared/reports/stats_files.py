"""Reads Scrapy's stats of runs from files of JSON: for those who have no history in the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.history import COUNTERS, name_in_record
from scrapy_valkey_dedup.session.run_history import counters_of
from scrapy_valkey_dedup.stats import Stats

FORM = (
    "a JSON object with Scrapy's stats of a run, a list of them, or one on each line (JSON Lines); "
    'the spider is in "spider" beside the stats, or the name of the file; "start_time" and '
    '"finish_time" are in ISO 8601, UTC unless they say otherwise'
)


@dataclass(frozen=True)
class RunStats:
    """The stats of one run."""

    spider: str
    end: float
    """When it ended, in seconds since 1970."""
    counted: Mapping[str, int]
    """By the names of ``COUNTERS``."""


class _Collector(dict[str, Any]):
    """Stats as Scrapy's collector gives them."""

    def inc_value(self, key: str, count: int = 1) -> None:
        self[key] = self.get_value(key, 0) + count

    def set_value(self, key: str, value: Any) -> None:
        self[key] = value

    def get_value(self, key: str, default: Any = None) -> Any:
        found = self.get(key, default)
        return found if isinstance(found, (int, float)) else default


def read_stats(paths: Sequence[str]) -> list[RunStats]:
    """The runs of all files.

    Raises:
        CommandError: a file cannot be read, or has something else.

    """
    return [run for path in paths for run in _runs_of(Path(path))]


def _runs_of(path: Path) -> Iterator[RunStats]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--stats {path}: {error}") from None
    for number, found in enumerate(_objects(text, path), 1):
        try:
            yield _run(found, path.name.partition(".")[0])
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
            raise CommandError(f"--stats {path}: run {number}: {why}; write {FORM}") from None


def _objects(text: str, path: Path) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise CommandError(f"--stats {path}: {error}; write {FORM}") from None
    return found if isinstance(found, list) else [found]


def _run(found: Any, name: str) -> RunStats:
    """One run: its stats, which may stand in ``stats`` beside the spider's name."""
    stats = found["stats"] if isinstance(found.get("stats"), dict) else found
    start = _moment(stats["start_time"])
    end = _moment(stats.get("finish_time") or stats["start_time"])
    numbers = counters_of(Stats(_Collector(stats)), max(end - start, 0))
    spider = name_in_record(str(found.get("spider") or stats.get("spider") or name))
    counted = dict(zip(COUNTERS, numbers, strict=True))
    return RunStats(spider, end, {name: number for name, number in counted.items() if number})


def _moment(written: Any) -> float:
    text = str(written)
    # Before Python 3.11 fromisoformat does not take a final Z.
    found = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
