"""Local files of lines, written so that a kill leaves whole records only, and synced to disk."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from pathlib import Path
from typing import Any

from scrapy.exporters import CsvItemExporter, JsonLinesItemExporter

LINE_EXPORTERS = (JsonLinesItemExporter, CsvItemExporter)
BUFFER = 1 << 20  # bytes: the longest record that a kill cannot leave half written
_FULL = 1 << 16  # bytes, after which the buffer is emptied at the end of a record
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EROFS)  # a pipe or a terminal, not a file


class RecordWriter(io.BufferedWriter):
    """A buffered file that is written to between two records only, so a kill splits none.

    Call :meth:`record_ends` after each record.
    """

    _unwritten = 0

    def write(self, data: Any) -> int:
        """As the buffered writer does."""
        self._unwritten += len(data)
        return super().write(data)

    def record_ends(self) -> None:
        """Empties a buffer that would not hold many more records."""
        if self._unwritten >= _FULL:
            with contextlib.suppress(OSError):  # what is left is tried again, by a sync that tells
                self.flush()

    def flush(self) -> None:
        """As the buffered writer does."""
        self._unwritten = 0
        super().flush()


def sync(file: Any) -> None:
    """Flushes a file and has the disk take it. For a thread."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def ends_lines_with_a_byte(encoding: str | None) -> bool:
    """Whether a line ends as in ASCII; in UTF-16 it does not."""
    try:
        return "\n".encode(encoding or "utf-8") == b"\n"
    except LookupError:
        return False


def end_of_broken_line(path: str, *, is_csv: bool) -> bytes:
    """What ends a record that was cut off at the end of a file; nothing if none was.

    In CSV a line may end within quotes: then all that comes after them would be part of them.
    """
    last, quotes = b"\n", 0
    if not Path(path).is_file():  # a pipe would be waited for
        return b""
    try:
        with Path(path).open("rb") as file:
            if is_csv:
                while part := file.read(BUFFER):
                    last, quotes = part[-1:], quotes + part.count(b'"')
            elif file.seek(0, io.SEEK_END):
                file.seek(-1, io.SEEK_END)
                last = file.read(1)
    except OSError:  # not a file that can be read
        return b""
    if quotes % 2:
        return b'"\n'
    return b"" if last == b"\n" else b"\n"
