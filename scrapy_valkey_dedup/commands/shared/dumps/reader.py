"""Reads the file of a dump, and finds out whether it is one, and whole."""

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
    Head,
    new_digest,
    unpacked,
)
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.keys import LAYOUT
from scrapy_valkey_dedup.ledger.transfer import Step

_LONGEST_LINE = 64


class DumpReader:
    """Reads a file, as often as need be. A context manager, within which it stays the same file."""

    def __init__(self, path: str | Path) -> None:
        """Reads its head.

        Raises:
            CommandError: it is no dump, or one that this version cannot read.

        """
        self._path = path
        self._entries: Counter[str] | None = None
        self._at = 0
        self._digest = new_digest()
        if Path(path).exists() and not Path(path).is_file():
            raise CommandError(f"{path} is not a file: a dump is read twice, so it must be one")
        try:
            self._file: IO[bytes] = Path(path).open("rb")  # noqa: SIM115 (until __exit__)
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}") from error
        try:
            self.head = self._begin()
        except BaseException:
            self._file.close()
            raise

    def verify(self) -> Counter[str]:
        """Reads it to the end, once; returns how many entries it has, by kind.

        Raises:
            CommandError: it was cut off or altered.

        """
        if self._entries is None:
            found = Counter[str](dict.fromkeys(KINDS, 0))
            for kind, step in self.steps():
                found[kind] += step.size
            self._entries = found
        return self._entries

    def steps(self) -> Iterator[tuple[str, Step]]:
        """What stands in it, from its beginning, by kind. Each step was verified before.

        Raises:
            CommandError: it was cut off or altered.

        """
        self._begin()
        found = dict.fromkeys(KINDS, 0)
        while (frame := self._frame())[0] == BUCKETS:
            try:
                kind, step = unpacked(frame[1])
            except ValueError as error:
                raise self._broken(str(error)) from None
            found[kind] += step.size
            yield kind, step
        if frame[0] != END_OF_FILE or _json(frame[1]) != found:
            raise self._broken("no end")
        if self._read_at_most(1):
            raise self._broken("there is more after its end")

    def _begin(self) -> Head:
        """Goes behind the head."""
        self._file.seek(0)
        self._at, self._digest = 0, new_digest()
        self._check_line(self._file.readline(_LONGEST_LINE))
        kind, content = self._frame()
        try:
            head = Head(**_json(content))
        except TypeError:
            raise self._broken("no ledger") from None
        if kind != LEDGER or not isinstance(head.namespace, str | None):
            raise self._broken("no ledger")
        if head.layout != LAYOUT:
            raise CommandError(
                f"{self._path} has the layout {head.layout!r:.20} of the ledger; this version of "
                f"scrapy-valkey-dedup writes layout {LAYOUT}: install the version that wrote it"
            )
        return head

    def _check_line(self, line: bytes) -> None:
        if not line.startswith(NAME):
            raise CommandError(
                f"{self._path} is not a dump: it does not begin with {NAME.decode().strip()!r}. "
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
        """The next frame, whose digest is right."""
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
                f"{self._path} is cut off at byte {self._at + len(part):,}: copy it once more, or "
                "dump once more"
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
            f"{self._path} was damaged, or altered: {what} before byte {self._at:,}. Copy it once "
            "more, or dump once more"
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


def _json(content: bytes) -> Any:
    """An object; an empty one if it is none."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
