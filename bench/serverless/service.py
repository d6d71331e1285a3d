"""The stand-in as tests use it: starts, disturbs and ends it, and reads its meter."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.serverless.backends import SLOTS, share, slot_of
from bench.serverless.inside import Inside
from bench.servers import END_SECONDS, Tls, ValkeyServer, free_port, wait_for
from bench.servers.lifetime import Equipment

ROOT = Path(__file__).parents[2]
SPIDER, ADMIN = "spider", "admin"
_FIRST_KEY = {"EVAL": 3, "EVALSHA": 3}
_SYSTEM = frozenset(
    {"CONFIG", "INFO", "SCRIPT", "CLIENT", "DEBUG", "FLUSHALL", "PING", "ACL", "KEYS"}
)


def _backend(password: str, *, persistent: bool) -> ValkeyServer:
    return ValkeyServer(
        "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
        "--cluster-require-full-coverage", "no", "--maxmemory-policy", "volatile-lru",
        port=free_port(), password=password, persistent=persistent,
    )  # fmt: skip


class Serverless(Equipment):
    """A cache like ElastiCache Serverless for Valkey, from ``start`` to ``stop``.

    One address, TLS if files for it are given; behind it at least two real servers, each with its
    part of the slots and its own script cache. Its rules, which ``set`` changes, are in
    ``rules.py``. Tests use it like a :class:`ValkeyServer`.
    """

    def __init__(  # noqa: PLR0913 (each is a choice of its own)
        self,
        *,
        port: int | None = None,
        backends: int = 2,
        persistent: bool = False,
        tls: Tls | None = None,
        permissions: str = "~* +@all",
        by_token: Mapping[str, str] | None = None,
        cache: Mapping[str, str] | None = None,
        **rules: Any,
    ) -> None:
        """``permissions``: of the user ``spider``; the user ``admin`` may do everything.

        ``by_token``: names and permissions of users who have no password but tokens for ``cache``
        (name, region, key, secret).
        """
        self.port = port or free_port()
        self.tls = tls
        self.rules: dict[str, Any] = rules
        self._secret = secrets.token_hex(16)
        # One for both, so that the URL of one is that of the other but for the name.
        self._passwords = dict.fromkeys((SPIDER, ADMIN), secrets.token_hex(16))
        self._users = {
            SPIDER: (self._passwords[SPIDER], permissions),
            ADMIN: (self._passwords[ADMIN], "~* &* +@all"),
            **{name: (secrets.token_hex(16), may) for name, may in (by_token or {}).items()},
        }
        self._by_token, self._cache = list(by_token or {}), cache
        self.backends = [_backend(self._secret, persistent=persistent) for _ in range(backends)]
        self._front: subprocess.Popen[str] | None = None

    # -- where it is -------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where spiders find it."""
        return self.url_of(SPIDER)

    @property
    def admin_url(self) -> str:
        """Where those find it who look inside."""
        return self.url_of(ADMIN)

    def url_of(self, user: str, *, port: int | None = None) -> str:
        """The URL of a user, with their password if they have one."""
        password = self._passwords.get(user, "")
        who = f"{user}:{quote(password, safe='')}@" if password else ""
        where = f"{who}127.0.0.1:{port or self.port}"
        if self.tls is None:
            return f"valkey://{where}"
        return f"valkeys://{where}?ssl_ca_certs={quote(os.fspath(self.tls.authority))}"

    def url_through(self, port: int) -> str:
        """Where spiders find it by way of another port."""
        return self.url_of(SPIDER, port=port)

    # -- its life ----------------------------------------------------------------------------------

    def start(self) -> Serverless:
        """Returns when it answers."""
        for number, backend in enumerate(self.backends):
            backend.start()
            if not backend.ask("CLUSTER", "SLOTS"):
                first, last = share(number, len(self.backends))
                backend.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        self._start_front()
        # A node of a cluster takes no writes in the first two seconds of its life.
        for backend in self.backends:
            wait_for(
                lambda backend=backend: "cluster_state:ok" in backend.ask("CLUSTER", "INFO"),
                END_SECONDS, "the backend to serve its slots",
            )  # fmt: skip
        return self

    def _start_front(self) -> None:
        self._control = self.backends[0].directory / "control"
        self._control.unlink(missing_ok=True)
        config = {
            "port": self.port, "control": str(self._control), "secret": self._secret,
            "backends": [str(backend.socket) for backend in self.backends],
            "users": self._users, "by_token": self._by_token, "cache": self._cache,
            "rules": self.rules,
            "tls": self.tls and {"certificate": os.fspath(self.tls.certificate),
                                 "key": os.fspath(self.tls.key)},
        }  # fmt: skip
        self._front = subprocess.Popen(
            [sys.executable, "-m", "bench.serverless.front"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._front.stdin is not None
        assert self._front.stdout is not None
        self._front.stdin.write(json.dumps(config) + "\n")
        self._front.stdin.flush()
        if self._front.stdout.readline() != "ready\n":
            raise RuntimeError("the front does not start: look at its errors above")

    def kill(self) -> None:
        """Ends all of it with SIGKILL; the directories stay."""
        if self._front is not None:
            self._front.kill()
            self._front.wait()
            self._front = None
        for backend in self.backends:
            backend.kill()

    def restart(self) -> None:
        """Starts it on the data it had."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Connections stay open and no answer comes."""
        assert self._front is not None
        self._front.send_signal(signal.SIGSTOP)
        for backend in self.backends:
            backend.freeze()

    def thaw(self) -> None:
        """Goes on."""
        for backend in self.backends:
            backend.thaw()
        assert self._front is not None
        self._front.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it and removes its directories."""
        with ExitStack() as stack:
            for backend in self.backends:
                stack.callback(backend.stop)
            self.kill()

    # -- what it does and has done -----------------------------------------------------------------

    def set(self, **rules: Any) -> None:
        """Changes rules, for what comes from then on."""
        self.rules |= rules
        self._order(set=rules)

    def meter(self, *, reset: bool = False) -> dict[str, Any]:
        """ECPU, calls by command, and what the front answered by itself, since the last reset."""
        return self._order(reset=reset)

    def cut(self) -> None:
        """Resets all connections."""
        self._order(cut=True)

    def _order(self, **order: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(END_SECONDS)
            connection.connect(str(self._control))
            connection.sendall(json.dumps(order).encode() + b"\n")
            with connection.makefile() as answer:
                return dict(json.loads(answer.readline()))

    def ask(self, name: str, *words: str | bytes | int) -> Any:
        """A reply to one command, past the front and its rules: of the key's backend, or of all."""
        if name.upper() in _SYSTEM or not words:
            replies = [backend.ask(name, *words) for backend in self.backends]
            return list(chain.from_iterable(replies)) if name.upper() == "KEYS" else replies[0]
        key = words[_FIRST_KEY.get(name.upper(), 1) - 1]
        return self.backends[self.backend_of(key)].ask(name, *words)

    def backend_of(self, key: str | bytes | int) -> int:
        """The number of the backend that has a key."""
        encoded = key if isinstance(key, bytes) else str(key).encode()
        return slot_of(encoded) * len(self.backends) // SLOTS

    def storage_limit(self, each: int) -> None:
        """Each backend keeps so many bytes from now on, and evicts what has an end."""
        self.ask("CONFIG", "SET", "maxmemory", each)

    def client(self) -> Inside:
        """For those who look inside."""
        return Inside(self.backends)

    def info(self) -> dict[str, Any]:
        """All of INFO of one backend; empty if it does not answer."""
        return self.backends[0].info()
