"""RESP, as far as a front must read it: where a request and a reply end, and what is asked."""

from __future__ import annotations

_LINES = b"+-:_#,("
_BULKS = b"$=!"
_LISTS = b"*~>"
_PAIRS = b"%"


def packed(*words: bytes | str) -> bytes:
    """A command."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(bulk(part) for part in parts)


def bulk(value: bytes | str) -> bytes:
    """A string, as an argument or a reply."""
    text = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%b\r\n" % (len(text), text)


def error(text: str) -> bytes:
    """An error reply."""
    return b"-%b\r\n" % " ".join(text.split()).encode("latin-1", "replace")


class Requests:
    """Cuts what a client sends into commands."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[list[bytes], bytes]]:
        """The commands that are whole by now: their words, and their bytes.

        Raises ValueError at what is no command.
        """
        self._buffer += data
        text, at, found = bytes(self._buffer), 0, []
        while (read := _request(text, at)) is not None:
            words, end = read
            if words:
                found.append((words, text[at:end]))
            at = end
        del self._buffer[:at]
        return found


def _request(text: bytes, start: int) -> tuple[list[bytes], int] | None:
    line = text.find(b"\r\n", start)
    if line < 0:
        return None
    if text[start : start + 1] != b"*":
        raise ValueError("no inline commands here")
    words: list[bytes] = []
    at = line + 2
    for _ in range(int(text[start + 1 : line])):
        line = text.find(b"\r\n", at)
        if line < 0:
            return None
        length = int(text[at + 1 : line])
        at = line + 2 + length + 2
        if at > len(text):
            return None
        words.append(text[line + 2 : at - 2])
    return words, at


class Replies:
    """Cuts what a backend sends into replies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The replies that are whole by now, as bytes."""
        self._buffer += data
        text, at, found = bytes(self._buffer), 0, []
        while (end := _end_of_reply(text, at)) is not None:
            found.append(text[at:end])
            at = end
        del self._buffer[:at]
        return found


def _end_of_reply(text: bytes, at: int) -> int | None:
    left = 1
    while left:
        line = text.find(b"\r\n", at)
        if line < 0:
            return None
        kind = text[at]
        left -= 1
        if kind in _LINES:
            at = line + 2
            continue
        count = int(text[at + 1 : line])
        at = line + 2
        if kind in _BULKS:
            at += count + 2 if count >= 0 else 0
            if at > len(text):
                return None
        elif kind in _LISTS:
            left += max(count, 0)
        elif kind in _PAIRS:
            left += 2 * count
    return at
