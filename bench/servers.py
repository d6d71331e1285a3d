"""Real Valkey servers of one's own, for benchmarks and tests: own directory, own socket or port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from scrapy_valkey_dedup.embedded import find_binary

START_SECONDS = 10


def binary() -> str:
    """The server to run: ``VALKEY_SERVER`` if it is set, else what the embedded extra brings."""
    return os.environ.get("VALKEY_SERVER") or find_binary()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ValkeyServer:
    """A server that runs from ``start`` to ``stop``; without ``port`` on a Unix socket only."""

    def __init__(self, *options: str, port: int | None = None, persistent: bool = False) -> None:
        self.port = port
        self.directory = Path(tempfile.mkdtemp(prefix="svd-"))
        self.socket = self.directory / "s"
        place = ["--port", str(port), "--bind", "127.0.0.1"] if port else ["--port", "0"]
        self._command = [
            binary(), *place, "--unixsocket", str(self.socket), "--dir", str(self.directory),
            "--save", "", "--appendonly", "yes" if persistent else "no", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"valkey://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The process that runs it."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> ValkeyServer:
        """Returns when it answers."""
        log = (self.directory / "log").open("ab")
        self._process = subprocess.Popen(
            self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"valkey-server: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        return self

    def kill(self) -> None:
        """Ends it with SIGKILL; its directory stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ends it and removes its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def __enter__(self) -> ValkeyServer:  # noqa: PYI034 (Self needs Python 3.11)
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
