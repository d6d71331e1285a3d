"""Writes the file of a dump: it appears under its name only when it is complete."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from scrapy_valkey_dedup.commands.shared.dumps.format import (
    BUCKETS,
    END_OF_FILE,
    FIRST_LINE,
    FRAME,
    KINDS,
    LEDGER,
    NAME,
    Header,
    new_digest,
    pack,
)
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.transfer import BUCKETS_AT_ONCE, Bucket, BucketBatch

_MOST_MEMBERS = 4096
"""Members of a bucket in one frame. Only buckets of the last level can have more."""


class DumpWriter:
    """Writes a temporary file, and renames it at the end. A context manager."""

    def __init__(self, path: str | Path, header: Header) -> None:
        """Creates the temporary file. At the end an earlier dump is replaced, but no other file.

        Raises:
            CommandError: the file cannot be written, or another file has its name.

        """
        self.path = Path(os.path.realpath(path))
        self.size = 0
        """Bytes written so far."""
        self.entries = Counter[str](dict.fromkeys(KINDS, 0))
        self._digest = new_digest()
        with self._os_errors_reported():
            self._refuse_to_replace()
            # Mode 0600: anyone who can read it can find out whether a post is stored.
            hidden = (".part", f".{self.path.name}.", self.path.parent)
            number, temporary = tempfile.mkstemp(*hidden)
        self._temporary = Path(temporary)
        self._file = os.fdopen(number, "wb")
        self._write(FIRST_LINE)
        self._frame(LEDGER, json.dumps(vars(header)).encode())

    def _refuse_to_replace(self) -> None:
        if self.path.exists() and not self.path.is_file():  # opening a pipe would block
            raise CommandError(f"{self.path} exists and is not a file: name a file")
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            if file.read(len(NAME)) != NAME:
                raise CommandError(f"{self.path} exists and is not a dump: name another file")

    def add(self, kind: str, batch: BucketBatch) -> None:
        """Writes buckets of ``posts``, ``pages`` or ``timelines``."""
        pieces = [
            Bucket(bucket.path, bucket.members[start : start + _MOST_MEMBERS])
            for bucket in batch.buckets
            for start in range(0, len(bucket.members), _MOST_MEMBERS)
        ]
        for start in range(0, len(pieces), BUCKETS_AT_ONCE):
            some = pieces[start : start + BUCKETS_AT_ONCE]
            self._frame(BUCKETS, pack(kind, batch._replace(buckets=some)))
        self.entries[kind] += batch.size

    def finish(self) -> None:
        """Completes the file, and gives it its name.

        Raises:
            CommandError: the file cannot be written.

        """
        self._frame(END_OF_FILE, json.dumps(self.entries).encode())
        with self._os_errors_reported():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self.path)
            with suppress(OSError):  # on Windows, and on some file systems
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)

    def _frame(self, kind: bytes, content: bytes) -> None:
        self._write(FRAME.pack(kind, len(content)))
        self._write(content)
        self._write(self._digest.digest())

    def _write(self, part: bytes) -> None:
        with self._os_errors_reported():
            self._file.write(part)
        self._digest.update(part)
        self.size += len(part)

    @contextmanager
    def _os_errors_reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CommandError(f"{self.path} cannot be written: {error.strerror}") from error

    def __enter__(self) -> DumpWriter:  # noqa: PYI034 (Self needs Python 3.11)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Deletes the temporary file if it was not finished."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink()
