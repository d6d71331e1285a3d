"""A terminal as a person has it: what it shows, and in what state a program leaves it."""

from __future__ import annotations

import fcntl
import os
import pty
import selectors
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

import pyte

from tests.support.patience import PATIENCE
from tests.support.processes.dedup_command import environment, words

_OTHER_SCREEN = 1049 << 5  # pyte marks private modes so


class _Screens(pyte.Screen):
    """A screen that has another one behind it, which pyte does not."""

    def __init__(self, columns: int, lines: int) -> None:
        self.is_other = False
        self._behind: tuple[Any, Any] | None = None
        super().__init__(columns, lines)

    def set_mode(self, *modes: int, **options: Any) -> None:
        """Of pyte."""
        super().set_mode(*modes, **options)
        if 1049 in modes and options.get("private") and not self.is_other:
            self.is_other = True
            self._behind = deepcopy(self.buffer), deepcopy(self.cursor)
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **options: Any) -> None:
        """Of pyte."""
        super().reset_mode(*modes, **options)
        if 1049 in modes and options.get("private") and self.is_other:
            assert self._behind is not None
            self.is_other = False
            self.buffer, cursor = self._behind
            self.cursor.x, self.cursor.y = cursor.x, cursor.y
            self.dirty.update(range(self.lines))


class Terminal:
    """A terminal of so many columns and lines, in which a shell's last words are to be seen."""

    def __init__(self, columns: int = 100, lines: int = 24) -> None:
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
        self, *given: str, directory: Path, env: Mapping[str, str] = {}, argv: Sequence[str] = ()
    ) -> None:
        """Starts `scrapy dedup` with these words, or another program, in this terminal."""
        kept = environment(TERM="xterm-256color", **env)
        for name in ("COLUMNS", "LINES", *(() if "NO_COLOR" in env else ("NO_COLOR",))):
            kept.pop(name, None)
        self.process = subprocess.Popen(
            argv or words(*given), cwd=directory, env=kept,
            stdin=self._its, stdout=self._its, stderr=self._its,
            start_new_session=True, preexec_fn=self._control,
        )  # fmt: skip

    def _control(self) -> None:
        """Makes it the terminal that sends the process Ctrl-C and Ctrl-Z."""
        fcntl.ioctl(self._its, termios.TIOCSCTTY, 0)

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
                seconds = 0

    @property
    def text(self) -> str:
        """What is to be seen."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def wait_for(self, *texts: str, gone: str = "") -> str:
        """Waits until all of it is to be seen, and this is not; returns all that is."""
        deadline = monotonic() + PATIENCE
        while True:
            self.read()
            found = self.text
            if all(text in found for text in texts) and not (gone and gone in found):
                return found
            assert self.process is not None
            ended = self.process.poll()
            assert ended is None, f"ended with {ended}:\n{found}"
            assert monotonic() < deadline, f"{texts} did not come:\n{found}"

    def wait(self) -> int:
        """Waits for the end of the program; returns its exit code."""
        assert self.process is not None
        deadline = monotonic() + PATIENCE
        while self.process.poll() is None:
            self.read()
            assert monotonic() < deadline, self.text
        self.read()
        return self.process.returncode

    def __enter__(self) -> Terminal:
        """Opens it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes it, and ends what runs in it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._its)
