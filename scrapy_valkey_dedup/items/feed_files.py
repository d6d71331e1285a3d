"""One file of a feed: which posts it took, and when they are safe."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from scrapy.exporters import CsvItemExporter
from scrapy.extensions.feedexport import FileFeedStorage, StdoutFeedStorage
from scrapy.utils.defer import ensure_awaitable

from scrapy_valkey_dedup.items.exports import Export, end_all
from scrapy_valkey_dedup.items.line_files import (
    BUFFER,
    LINE_EXPORTERS,
    RecordWriter,
    end_of_broken_line,
    ends_lines_with_a_byte,
    sync,
)
from scrapy_valkey_dedup.valkey.urls import without_user

logger = logging.getLogger(__name__)


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
            and exporters.get(slot.format) in LINE_EXPORTERS
            and "postprocessing" not in slot.feed_options
            and ends_lines_with_a_byte(slot.feed_options.get("encoding"))
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
        """Wraps the storage's methods: Scrapy says how many files failed, but not which."""
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
        if self._is_closing:  # Scrapy wrote it to a file that is being stored already
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
        broken = end_of_broken_line(self.slot.storage.path, is_csv=self._is_csv)
        if broken:
            logger.warning(
                "The feed %s ends within a record, as a killed process may leave it. That "
                "record is closed, and new ones start on a new line.",
                self._uri,
            )
            file.write(broken)
        self._writer = RecordWriter(file.detach(), BUFFER)
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
                await asyncio.to_thread(sync, self._writer)
            except (OSError, ValueError) as error:  # of a closed file it is a ValueError
                self._warn(len(waiting), error)
                await end_all(waiting, stored=False)
            except BaseException:  # cancelled: its end is still to come
                self._waiting = waiting + self._waiting
                raise
            else:
                await end_all(waiting, stored=True)

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
            await asyncio.to_thread(sync, file)
        if self._is_local:
            try:
                async with self._syncing:
                    await asyncio.to_thread(sync, file)
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
        await end_all(waiting, stored=stored)

    def _warn(self, posts: int, error: BaseException | None) -> None:
        logger.error(
            "The feed %s was not stored%s: the posts that it took last (%d) are not remembered. "
            "The next run that meets them stores them.",
            self._uri,
            f" ({error})" if error is not None else "",
            posts,
        )
