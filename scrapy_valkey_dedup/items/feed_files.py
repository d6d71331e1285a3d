"""One file of a feed: which posts it took, and when they are safe."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from scrapy.exporters import CsvItemExporter, JsonLinesItemExporter
from scrapy.extensions.feedexport import FileFeedStorage, StdoutFeedStorage
from scrapy.utils.defer import ensure_awaitable

from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.valkey.urls import without_user

logger = logging.getLogger(__name__)

_LINE_EXPORTERS = (JsonLinesItemExporter, CsvItemExporter)
_BUFFER = 1 << 20  # bytes: the longest record that a kill cannot leave half written
_FULL = 1 << 16  # bytes, after which the buffer is emptied at the end of a record
_AT_ONCE = 10_000
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EROFS)  # a pipe or a terminal, not a file


class Export:
    """A post on its way into one or several files. It is stored when every one of them is."""

    __slots__ = ("_claim", "_left", "_stored")

    def __init__(self, claim: Claim, files: int) -> None:
        self._claim = claim
        self._left = files
        self._stored = True

    def end(self, *, stored: bool) -> None:
        """One of its files is safe, or cannot be stored."""
        self._left -= 1
        self._stored &= stored
        if self._left > 0:
            return
        if self._stored:
            self._claim.confirm()
        else:
            self._claim.release()


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


class FeedFile:
    """What became of one file of a feed, from Scrapy's ``FeedSlot`` and its storage.

    A local file of lines (JSON Lines, CSV) is safe up to its last :meth:`sync`; any other file when
    its storage has stored it. Only Scrapy's own classes count as such: one of the user's may do
    anything with what it is given.
    """

    def __init__(self, slot: Any, exporters: dict[str, Any]) -> None:
        """``slot``: before it has opened its file. ``exporters``: the exporter of each format."""
        self.slot = slot
        self.items = slot.itemcount
        """How many items it had when it was last looked at."""
        self._uri = without_user(slot.uri)
        storage = slot.storage
        self._is_local = type(storage) is FileFeedStorage
        self.has_lines = (
            self._is_local
            and exporters.get(slot.format) in _LINE_EXPORTERS
            and "postprocessing" not in slot.feed_options
            and _ends_lines_with_a_byte(slot.feed_options.get("encoding"))
        )
        """Whether it is a local file that is safe line by line."""
        self._is_csv = exporters.get(slot.format) is CsvItemExporter
        self._writer: RecordWriter | None = None
        self._waiting: list[Export] = []
        self._has_told = False
        self._is_closing = False
        self._stored: bool | None = None
        self._syncing = asyncio.Lock()
        self._watch(storage)

    def _watch(self, storage: Any) -> None:
        """Has the storage's own methods tell: Scrapy says which files failed, but not whose."""
        store, open_file = storage.store, storage.open
        try:
            storage.store = lambda file: self._store(store, file)
            if self.has_lines:
                storage.open = lambda spider: self._open(open_file, spider)
        except AttributeError:  # it has __slots__
            logger.warning(
                "What became of the feed %s cannot be seen, as %s lets no method be replaced: its "
                "posts are not remembered. Remove __slots__ from that class, or set "
                "VALKEY_DEDUP_CONFIRM = 'scraped'.",
                self._uri,
                type(storage).__qualname__,
            )
            self._stored = False

    def add(self, export: Export) -> None:
        """The file has taken a post."""
        if self._writer is not None:
            self._writer.record_ends()
        if self._is_closing:  # Scrapy wrote it to a file that is on its way already
            export.end(stored=False)
        elif self._stored is None:
            self._waiting.append(export)
        else:
            export.end(stored=self._stored)

    # -- a file of lines -------------------------------------------------------------------------

    def _open(self, open_file: Callable[[Any], Any], spider: Any) -> Any:
        try:
            file = open_file(spider)
        except OSError as error:
            self._tell_once(error)
            raise
        if type(file) is not io.BufferedWriter:
            return file
        broken = _end_of_broken_line(self.slot.storage.path, is_csv=self._is_csv)
        if broken:
            logger.warning(
                "The feed %s ends within a record, as a killed process may leave it: that one is "
                "closed, and what is written now begins on a new line.",
                self._uri,
            )
            file.write(broken)
        self._writer = RecordWriter(file.detach(), _BUFFER)
        return self._writer

    @property
    def ended(self) -> bool:
        """Whether it is known what became of it."""
        return self._stored is not None

    async def sync(self) -> None:
        """Has its lines written to disk, and settles their posts."""
        async with self._syncing:
            if self._writer is None or not self._waiting:
                return
            waiting, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(_sync, self._writer)
            except (OSError, ValueError) as error:  # of a closed file it is a ValueError
                self._warn(len(waiting), error)
                await _end_all(waiting, stored=False)
            except BaseException:  # cancelled: its end is still to come
                self._waiting = waiting + self._waiting
                raise
            else:
                await _end_all(waiting, stored=True)

    def _tell_once(self, error: OSError) -> None:
        if not self._has_told:
            self._has_told = True
            logger.error(
                "The feed %s cannot be opened (%s): none of its posts is stored there, or "
                "remembered.",
                self._uri,
                error,
            )

    # -- the end ---------------------------------------------------------------------------------

    async def _store(self, store: Callable[[Any], Any], file: Any) -> Any:
        """The storage's ``store``, with what is to be done before and after it."""
        self._is_closing = True
        try:
            result = await self._store_safely(store, file)
        except BaseException as error:
            await self.end(stored=False, error=error)
            raise
        await self.end(stored=True)
        return result

    async def _store_safely(self, store: Callable[[Any], Any], file: Any) -> Any:
        if type(self.slot.storage) is StdoutFeedStorage:  # its store() leaves all in the buffer
            await asyncio.to_thread(_sync, file)
        if self._is_local:
            try:
                async with self._syncing:
                    await asyncio.to_thread(_sync, file)
            except BaseException:
                with contextlib.suppress(Exception):
                    file.close()
                raise
        stored: Awaitable[Any] = ensure_awaitable(store(file))
        return await stored

    async def end(self, *, stored: bool, error: BaseException | None = None) -> None:
        """The file is stored, or will not be. Of several calls the first counts."""
        if self._stored is not None:
            return
        self._stored = stored
        waiting, self._waiting = self._waiting, []
        if not stored and waiting:
            self._warn(len(waiting), error)
        await _end_all(waiting, stored=stored)

    def _warn(self, posts: int, error: BaseException | None) -> None:
        logger.error(
            "The feed %s was not stored%s: the posts that it took last (%d) are not remembered. "
            "The next run that meets them stores them.",
            self._uri,
            f" ({error})" if error is not None else "",
            posts,
        )


