"""How far an import came: noted on disk, so that the next one goes on from there."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from scrapy_valkey_dedup.commands.shared.identification import SkippedRecords

_SECONDS = 2.0  # between two notes


@dataclass
class ImportProgress:
    """All records before a position are imported, or were found wrong."""

    position: int = 0
    number: int = 1
    """The line, or number, of the record there."""
    records: int = 0
    remembered: int = 0
    bad: SkippedRecords = field(default_factory=SkippedRecords)
    unkeyed: SkippedRecords = field(default_factory=SkippedRecords)


class ProgressFile:
    """The note on one import. ``parts`` are all that it depends on: another file, another note."""

    def __init__(self, folder: Path, *parts: object) -> None:
        name = blake2b(json.dumps(parts, default=str).encode(), digest_size=12).hexdigest()
        self.path = folder / f"{name}.json"
        self._noted = -inf

    def read(self) -> ImportProgress | None:
        """The last note; None if there is none that can be read."""
        try:
            found: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
            for name in ("bad", "unkeyed"):
                listed = found[name]
                counts = Counter[str](listed["counts"])
                found[name] = SkippedRecords(counts, listed["first"], listed["lines"])
            return ImportProgress(**found)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def save_if_due(self, progress: ImportProgress) -> None:
        """Notes it, now and then."""
        if monotonic() - self._noted >= _SECONDS:
            self.save(progress)

    def save(self, progress: ImportProgress) -> None:
        """Notes it: a process that is killed leaves this note, or the one before it."""
        self._noted = monotonic()
        new = self.path.with_suffix(f".{os.getpid()}")
        noted = {**vars(progress), "bad": vars(progress.bad), "unkeyed": vars(progress.unkeyed)}
        with suppress(OSError):  # without a note the next import begins anew, which is as right
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_text(json.dumps(noted), "utf-8")
            new.replace(self.path)

    def remove(self) -> None:
        """The import has come to its end."""
        self.path.unlink(missing_ok=True)
