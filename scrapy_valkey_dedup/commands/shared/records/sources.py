"""The sources of posts: files of several formats, databases, the command line."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from scrapy_valkey_dedup.commands.shared.records import feeds, tables
from scrapy_valkey_dedup.commands.shared.records.record import Record
from scrapy_valkey_dedup.commands.shared.usage import CommandError

FORMATS = {
    "jsonlines": (".jl", ".jsonl", ".jsonlines", ".ndjson"),
    "json": (".json",),
    "csv": (".csv",),
    "xml": (".xml",),
    "sqlite": (".db", ".sqlite", ".sqlite3"),
    "parquet": (".parquet",),
}
"""Formats, and the suffixes of their files."""
_COMPRESSED = (".gz", ".bz2", ".xz")
_RECORDS = 2000
"""Records in a block."""


class Block(NamedTuple):
    """Some consecutive records of a source."""

    number: int
    """The line or number of the first record."""
    end: int
    """The position of the next block; see :meth:`Source.blocks`."""
    size: int
    """The size of the block in the source's ``unit``."""
    content: bytes | list[Record]
    """Lines of JSON that are not parsed yet, or records."""


class Source(Protocol):
    """A source of records, which are read in blocks."""

    name: str
    """A name for messages, without secrets."""
    total: int | None
    """The size of the whole source in ``unit``; None if it is not known."""
    unit: str
    """What the sizes of blocks count: "bytes", "records" or "pages"."""
    can_resume: bool
    """Whether reading from a position always gives the same records."""

    def blocks(self, start: int = 0, number: int = 1) -> Generator[Block, None, None]:
        """The blocks from position ``start`` on; ``number`` is that of the first record there."""


@dataclass
class JsonLinesSource:
    """JSON Lines, in blocks of lines that are parsed later."""

    name: str
    path: Path | None
    unit: str = "bytes"

    def __post_init__(self) -> None:
        self.total = None
        # A pipe, such as <(zstdcat posts.jl.zst), can be read only once.
        self.can_resume = self.path is not None and self.path.is_file()
        if self.path is not None and self.can_resume and not feeds.is_compressed(self.path):
            self.total = self.path.stat().st_size

    def blocks(self, start: int = 0, number: int = 1) -> Generator[Block, None, None]:
        """The blocks; a position is a number of bytes after decompression."""
        with feeds.open_feed(self.path) as file:
            feeds.skip(file, start)
            feeds.refuse_binary(self.name, file)
            for content in feeds.whole_lines(self.name, file):
                start += len(content)
                yield Block(number, start, len(content), content)
                number += content.count(b"\n")


@dataclass
class RecordSource:
    """Any other format, in blocks of parsed records."""

    name: str
    format: str
    path: Path | None = None
    url: str = ""
    query: str = ""
    unit: str = "records"
    total: int | None = None

    def __post_init__(self) -> None:
        # Without ORDER BY a database may return its rows in another order next time.
        is_file = self.path is not None and self.path.is_file()
        self.can_resume = is_file and self.format != "sqlite"

    def blocks(self, start: int = 0, number: int = 1) -> Generator[Block, None, None]:  # noqa: ARG002
        """The blocks; a position is a number of records. Records have their own numbers."""
        block: list[Record] = []
        end = 0
        for record in self._records():
            end += 1
            if end <= start:
                continue
            block.append(record)
            if len(block) >= _RECORDS:
                yield Block(block[0][0], end, len(block), block)
                block = []
        if block:
            yield Block(block[0][0], end, len(block), block)

    def _records(self) -> Iterator[Record]:
        if self.format == "sql":
            return tables.sql(self.url, self.query)
        assert self.path is not None or self.format != "sqlite"  # noqa: S101 (see source)
        if self.format == "sqlite":
            return tables.sqlite(self._file, self.query)
        if self.format == "parquet":
            return tables.parquet(self._file)
        return self._feed()

    @property
    def _file(self) -> Path:
        assert self.path is not None  # noqa: S101 (see source)
        return self.path

    def _feed(self) -> Iterator[Record]:
        with feeds.open_feed(self.path) as file:
            if self.format != "xml":
                feeds.refuse_binary(self.name, file)
            yield from feeds.READERS[self.format](self.name, file)


@dataclass
class CommandLineRecords:
    """Posts given as JSON objects on the command line."""

    records: Sequence[Any]
    name: str = "the command line"
    total: int | None = None
    unit: str = "records"
    can_resume: bool = False

    def blocks(self, start: int = 0, number: int = 1) -> Generator[Block, None, None]:
        """All posts in one block."""
        count = len(self.records)
        yield Block(number, start + count, count, list(enumerate(self.records, number)))


def source_for(where: str, *, form: str | None = None, query: str = "") -> Source:
    """The source for a word of the command line: a file, ``-``, or the URL of a database.

    Raises:
        CommandError: the file cannot be opened, or its format is not known.

    """
    if form is not None and form not in FORMATS:
        raise CommandError(f"--format {form}: there are {', '.join(FORMATS)}")
    refuse_query = CommandError(f"{where}: --query is for databases: SQLite, or a URL")
    if where == "-":
        if query:
            raise refuse_query
        return _standard_input(form or "jsonlines")
    if "://" in where:
        if not query:
            raise CommandError(
                "a database needs --query 'SELECT ...', with a column for each field"
            )
        return RecordSource(where.partition("://")[0] + "://...", "sql", None, where, query)
    path = Path(where)
    if not path.is_fifo():  # it can be opened only once
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise CommandError(f"{where}: {error.strerror}") from None
    form = form or _format_of(path)
    if form != "sqlite" and query:
        raise refuse_query
    if form == "sqlite" and not query:
        raise CommandError(f"{where}: a database needs --query 'SELECT ...'")
    return (
        JsonLinesSource(where, path)
        if form == "jsonlines"
        else RecordSource(where, form, path, "", query)
    )


def _standard_input(form: str) -> Source:
    if form in ("sqlite", "parquet"):
        raise CommandError(f"standard input cannot be read as {form}: give a file")
    return (
        JsonLinesSource("standard input", None) if form == "jsonlines" else RecordSource("-", form)
    )


def _format_of(path: Path) -> str:
    ends = [end.lower() for end in path.suffixes]
    if ends and ends[-1] in _COMPRESSED:
        ends.pop()
    for name, known in FORMATS.items():
        if ends and ends[-1] in known:
            return name
    listed = ", ".join(FORMATS)
    raise CommandError(f"{path}: the format is not known from the name; --format takes {listed}")


def records_of(block: Block) -> Iterator[tuple[int, Any]]:
    """The records of a block with their lines or numbers; parses lines of JSON."""
    if isinstance(block.content, bytes):
        return feeds.json_lines(block.number, block.content)
    return iter(block.content)
