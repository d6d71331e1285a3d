"""Saves the progress of an import on disk, so that an interrupted import can be resumed."""

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

from scrapy_valkey_dedup.commands.shared.records.identification import SkippedRecords

_INTERVAL = 2.0  # seconds between two writes


@dataclass
class ImportProgress:
    """How far an import has come, and what it has counted so far."""

    position: int = 0
    """All records before this position are done; see :meth:`Source.blocks`."""
    number: int = 1
    """The line, or number, of the record at that position."""
    records: int = 0
    """Records that were read."""
    remembered: int = 0
    """Records whose keys are in the ledger."""
    bad: SkippedRecords = field(default_factory=SkippedRecords)
    unkeyed: SkippedRecords = field(default_factory=SkippedRecords)


class ProgressFile:
    """The saved progress of one import. ``parts`` identify the import, and name the file."""

    def __init__(self, folder: Path, *parts: object) -> None:
        name = blake2b(json.dumps(parts, default=str).encode(), digest_size=12).hexdigest()
        self.path = folder / f"{name}.json"
        self._saved_at = -inf

    def read(self) -> ImportProgress | None:
        """The saved progress; None if there is none, or it cannot be read."""
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
        """Saves the progress if the last time is long enough ago."""
        if monotonic() - self._saved_at >= _INTERVAL:
            self.save(progress)

    def save(self, progress: ImportProgress) -> None:
        """Saves the progress atomically: if the process is killed, the previous file is intact."""
        self._saved_at = monotonic()
        new = self.path.with_suffix(f".{os.getpid()}")
        saved = {**vars(progress), "bad": vars(progress.bad), "unkeyed": vars(progress.unkeyed)}
        with suppress(OSError):  # the next import starts from the beginning, which is correct, too
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_text(json.dumps(saved), "utf-8")
            new.replace(self.path)

    def remove(self) -> None:
        """Deletes the file, after the import is complete."""
        self.path.unlink(missing_ok=True)
