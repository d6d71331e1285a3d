"""Makes the pictures of `scrapy dedup watch` in docs/images: ``python -m bench.screenshots.watch``.

A real fleet crawls against a real server for five minutes, and `watch` shows it in a terminal. What
is on that terminal then is drawn by Chromium, in light and in dark colours. It needs Debian's
``chromium``, and the extra "dev".
"""

from __future__ import annotations

import argparse
import asyncio
import html
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.crawls.helpers import helper
from bench.screenshots.browser import screenshot
from bench.screenshots.terminal import Terminal
from bench.servers import ValkeyServer, free_port
from bench.status import fill

COLUMNS, LINES = 110, 17
IMAGES = Path(__file__).parents[2] / "docs" / "images"
_FONT, _LINE, _WIDTH, _EDGE = 14, 20, 8.43, 14  # pixels; a character of DejaVu Sans Mono is so wide
PALETTES = {
    "light": {"back": "#ffffff", "default": "#1f2328", "brightblack": "#6e7781", "red": "#cf222e",
              "green": "#1a7f37", "cyan": "#0969da"},
    "dark": {"back": "#0d1117", "default": "#e6edf3", "brightblack": "#7d8590", "red": "#ff7b72",
             "green": "#56d364", "cyan": "#79c0ff"},
}  # fmt: skip


def page(terminal: Terminal, palette: dict[str, str]) -> str:
    """The terminal's screen as HTML."""
    lines = []
    for number in range(terminal.screen.lines):
        row = terminal.screen.buffer[number]
        cells = [_cell(row[at], palette) for at in range(terminal.screen.columns)]
        lines.append("".join(cells))
    return f"""<!DOCTYPE html><meta charset="utf-8"><style>
        body {{ margin: 0; background: {palette["back"]}; color: {palette["default"]}; }}
        pre {{ margin: {_EDGE}px; font: {_FONT}px/{_LINE}px "DejaVu Sans Mono", monospace; }}
        </style><pre>{"<br>".join(lines)}</pre>"""


def _cell(char: Any, palette: dict[str, str]) -> str:
    colour = palette.get(char.fg, palette["default"])
    weight = "bold" if char.bold else "normal"
    return f'<span style="color:{colour};font-weight:{weight}">{html.escape(char.data)}</span>'


def usual_port() -> int:
    """That of Valkey, if nothing else uses it."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", 6379))
        except OSError:
            return free_port()
    return 6379


def main() -> None:
    """Runs the fleet, then takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=330)
    parser.add_argument("--posts", type=int, default=1_200_000, help="that are remembered before")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="svd-watch-")))
        server = stack.enter_context(ValkeyServer("--maxmemory", "256mb", port=usual_port()))
        asyncio.run(fill(server.url, given.posts))
        helper(stack, "screenshots.fleet", server.url)
        terminal = Terminal(COLUMNS, LINES)
        stack.callback(terminal.close)
        command = [sys.executable, "-m", "scrapy", "dedup", "watch", "--url", server.url]
        terminal.start([*command, "--namespace", "posts"], folder)
        ends = time.monotonic() + given.seconds
        while time.monotonic() < ends:
            terminal.read(1)
        print(terminal.text)
        IMAGES.mkdir(exist_ok=True)
        for name, palette in PALETTES.items():
            file = folder / "page.html"
            file.write_text(page(terminal, palette), "utf-8")
            size = round(COLUMNS * _WIDTH) + 2 * _EDGE, LINES * _LINE + 2 * _EDGE
            screenshot(file, IMAGES / f"watch-{name}.png", *size)
        terminal.press("q")
        terminal.wait()


if __name__ == "__main__":
    main()
