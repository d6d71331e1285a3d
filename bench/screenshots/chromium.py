"""Chromium without a window, driven by its DevTools protocol over a pipe: no driver, no port.

https://chromedevtools.github.io/devtools-protocol
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
BINARY = next(filter(None, map(shutil.which, _NAMES)), None)
"""Debian's package chromium; None if it is not installed."""
MISSING = "there is no Chromium here: apt-get install chromium"
_PATIENCE = 60  # seconds
# Without the latter it looks for updates, and for Google's hosts, at each start.
_OPTIONS = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars
    --disable-background-networking --disable-component-update --disable-sync
    --force-color-profile=srgb --remote-debugging-pipe
"""
_EXEC = """
import fcntl, os, sys
high = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
for at, each in enumerate(high):
    os.dup2(each, 3 + at)
os.execv(sys.argv[3], sys.argv[3:])
"""
_KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Tab": 9, "Escape": 27}


class Chromium:
    """A browser; make it with :func:`chromium`."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number = 0
        self._read = b""
        self.events: list[dict[str, Any]] = []
        """What it has told without being asked."""

    def ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Asks it, and waits for the answer."""
        self._number += 1
        question = {"id": self._number, "method": method, "params": parameters}
        if session:
            question["sessionId"] = session
        os.write(self._to, json.dumps(question).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self.events.append(message)

    def wait_for(self, method: str) -> dict[str, Any]:
        """Waits until it tells this."""
        while True:
            for at, event in enumerate(self.events):
                if event["method"] == method:
                    return self.events.pop(at)
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select([self._back], [], [], _PATIENCE)[0], "Chromium does not answer"
            read = os.read(self._back, 1 << 20)
            assert read, "Chromium has ended"
            self._read += read
        message, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(message))


class Page:
    """A page of it."""

    def __init__(self, browser: Chromium) -> None:
        self._browser = browser
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Asks about this page."""
        return self._browser.ask(method, self._session, **parameters)

    def show(self, width: int, height: int = 900, *, dark: bool = False, scale: float = 1) -> None:
        """Sets the window's size, and what the user prefers."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str, *, scripts: bool = True) -> None:
        """Goes there, and waits until all is loaded and, if scripts run, drawn."""
        self._browser.events.clear()
        self.ask("Page.navigate", url=url)
        self._browser.wait_for("Page.loadEventFired")
        if scripts:
            self.settle()

    def settle(self) -> None:
        """Waits until what a script has changed is drawn."""
        twice = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.run(f"{twice}.then(() => null)")

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is waited for."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        for key in keys:
            named = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
            self.ask("Input.dispatchKeyEvent", type="keyDown", **named)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **named)

    def point(self, x: float, y: float) -> None:
        """Moves the pointer there."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path: Path, *, whole: bool = False, height: int | None = None) -> None:
        """Takes a PNG of what is shown, or of the whole page, or of so many pixels from the top."""
        options: dict[str, Any] = {}
        if whole or height:
            size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
            options = {"captureBeyondViewport": True, "clip": {**clip, "scale": 1}}
        path.write_bytes(b64decode(self.ask("Page.captureScreenshot", **options)["data"]))

    def pdf(self) -> bytes:
        """What it prints."""
        found = self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return b64decode(found["data"])

    @property
    def told(self) -> list[dict[str, Any]]:
        """What the browser has told since the page was opened."""
        return [each for each in self._browser.events if each.get("sessionId") == self._session]


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Starts a browser, and ends it."""
    assert BINARY, MISSING
    (read, to), (back, write) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # It speaks on the descriptors 3 and 4.
        process = subprocess.Popen(
            [sys.executable, "-c", _EXEC, str(read), str(write), BINARY, *_OPTIONS.split(),
             f"--user-data-dir={folder}"],
            pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        try:
            yield Chromium(to, back)
        finally:
            os.close(to)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(back)
