"""A terminal as a person has it: what it shows, and how a program leaves it."""

from __future__ import annotations

import fcntl
import os
import pty
import selectors
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from time import monotonic
from typing import Any

import pyte

_OTHER_SCREEN = 1049
_CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Makes it the terminal from which Ctrl-C and Ctrl-Z reach the program."""


class _Screens(pyte.Screen):
    """A screen that has another one behind it, which pyte does not."""

    def __init__(self, columns: int, lines: int) -> None:
        self.is_other = False
        self._behind: tuple[Any, Any] | None = None
        super().__init__(columns, lines)

    def select_graphic_rendition(self, *attributes: int, **options: Any) -> None:
        """Of pyte, which knows no faint text: here it is bright black, as terminals show it."""
        if not {38, 48}.intersection(attributes):  # colours by number have a 2 of another meaning
            attributes = tuple(90 if each == 2 else each for each in attributes)
        super().select_graphic_rendition(*attributes, **options)

    def set_mode(self, *modes: int, **options: Any) -> None:
        """Of pyte."""
        super().set_mode(*modes, **options)
        if _OTHER_SCREEN in modes and options.get("private") and not self.is_other:
            self.is_other = True
            self._behind = deepcopy(self.buffer), deepcopy(self.cursor)
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **options: Any) -> None:
        """Of pyte."""
        super().reset_mode(*modes, **options)
        if _OTHER_SCREEN in modes and options.get("private") and self.is_other:
            assert self._behind is not None
            self.is_other = False
            self.buffer, cursor = self._behind
            self.cursor.x, self.cursor.y = cursor.x, cursor.y
            self.dirty.update(range(self.lines))


class Terminal:
    """A terminal of so many columns and lines, in which a shell's last words are to be seen."""

    def __init__(self, columns: int = 100, lines: int = 24, *, patience: float = 300) -> None:
        """``patience``: seconds after which what is waited for will never come."""
        self._patience = patience
        self._ours, self._its = pty.openpty()
        self.screen = _Screens(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        """All that was written to it."""
        self.process: subprocess.Popen[bytes] | None = None
        self._resize(columns, lines)
        self._type_into(b"$ before\r\n")
        self.before = self.state

    def _type_into(self, shown: bytes) -> None:
        self.written += shown
        self._stream.feed(shown)

    def _resize(self, columns: int, lines: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._its, termios.TIOCSWINSZ, size)

    @property
    def state(self) -> tuple[Any, ...]:
        """Attributes, which screen, whether there is a cursor, what is to be seen and where."""
        cursor = self.screen.cursor
        return (
            termios.tcgetattr(self._its),
            self.screen.is_other,
            cursor.hidden,
            cursor.x,
            cursor.y,
            tuple(self.screen.display),
        )

    def start(
        self, argv: Sequence[str], directory: Path, env: Mapping[str, str] = os.environ
    ) -> None:
        """Starts a program in this terminal."""
        left_out = ("COLUMNS", "LINES")  # its size may change
        kept = {name: value for name, value in env.items() if name not in left_out}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CONTROLLED, *argv],
            cwd=directory, env={"TERM": "xterm-256color", **kept}, start_new_session=True,
            stdin=self._its, stdout=self._its, stderr=self._its,
        )  # fmt: skip

    def press(self, keys: str) -> None:
        """Types."""
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Gives the window another size; the program is told."""
        self.screen.resize(lines, columns)
        self._resize(columns, lines)
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGWINCH)

    def read(self, seconds: float = 0.05) -> None:
        """Shows what was written until now."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._ours, selectors.EVENT_READ)
            while selector.select(seconds):
                self._type_into(os.read(self._ours, 65536))
                seconds = 0.01  # the rest of a picture comes at once

    @property
    def text(self) -> str:
        """What is to be seen."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    @property
    def _is_drawing(self) -> bool:
        """Whether a program that fills the other screen is in the middle of a picture."""
        end = self.screen.columns, self.screen.lines - 1
        return self.screen.is_other and (self.screen.cursor.x, self.screen.cursor.y) != end

    def wait_for(self, *texts: str, gone: str = "") -> str:
        """Waits for a picture in which all of it is to be seen, and this is not; returns it."""
        deadline = monotonic() + self._patience
        while True:
            self.read()
            found = self.text
            is_shown = all(text in found for text in texts) and not (gone and gone in found)
            if is_shown and not self._is_drawing:
                return found
            assert self.process is not None
            ended = self.process.poll()
            assert ended is None, f"ended with {ended}:\n{found}"
            assert monotonic() < deadline, f"{texts} did not come:\n{found}"

    def wait(self) -> int:
        """Waits for the end of the program; returns its exit code."""
        assert self.process is not None
        deadline = monotonic() + self._patience
        while self.process.poll() is None:
            self.read()
            assert monotonic() < deadline, self.text
        self.read()
        return self.process.returncode

    def close(self) -> None:
        """Closes it, and ends what runs in it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._its)
