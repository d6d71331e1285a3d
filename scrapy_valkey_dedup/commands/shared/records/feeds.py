"""Reads Scrapy's feeds in constant memory: JSON Lines, JSON, CSV, XML; gzip, bz2, xz."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from lxml import etree

from scrapy_valkey_dedup.commands.shared.records.json_list import json_array
from scrapy_valkey_dedup.commands.shared.records.record import (
    CHUNK,
    LONGEST,
    Record,
    UnreadableRecord,
    check_length,
)
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.stats import quantity

_LOOK = 8192  # bytes from which the compression is detected
_MAGIC: Mapping[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_DAMAGED = (EOFError, OSError, lzma.LZMAError)


def is_compressed(path: Path) -> bool:
    """Whether a file starts with the signature of a compressed one."""
    with path.open("rb") as file:
        return _opener(file.read(_LOOK)) is not None


def _opener(start: bytes) -> Any:
    return next((opener for magic, opener in _MAGIC.items() if start.startswith(magic)), None)


@contextmanager
def open_feed(path: Path | None) -> Iterator[io.BufferedReader]:
    """Opens a file, or standard input if ``path`` is None, and decompresses it.

    Raises:
        CommandError: the file is damaged.

    """
    raw = path.open("rb") if path is not None else cast("io.BufferedReader", sys.stdin.buffer)
    name = str(path) if path is not None else "standard input"
    try:
        opener = _opener(raw.peek(_LOOK)[:_LOOK])
        if opener is None:
            yield raw
        else:
            with opener(raw) as file:
                yield io.BufferedReader(file, CHUNK)
    except _DAMAGED as error:
        raise CommandError(f"{name} cannot be read: {error}") from error
    finally:
        if path is not None:
            raw.close()


def skip(file: BinaryIO, size: int) -> None:
    """Skips a number of bytes."""
    if size and file.seekable():
        file.seek(size)
        return
    while size > 0:
        size -= len(file.read(min(size, CHUNK))) or size


def refuse_binary(name: str, file: io.BufferedReader) -> None:
    """Refuses a file that is not text.

    Raises:
        CommandError: the file has zero bytes.

    """
    if b"\0" in file.peek(_LOOK)[:_LOOK]:
        raise CommandError(f"{name} is a binary file; if its format is known, name it: --format")


def whole_lines(name: str, file: BinaryIO) -> Iterator[bytes]:
    """The content in chunks that end at the end of a line."""
    rest = b""
    while chunk := file.read(CHUNK):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield rest + chunk[:end]
            rest = chunk[end:]
        else:
            rest += chunk
            check_length(name, len(rest))
    if rest:
        yield rest


def json_lines(number: int, content: bytes) -> Iterator[Record]:
    """The records of lines of JSON; ``number`` is that of the first line."""
    loads = json.loads
    for at, line in enumerate(content.split(b"\n"), number):
        if not line or line.isspace():
            continue
        try:
            yield at, loads(line.removeprefix(b"\xef\xbb\xbf") if at == 1 else line)
        except (ValueError, RecursionError) as error:
            yield at, UnreadableRecord(_why(error))


def _why(error: Exception) -> str:
    """Why a line is not JSON, without the line's content."""
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON ({error.msg})"
    return "it is not UTF-8" if isinstance(error, UnicodeError) else "not valid JSON"


def csv_rows(name: str, file: BinaryIO) -> Iterator[Record]:
    """The rows of a CSV feed as dicts; the first line has the names."""
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(LONGEST)
    reader = csv.reader(text)
    try:
        names = next(reader, [])
        for row in reader:
            if not row or row == names:  # a crawl that appends may write the names again
                continue
            if len(row) != len(names):
                what = f"it has {quantity(len(row), 'column')}, the first line has {len(names)}"
                yield reader.line_num, UnreadableRecord(what)
            else:
                yield (
                    reader.line_num,
                    dict(zip(names, row, strict=True))
                    if _is_text(row)
                    else UnreadableRecord("it is not UTF-8"),
                )
    except csv.Error as error:
        raise CommandError(f"{name}, line {reader.line_num}: not valid CSV: {error}") from error
    finally:
        text.detach()


def _is_text(row: list[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeError:
        return False
    return True


def xml_items(name: str, file: BinaryIO) -> Iterator[Record]:
    """The items of an XML feed: the children of its root."""
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
                    yield number, UnreadableRecord(str(error))
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        if not depth:
            raise CommandError(f"{name} is not valid XML: {error.msg}") from error
        yield (
            number + 1,
            UnreadableRecord(f"not valid XML, or the file was cut off there ({error.msg})"),
        )


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
"""Readers by format, except JSON Lines."""
