"""Writes the file of a dump: complete under its name, or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from scrapy_valkey_dedup.commands.shared.dump_format import (
    BUCKETS,
    END_OF_FILE,
    FIRST_LINE,
    FRAME,
    KINDS,
    LEDGER,
    NAME,
    Head,
    new_digest,
    packed,
)
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.transfer import BUCKETS_AT_ONCE, Bucket, Step

_MOST_MEMBERS = 4096
"""Of a bucket in one piece. Only the last level, which no real ledger reaches, has larger ones."""


class DumpWriter:
    """Writes beside the file, and takes its place at the end. A context manager."""

    def __init__(self, path: str | Path, head: Head) -> None:
        """An earlier dump is replaced in the end; any other file is left alone.

        Raises:
            CommandError: the file cannot be written.

        """
        self.path = Path(os.path.realpath(path))
        self.size = 0
        """Bytes so far."""
        self.entries = Counter[str](dict.fromkeys(KINDS, 0))
        self._digest = new_digest()
        with self._told():
            self._refuse_to_replace()
            # Mode 0600: whoever may read it can tell whether a post is stored.
            hidden = (".part", f".{self.path.name}.", self.path.parent)
            number, temporary = tempfile.mkstemp(*hidden)
        self._temporary = Path(temporary)
        self._file = os.fdopen(number, "wb")
        self._write(FIRST_LINE)
        self._frame(LEDGER, json.dumps(vars(head)).encode())

    def _refuse_to_replace(self) -> None:
        if self.path.exists() and not self.path.is_file():  # a pipe would be waited for
            raise CommandError(f"{self.path} is there already and not a file: name a file")
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            if file.read(len(NAME)) != NAME:
                raise CommandError(f"{self.path} is there already and no dump: name another file")

    def add(self, kind: str, step: Step) -> None:
        """Writes some buckets of the ``posts``, ``pages`` or ``timelines``."""
        pieces = [
            Bucket(bucket.path, bucket.members[start : start + _MOST_MEMBERS])
            for bucket in step.buckets
            for start in range(0, len(bucket.members), _MOST_MEMBERS)
        ]
        for start in range(0, len(pieces), BUCKETS_AT_ONCE):
            some = pieces[start : start + BUCKETS_AT_ONCE]
            self._frame(BUCKETS, packed(kind, step._replace(buckets=some)))
        self.entries[kind] += step.size

    def finish(self) -> None:
        """Puts the complete file in its place.

        Raises:
            CommandError: it cannot be written.

        """
        self._frame(END_OF_FILE, json.dumps(self.entries).encode())
        with self._told():
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
        with self._told():
            self._file.write(part)
        self._digest.update(part)
        self.size += len(part)

    @contextmanager
    def _told(self) -> Iterator[None]:
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
        """Leaves nothing of a file that was not finished."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink()
