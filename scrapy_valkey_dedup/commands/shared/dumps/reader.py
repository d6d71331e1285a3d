"""Reads the file of a dump, and checks that it is complete and undamaged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from scrapy_valkey_dedup.commands.shared.dumps.format import (
    BUCKETS,
    DIGEST_BYTES,
    END_OF_FILE,
    FIRST_LINE,
    FRAME,
    KINDS,
    LEDGER,
    LONGEST,
    NAME,
    VERSION,
    Header,
    new_digest,
    unpack,
)
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.keys import LAYOUT
from scrapy_valkey_dedup.ledger.transfer import BucketBatch

_LONGEST_LINE = 64


class DumpReader:
    """Reads a dump, as often as needed. A context manager that keeps the file open."""

    def __init__(self, path: str | Path) -> None:
        """Opens the file and reads its header.

        Raises:
            CommandError: the file is not a dump, or this version cannot read it.

        """
        self._path = path
        self._entries: Counter[str] | None = None
        self._at = 0
        self._digest = new_digest()
        if Path(path).exists() and not Path(path).is_file():
            raise CommandError(f"{path} is not a file: a dump is read twice, so a pipe does not do")
        try:
            self._file: IO[bytes] = Path(path).open("rb")  # noqa: SIM115 (until __exit__)
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}") from error
        try:
            self.header = self._begin()
        except BaseException:
            self._file.close()
            raise

    def verify(self) -> Counter[str]:
        """Checks the whole file once; returns the number of entries by kind.

        Raises:
            CommandError: the file is incomplete or damaged.

        """
        if self._entries is None:
            found = Counter[str](dict.fromkeys(KINDS, 0))
            for kind, batch in self.batches():
                found[kind] += batch.size
            self._entries = found
        return self._entries

    def batches(self) -> Iterator[tuple[str, BucketBatch]]:
        """The buckets of the file with their kind, in batches that are checked.

        Raises:
            CommandError: the file is incomplete or damaged.

        """
        self._begin()
        found = dict.fromkeys(KINDS, 0)
        while (frame := self._frame())[0] == BUCKETS:
            try:
                kind, batch = unpack(frame[1])
            except ValueError as error:
                raise self._broken(str(error)) from None
            found[kind] += batch.size
            yield kind, batch
        if frame[0] != END_OF_FILE or _json_object(frame[1]) != found:
            raise self._broken("no end")
        if self._read_at_most(1):
            raise self._broken("there is more after its end")

    def _begin(self) -> Header:
        """Reads the header, and moves to the frame after it."""
        self._file.seek(0)
        self._at, self._digest = 0, new_digest()
        self._check_line(self._file.readline(_LONGEST_LINE))
        kind, content = self._frame()
        try:
            header = Header(**_json_object(content))
        except TypeError:
            raise self._broken("no ledger") from None
        if kind != LEDGER or not isinstance(header.namespace, str | None):
            raise self._broken("no ledger")
        if header.layout != LAYOUT:
            raise CommandError(
                f"{self._path} has the layout {header.layout!r:.20} of the ledger; this version of "
                f"scrapy-valkey-dedup writes layout {LAYOUT}: install the version that wrote it"
            )
        return header

    def _check_line(self, line: bytes) -> None:
        if not line.startswith(NAME):
            raise CommandError(
                f"{self._path} is not a dump: it does not start with {NAME.decode().strip()!r}. "
                "`scrapy dedup import` reads posts"
            )
        if line != FIRST_LINE:
            version = line[len(NAME) :].decode("ascii", "replace").strip()
            raise CommandError(
                f"{self._path} is a dump of version {version!r:.20}; this version of "
                f"scrapy-valkey-dedup reads version {VERSION.decode()}: install the one that "
                "wrote it"
            )
        self._digest.update(line)
        self._at += len(line)

    def _frame(self) -> tuple[bytes, bytes]:
        """Reads the next frame and checks its digest; returns its kind and content."""
        kind, size = FRAME.unpack(self._read(FRAME.size))
        content = self._read(size) if size <= LONGEST else b""
        wanted = self._digest.digest()
        if size > LONGEST or self._read(DIGEST_BYTES) != wanted:
            raise self._broken("a wrong checksum")
        return kind, content

    def _read(self, size: int) -> bytes:
        part = self._read_at_most(size)
        if len(part) < size:
            raise CommandError(
                f"{self._path} is cut off at byte {self._at + len(part):,}: copy it again, or "
                "dump again"
            )
        self._digest.update(part)
        self._at += len(part)
        return part

    def _read_at_most(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise CommandError(f"{self._path} cannot be read: {error.strerror}") from error

    def _broken(self, what: str) -> CommandError:
        return CommandError(
            f"{self._path} is damaged: {what} before byte {self._at:,}. "
            "Copy it again, or dump again"
        )

    def __enter__(self) -> DumpReader:  # noqa: PYI034 (Self needs Python 3.11)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _json_object(content: bytes) -> Any:
    """Parses a JSON object; returns an empty dict if the content is not one."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
