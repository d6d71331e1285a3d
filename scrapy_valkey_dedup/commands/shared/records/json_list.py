"""Reads a JSON feed, which is one long list, in constant memory."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from scrapy_valkey_dedup.commands.shared.records.record import (
    CHUNK,
    Record,
    UnreadableRecord,
    check_length,
)
from scrapy_valkey_dedup.commands.shared.usage import CommandError

_BETWEEN = re.compile(r"[\s,\[\]]*")
"""Separators between the objects of a list."""
_LONGEST_WORD = 10  # characters: of "false", "\\ud83d", with room to spare


class _JsonText:
    """A sequence of JSON values; only the current value is held in memory."""

    def __init__(self, name: str, text: io.TextIOWrapper) -> None:
        self._name, self._text = name, text
        self._held, self._at, self._ended = "", 0, False
        self.line = 1
        self._decode = json.JSONDecoder().raw_decode

    def _read(self) -> bool:
        """Reads one more chunk; returns False at the end of the file."""
        try:
            more = self._text.read(CHUNK)
        except UnicodeError:
            said = f"{self._name} is not UTF-8, somewhere after line {self.line}"
            raise CommandError(said) from None
        self._held, self._at = self._held[self._at :] + more, 0
        check_length(self._name, len(self._held))
        self._ended = not more
        return bool(more)

    def _move_to(self, at: int) -> None:
        self.line += self._held.count("\n", self._at, at)
        self._at = at

    def skip_between(self) -> str:
        """Moves to the next value; returns the separators before it, without spaces."""
        found = ""
        while True:
            match = _BETWEEN.match(self._held, self._at)
            assert match is not None  # noqa: S101 (the pattern also matches an empty text)
            found += match[0].strip()
            self._move_to(match.end())
            if self._at < len(self._held) or not self._read():
                return found

    @property
    def ended(self) -> bool:
        """Whether the end of the file is reached."""
        return self._ended and self._at >= len(self._held)

    def value(self) -> Any:
        """Reads the value that starts here; an :class:`UnreadableRecord` if it is not JSON."""
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

    def _skip_bad(self) -> UnreadableRecord:
        """Skips to the next object that starts a line, or to the end of the file."""
        while (found := self._held.find("\n{", self._at)) < 0:
            self._move_to(max(len(self._held) - 1, self._at))
            if not self._read():
                self._move_to(len(self._held))
                return UnreadableRecord("not valid JSON, or the file was cut off there")
        self._move_to(found)
        return UnreadableRecord("not valid JSON")


def json_array(name: str, file: BinaryIO) -> Iterator[Record]:
    """The objects of a JSON feed. Scrapy starts another list if it appends to a file."""
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        values, between = _JsonText(name, text), ""
        while True:
            between = values.skip_between() or between
            if values.ended:
                break
            line, value, between = values.line, values.value(), ""
            yield line, value
            if values.ended and type(value) is UnreadableRecord:
                return
        if not between.endswith("]"):
            yield (
                values.line,
                UnreadableRecord("the list does not end: the crawl that wrote it was cut off"),
            )
    finally:
        text.detach()
