"""The terminal while a picture is shown: its other screen, keys without Enter; then as it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import sys
import termios
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.control import Control
from rich.screen import Screen as FullScreen
from rich.text import Text

from scrapy_valkey_dedup.commands.shared.watching.picture import Line

_STYLES = {
    "good": "green", "new": "green", "duplicate": "cyan", "bad": "bold red", "faint": "dim",
    "strong": "bold", "spider": "bold",
}  # fmt: skip
_NOT_TYPED = re.compile(r"\x1b(\[[\d;?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
"""What a terminal sends for an arrow key or a click."""
_PLAIN = str.maketrans({"…": "~", "·": "|"})
_SIZE = os.terminal_size((80, 24))
"""Of a terminal that does not tell its own."""
_ENDING = (signal.SIGHUP, signal.SIGQUIT)
"""Signals that would end the process and leave the terminal as it is. (The command itself handles
SIGINT and SIGTERM.)"""


class Terminal:
    """A context in which the picture has the whole terminal, and Ctrl-Z gives it back."""

    def __init__(
        self,
        on_key: Callable[[str], None],
        on_change: Callable[[], None],
        on_end: Callable[[int], None],
    ) -> None:
        """``on_change``: the terminal has another size, or is back; ``on_end`` gets a signal."""
        self._on_key, self._on_change, self._on_end = on_key, on_change, on_end
        self._console = Console(highlight=False, soft_wrap=False)
        self._input = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._loop = asyncio.get_running_loop()
        self._attributes: list[Any] | None = None
        """Of the terminal, as they were; None while it is as it was."""
        self._is_open = False

    @property
    def is_plain(self) -> bool:
        """Whether it has only the characters of ASCII."""
        return not self._console.encoding.lower().startswith("utf")

    @property
    def has_keys(self) -> bool:
        """Whether keys can be read."""
        return self._input is not None

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines; not those of the variables COLUMNS and LINES, which never change."""
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(sys.stdout.fileno())
            if found.columns and found.lines:
                return found
        return _SIZE

    def __enter__(self) -> None:
        """Takes the terminal."""
        add = self._loop.add_signal_handler
        for number in _ENDING:
            add(number, self._on_end, number)
        add(signal.SIGWINCH, self._on_change)
        add(signal.SIGTSTP, self._suspend)
        try:
            self._take()
        except BaseException:
            self._give_back()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Gives it back as it was."""
        self._give_back()
        for number in (*_ENDING, signal.SIGWINCH, signal.SIGTSTP):
            self._loop.remove_signal_handler(number)

    def draw(self, lines: Sequence[Line]) -> None:
        """Shows a picture that has exactly the terminal's size."""
        self._console.size = self.size
        texts = [_text(line, plain=self.is_plain) for line in lines]
        with self._console:  # all is written at once, so that nothing flickers
            self._console.control(Control.home())
            self._console.print(FullScreen(Group(*texts)), end="")

    # -- taking and giving back ------------------------------------------------------------------

    def _take(self) -> None:
        if self._input is not None:
            self._attributes = termios.tcgetattr(self._input)
            ours = [*self._attributes]
            ours[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl-C and Ctrl-Z stay signals
            # To read never blocks: Ctrl-C takes away what was typed before it.
            ours[6] = [*ours[6]]
            ours[6][termios.VMIN] = ours[6][termios.VTIME] = 0
            termios.tcsetattr(self._input, termios.TCSAFLUSH, ours)
            self._loop.add_reader(self._input, self._read)
        self._is_open = True
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)  # noqa: FBT003 (rich's)

    def _give_back(self) -> None:
        """In any case the rest, whatever fails: the terminal may be gone."""
        with contextlib.suppress(OSError, ValueError):
            if self._is_open:
                self._is_open = False
                self._console.show_cursor(True)  # noqa: FBT003 (rich's)
                self._console.set_alt_screen(False)
                sys.stdout.flush()
        if self._input is not None and self._attributes is not None:
            self._loop.remove_reader(self._input)
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._input, termios.TCSAFLUSH, self._attributes)
            self._attributes = None

    def _suspend(self) -> None:
        """Ctrl-Z: gives the terminal to the shell, and takes it again when the process goes on."""
        self._give_back()
        self._loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here the process has stopped, and goes on.
        self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        self._take()
        self._on_change()

    def _read(self) -> None:
        assert self._input is not None  # noqa: S101 (it is being read)
        try:
            typed = os.read(self._input, 1024)
        except OSError:
            typed = b""
        if not typed and self._is_gone:
            self._loop.remove_reader(self._input)
            self._on_end(signal.SIGHUP)
        for key in _NOT_TYPED.sub("", typed.decode("ascii", "ignore")):
            self._on_key(key)

    @property
    def _is_gone(self) -> bool:
        look = select.poll()
        look.register(self._input or 0, select.POLLIN)
        return any(found & (select.POLLHUP | select.POLLERR) for _, found in look.poll(0))


def _text(line: Line, *, plain: bool) -> Text:
    text = Text(no_wrap=True, overflow="crop")
    for part, styles in line:
        style = " ".join(_STYLES[name] for name in styles.split())
        text.append(part.translate(_PLAIN) if plain else part, style or None)
    return text
