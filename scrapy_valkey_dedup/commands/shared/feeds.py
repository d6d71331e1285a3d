"""Feeds as Scrapy writes them: JSON Lines, JSON, CSV, XML; gzip, bz2, xz. In constant memory."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

from lxml import etree

from scrapy_valkey_dedup.commands.shared.usage import CommandError

_CHUNK = 1 << 19  # bytes
_LONGEST = 1 << 26  # bytes of one record
_BETWEEN = re.compile(r"[\s,\[\]]*")
"""What stands between the objects of a list."""
_LONGEST_WORD = 10  # characters: of "false", "\\ud83d", with room to spare
_LOOK = 8192  # bytes at which a file shows what it is
_MAGIC: Mapping[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_DAMAGED = (EOFError, OSError, lzma.LZMAError)


class Bad(NamedTuple):
    """Stands for a record that cannot be read."""

    reason: str


Record: TypeAlias = tuple[int, Any]
"""A line, or a number, and what was read there: a dict, or :class:`Bad`."""


def is_compressed(path: Path) -> bool:
    """Whether the file begins as a compressed one does."""
    with path.open("rb") as file:
        return _opener(file.read(_LOOK)) is not None


def _opener(start: bytes) -> Any:
    return next((opener for magic, opener in _MAGIC.items() if start.startswith(magic)), None)


@contextmanager
def opened(path: Path | None) -> Iterator[io.BufferedReader]:
    """The content of a file, or of standard input, after decompression.

    Raises:
        CommandError: it is damaged.

    """
    raw = path.open("rb") if path is not None else cast("io.BufferedReader", sys.stdin.buffer)
    name = str(path) if path is not None else "standard input"
    try:
        opener = _opener(raw.peek(_LOOK)[:_LOOK])
        if opener is None:
            yield raw
        else:
            with opener(raw) as file:
                yield io.BufferedReader(file, _CHUNK)
    except _DAMAGED as error:
        raise CommandError(f"{name} cannot be read: {error}") from error
    finally:
        if path is not None:
            raw.close()


def skip(file: BinaryIO, size: int) -> None:
    """Reads on, for so many bytes."""
    if size and file.seekable():
        file.seek(size)
        return
    while size > 0:
        size -= len(file.read(min(size, _CHUNK))) or size


def refuse_binary(name: str, file: io.BufferedReader) -> None:
    """A text has no zero bytes.

    Raises:
        CommandError: the file has.

    """
    if b"\0" in file.peek(_LOOK)[:_LOOK]:
        raise CommandError(f"{name} is a binary file; if its format is known, name it: --format")


def whole_lines(name: str, file: BinaryIO) -> Iterator[bytes]:
    """The content in chunks that end where a line ends."""
    rest = b""
    while chunk := file.read(_CHUNK):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield rest + chunk[:end]
            rest = chunk[end:]
        else:
            rest += chunk
            _check_length(name, len(rest))
    if rest:
        yield rest


def _check_length(name: str, size: int) -> None:
    if size > _LONGEST:
        raise CommandError(f"{name} has a record of more than {_LONGEST >> 20} MB: is it a feed?")


def json_lines(number: int, content: bytes) -> Iterator[Record]:
    """The records of some lines, the first of which has this number."""
    loads = json.loads
    for at, line in enumerate(content.split(b"\n"), number):
        if not line or line.isspace():
            continue
        try:
            yield at, loads(line.removeprefix(b"\xef\xbb\xbf") if at == 1 else line)
        except (ValueError, RecursionError) as error:
            yield at, Bad(_why(error))


def _why(error: Exception) -> str:
    """Without what stands there."""
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON ({error.msg}, column {error.colno})"
    return "it is not UTF-8" if isinstance(error, UnicodeError) else "it is no JSON"


class _JsonText:
    """A text of JSON values, of which only as much is held as the one at hand needs."""

    def __init__(self, name: str, text: io.TextIOWrapper) -> None:
        self._name, self._text = name, text
        self._held, self._at, self._ended = "", 0, False
        self.line = 1
        self._decode = json.JSONDecoder().raw_decode

    def _read(self) -> bool:
        """Reads on; returns whether there was anything left."""
        try:
            more = self._text.read(_CHUNK)
        except UnicodeError:
            said = f"{self._name} is not UTF-8, somewhere after line {self.line}"
            raise CommandError(said) from None
        self._held, self._at = self._held[self._at :] + more, 0
        _check_length(self._name, len(self._held))
        self._ended = not more
        return bool(more)

    def _move_to(self, at: int) -> None:
        self.line += self._held.count("\n", self._at, at)
        self._at = at

    def skip_between(self) -> str:
        """Goes to where a value begins; returns what stood before it, or "" at the end."""
        found = ""
        while True:
            match = _BETWEEN.match(self._held, self._at)
            assert match is not None  # noqa: S101 (it matches nothing, too)
            found += match[0].strip()
            self._move_to(match.end())
            if self._at < len(self._held) or not self._read():
                return found

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self._ended and self._at >= len(self._held)

    def value(self) -> Any:
        """The value that begins here; :class:`Bad` if it is none."""
        while True:
            try:
                value, end = self._decode(self._held, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                if self._may_go_on(error) and self._read():
                    continue
                return self._skip_bad()
            self._move_to(end)
            return value

    def _may_go_on(self, error: Exception) -> bool:
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated") or error.pos >= len(self._held) - _LONGEST_WORD

    def _skip_bad(self) -> Bad:
        """The next record begins on a line of its own, or there is none."""
        while (found := self._held.find("\n{", self._at)) < 0:
            self._move_to(max(len(self._held) - 1, self._at))
            if not self._read():
                self._move_to(len(self._held))
                return Bad("it is no JSON, or the file was cut off there")
        self._move_to(found)
        return Bad("it is no JSON")


def json_array(name: str, file: BinaryIO) -> Iterator[Record]:
    """A list of objects. Scrapy begins another list where it appends."""
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        values, between = _JsonText(name, text), ""
        while True:
            between = values.skip_between() or between
            if values.ended:
                break
            line, value, between = values.line, values.value(), ""
            yield line, value
            if values.ended and type(value) is Bad:
                return
        if not between.endswith("]"):
            yield values.line, Bad("the list does not end: the crawl that wrote it was cut off")
    finally:
        text.detach()


def csv_rows(name: str, file: BinaryIO) -> Iterator[Record]:
    """Rows under a line of names."""
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(_LONGEST)
    reader = csv.reader(text)
    try:
        names = next(reader, [])
        for row in reader:
            if not row or row == names:  # a crawl that appends may write the names again
                continue
            if len(row) != len(names):
                what = f"it has {len(row)} columns, the first line {len(names)}"
                yield reader.line_num, Bad(what)
            else:
                yield (
                    reader.line_num,
                    dict(zip(names, row, strict=True)) if _is_text(row) else Bad("it is not UTF-8"),
                )
    except csv.Error as error:
        raise CommandError(f"{name}, line {reader.line_num}: it is no CSV: {error}") from error
    finally:
        text.detach()


def _is_text(row: list[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeError:
        return False
    return True


def xml_items(name: str, file: BinaryIO) -> Iterator[Record]:
    """The children of the root."""
    events = etree.iterparse(file, events=("start", "end"), resolve_entities=False, no_network=True)
    depth, number = 0, 0
    try:
        for event, element in events:
            depth += 1 if event == "start" else -1
            if event == "end" and depth == 1:
                number += 1
                try:
                    yield number, {child.tag: _content(child) for child in _elements(element)}
                except ValueError as error:
                    yield number, Bad(str(error))
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        if not depth:
            raise CommandError(f"{name} is no XML: {error.msg}") from error
        yield number + 1, Bad(f"it is no XML, or the file was cut off there ({error.msg})")


def _elements(parent: Any) -> list[Any]:
    for child in parent:
        if child.tag is etree.Entity:
            raise ValueError("it has an entity, which is not read")
    return [child for child in parent if isinstance(child.tag, str)]


def _content(element: Any) -> Any:
    children = _elements(element)
    if not children:
        return element.text or ""
    if all(child.tag == "value" for child in children):
        return [_content(child) for child in children]
    return {child.tag: _content(child) for child in children}


READERS: Mapping[str, Callable[[str, BinaryIO], Iterator[Record]]] = {
    "json": json_array,
    "csv": csv_rows,
    "xml": xml_items,
}
"""All but JSON Lines, by format."""