async def _end_all(exports: list[Export], *, stored: bool) -> None:
    for number, export in enumerate(exports, 1):
        export.end(stored=stored)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # the file of a long crawl has millions of them


def _sync(file: Any) -> None:
    """Flushes a file and has the disk take it. For a thread."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _ends_lines_with_a_byte(encoding: str | None) -> bool:
    """Whether a line ends as in ASCII; in UTF-16 it does not."""
    try:
        return "\n".encode(encoding or "utf-8") == b"\n"
    except LookupError:
        return False


def _end_of_broken_line(path: str, *, is_csv: bool) -> bytes:
    """What ends a record that was cut off at the end of a file; nothing if none was.

    In CSV a line may end within quotes: then all that comes after them would be part of them.
    """
    last, quotes = b"\n", 0
    if not Path(path).is_file():  # a pipe would be waited for
        return b""
    try:
        with Path(path).open("rb") as file:
            if is_csv:
                while part := file.read(_BUFFER):
                    last, quotes = part[-1:], quotes + part.count(b'"')
            elif file.seek(0, io.SEEK_END):
                file.seek(-1, io.SEEK_END)
                last = file.read(1)
    except OSError:  # not a file that can be read
        return b""
    if quotes % 2:
        return b'"\n'
    return b"" if last == b"\n" else b"\n"
