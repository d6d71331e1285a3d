"""A real Valkey server for benchmarks and tests, with its directory and its socket or port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import valkey

from bench.servers.binaries import binary
from bench.servers.lifetime import Equipment
from bench.servers.tls import Tls
from bench.servers.waiting import wait_for

START_SECONDS = 120
END_SECONDS = 120


class ValkeyServer(Equipment):
    """A server that runs from ``start`` to ``stop``; without ``port`` on a Unix socket only.

    ``config`` is the text of a configuration file that the server may rewrite.
    """

    def __init__(
        self,
        *options: str,
        port: int | None = None,
        persistent: bool = False,
        password: str = "",
        tls: Tls | None = None,
        config: str | None = None,
    ) -> None:
        self.port = port
        self.password = password
        self.tls = tls
        self.directory = Path(tempfile.mkdtemp(prefix="svd-"))
        self.socket = self.directory / "s"
        file = self.directory / "conf"
        if config is not None:
            file.write_text(config)
        place = ["--port", str(port), "--bind", "127.0.0.1"] if port else ["--port", "0"]
        if tls:
            place = ["--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", *tls.options]
        self._command = [
            binary(), *([str(file)] if config is not None else []), *place,
            "--unixsocket", str(self.socket), "--dir", str(self.directory),
            "--save", "", "--appendonly", "yes" if persistent else "no",
            # By default the server answers before it has written when the disk is busy, for up to
            # 2 s: SIGKILL would lose that. Without fsync it writes first, into the system's cache.
            "--appendfsync", "no",
            *(["--requirepass", password] if password else []), *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def url(self) -> str:
        """Where a client finds it."""
        user = f":{quote(self.password, safe='')}@" if self.password else ""
        if not self.port:
            return f"unix://{user}{self.socket}"
        return f"{'valkeys' if self.tls else 'valkey'}://{user}127.0.0.1:{self.port}"

    def url_through(self, port: int) -> str:
        """Where a client finds it by way of another port."""
        return self.url.replace(f":{self.port}", f":{port}")

    @property
    def pid(self) -> int:
        """The process that runs it."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs and is not frozen."""
        return self._process is not None and self._process.poll() is None and not self._frozen

    @property
    def log(self) -> str:
        """What it has logged so far, over all its starts."""
        return (self.directory / "log").read_text(errors="replace")

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
                raise RuntimeError(f"valkey-server: {self.log[-2000:]}")
            time.sleep(0.01)
        return self

    def ask(self, name: str, *words: str | bytes | int) -> Any:
        """A reply to one command, whatever the server's port, TLS or cluster.

        Bytes that are no UTF-8 come as surrogates, and go back as the same bytes.
        """
        with valkey.Valkey(
            unix_socket_path=str(self.socket), password=self.password or None, socket_timeout=5,
            decode_responses=True, encoding_errors="surrogateescape",
        ) as client:  # fmt: skip
            return client.execute_command(name, *map(_encoded, words))

    def client(self) -> valkey.Valkey:
        """A client for looking inside."""
        return valkey.Valkey.from_url(self.url)

    def info(self) -> dict[str, Any]:
        """All of INFO; empty if it does not answer."""
        with suppress(valkey.ValkeyError, OSError):
            return dict(self.ask("INFO"))
        return {}

    def in_sync(self) -> bool:
        """Whether it is a primary, or a replica whose link is up, and its file is as its memory."""
        info = self.info()
        # After a full synchronisation the old file counts until the new one is written.
        writing = info.get("aof_rewrite_in_progress") or info.get("aof_rewrite_scheduled")
        linked = info.get("role") == "master" or info.get("master_link_status") == "up"
        return linked and not writing

    def kill(self) -> None:
        """Ends it with SIGKILL; its directory stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._frozen = False

    def terminate(self) -> None:
        """Ends it with SIGTERM, which lets it save; its directory stays."""
        if self._process is not None:
            self._process.terminate()
            self.thaw()
            self._process.wait(END_SECONDS)
            self._process = None

    def restart(self) -> None:
        """Starts it on the data it had; ends it before with SIGTERM if it runs."""
        self.terminate()
        self.start()

    def freeze(self) -> None:
        """Stops its process: connections stay open and no answer comes."""
        os.kill(self.pid, signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Lets its process continue."""
        os.kill(self.pid, signal.SIGCONT)
        self._frozen = False

    def stop(self) -> None:
        """Ends it and removes its directory."""
        self.kill()
        # A child that was writing a file lives a moment longer than its server.
        wait_for(self._is_removed, END_SECONDS, f"{self.directory} to be removed")

    def _is_removed(self) -> bool:
        shutil.rmtree(self.directory, ignore_errors=True)
        return not self.directory.exists()

    def _answers(self) -> bool:
        if self.password:  # NOAUTH would hide that it is still loading its data
            with suppress(valkey.ValkeyError, OSError):
                return bool(self.ask("PING"))
            return False
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        return False


def _encoded(word: str | bytes | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode(errors="surrogateescape")
