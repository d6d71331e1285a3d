"""The selftest's part of a server: keys and ledgers of its own, and their removal."""

from __future__ import annotations

import asyncio
import re
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha1
from secrets import token_bytes, token_hex
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from scrapy_valkey_dedup.ledger.keys import END_DIGITS, namespace_tag
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import RUN_NAME_BYTES
from scrapy_valkey_dedup.model import KEY_BYTES, Key
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.client_options import SENTINEL_KWARGS
from scrapy_valkey_dedup.valkey.credentials import with_provider
from scrapy_valkey_dedup.valkey.errors import classify, first_error, is_noscript
from scrapy_valkey_dedup.valkey.provider import Provider
from scrapy_valkey_dedup.valkey.replies import Reaction
from scrapy_valkey_dedup.valkey.resp import Question, Script, ScriptCall, command
from scrapy_valkey_dedup.valkey.topology import route_to
from scrapy_valkey_dedup.valkey.urls import NOT_SHOWN, parsed, redacted

SHORT = 60.0
"""Seconds that entries of the test last, or up to half as long again. They expire by themselves if
they cannot be removed."""
_PAUSES = (0.05, 0.3)  # seconds between attempts
_PATHS = range(2, 10)  # possible digits of a bucket's path, see lua/layout.lua
_AT_ONCE = 1000
_POST = re.compile(rb"[0-9a-f]{2}[0-7]{7}-?\d+")


class _RecordingClient(Client):
    """Records the keys that its script calls may write, so that they can be removed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.posts: defaultdict[str, set[bytes]] = defaultdict(set)
        self.replies: set[str] = set()

    async def run(
        self,
        calls: Sequence[ScriptCall],
        within: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Runs script calls, as :meth:`Client.run` does."""
        for call in calls:
            self.posts[call.key].update(filter(_POST.fullmatch, call.rest))
            if call.script.name == "claim":
                head = [
                    part if isinstance(part, bytes) else str(part).encode() for part in call.head
                ]
                digest = sha1(b" ".join([*head, *call.rest]), usedforsecurity=False).hexdigest()
                self.replies.add(f"{call.key}:r:{digest}")
        return await super().run(calls, within, on_lost)


class Sandbox:
    """A namespace of its own on a server; in an existing namespace, a shelf of its own."""

    def __init__(
        self,
        url: str,
        *,
        options: Mapping[str, Any],
        credentials: Provider | None,
        namespace: str | None,
        timeout: float,
    ) -> None:
        """Does not connect yet. ``timeout``: seconds for one request.

        Raises:
            LedgerRefusedError: URL or options are invalid.

        """
        self.shown = redacted(url)
        self.is_own = namespace is None
        self._mark = f"selftest-{token_hex(6)}"
        self.namespace = self._mark if namespace is None else namespace
        self._shelf = "" if self.is_own else self._mark
        self._root = f"vd1:{{{namespace_tag(self.namespace)}}}"
        part = namespace_tag(self.namespace) + (f"+{self._shelf}" if self._shelf else "")
        self._part = part
        self.partition = self.partition_of("selftest")
        """A partition that no ledger uses."""
        self.server = _RecordingClient(url, self.shown, options, timeout, credentials=credentials)
        attempt = timeout / 2
        self._route = route_to(parsed(url), with_provider(options, credentials, attempt), attempt)
        self._secrets = _passwords(url, options)
        self._keys: dict[str, str] = {}
        self._runs: list[str] = []

    # -- requests ----------------------------------------------------------------------------------

    async def once(self, *arguments: str | bytes | int, key: str = "") -> Any:
        """The reply to a command that is sent once. Raises the error that the server answers."""
        question = Question(key or self._root, (command(*arguments),))
        (outcome,) = await self._route.exchange([question])
        if (error := first_error(outcome)) is not None:
            raise error
        assert isinstance(outcome, list)  # noqa: S101 (else it is an error)
        return outcome[0]

    async def ask(self, *arguments: str | bytes | int, key: str = "") -> Any:
        """The reply to a command. Retries errors that may be temporary."""
        for pause in _PAUSES:
            try:
                return await self.once(*arguments, key=key)
            except Exception as error:
                if classify(error).cure is Reaction.REFUSE or is_noscript(error):
                    raise
            await asyncio.sleep(pause)
        return await self.once(*arguments, key=key)

    async def script(self, source: str, *arguments: bytes, partition: str = "") -> Any:
        """The reply to a script, sent by its SHA-1, and with its source if the server lacks it."""
        key = partition or self.partition
        try:
            sha = Script("selftest", source).sha
            return await self.ask("EVALSHA", sha, 1, key, *arguments, key=key)
        except Exception as error:
            if not is_noscript(error):
                raise
        return await self.ask("EVAL", source, 1, key, *arguments, key=key)

    def partition_of(self, name: str) -> str:
        """The key of a partition; each name has its own slot."""
        return f"vd1:{{{self._part}:{name}}}"

    def key_of_shelf(self, shelf: str) -> str:
        """A new key in a shelf of the namespace: "" for posts, "pages" or "timelines"."""
        part = namespace_tag(self.namespace) + (f"+{shelf}" if shelf else "")
        name = f"vd1:{{{part}:{self._mark}}}"
        self._keys[name] = name
        return name

    def key(self, name: str) -> str:
        """A new key in the slot of the namespace's heartbeats."""
        self._keys[name] = f"{self._root}:selftest:{name}"
        return self._keys[name]

    def key_inside(self, name: str) -> str:
        """A key that a script derives from the key of the partition."""
        self._keys[f"inside {name}"] = f"{self.partition}:{name}"
        return self._keys[f"inside {name}"]

    def ledger(self, run: str = "", **options: Any) -> Ledger:
        """The ledger, as a new run uses it; ``run``: the name of an earlier one instead."""
        run = run or urlsafe_b64encode(token_bytes(RUN_NAME_BYTES)).decode()[:RUN_NAME_BYTES]
        self._runs.append(run)
        options = {"retention": SHORT, "claim_lifetime": SHORT, **options}
        return Ledger(self.server, self.namespace, run, shelf=self._shelf, **options)

    @staticmethod
    def posts(count: int) -> list[Key]:
        """Keys of new posts, spread over all partitions."""
        return [token_bytes(KEY_BYTES) for _ in range(count)]

    @staticmethod
    def neighbours(count: int) -> list[Key]:
        """Keys of new posts that share a bucket on the first and on the second level."""
        head = token_bytes(2)
        return [head + bytes(6) + token_bytes(8) for _ in range(count)]

    def without_secrets(self, words: str) -> str:
        """Removes passwords from a message of the server, which may repeat them."""
        for secret in self._secrets:
            words = words.replace(secret, NOT_SHOWN)
        return words

    # -- removal -----------------------------------------------------------------------------------

    async def clean(self) -> None:
        """Removes all keys of the test. Keys that cannot be removed expire by themselves."""
        names = [*self._keys.values(), *(f"{self._root}:run:{run}" for run in self._runs)]
        if self.is_own:
            names += [f"{self._root}:layout", f"{self._root}:id"]
        for name in names:
            await self.ask("DEL", name, key=name)
        for base, posts in self.server.posts.items():
            await self._clean_partition(base, posts)
        for name in self.server.replies:
            await self.ask("DEL", name, key=name)

    async def _clean_partition(self, base: str, posts: set[bytes]) -> None:
        listed = (await self.ask("GET", base, key=base) or b"").decode()
        ends = [listed[at : at + END_DIGITS] for at in range(0, len(listed), END_DIGITS + 1)]
        paths = {post[:digits].decode() for post in posts for digits in _PATHS}
        names = [base, f"{base}:t", *(f"{base}:c:{post.decode()}" for post in posts)]
        names += [f"{base}:{end}:{path}" for end in ends for path in paths]
        for start in range(0, len(names), _AT_ONCE):
            await self.ask("DEL", *names[start : start + _AT_ONCE], key=base)

    async def close(self) -> None:
        """Closes all connections."""
        await self.server.close()
        await self._route.close()


def _passwords(url: str, options: Mapping[str, Any]) -> list[str]:
    """All passwords, the longest first, as one may be part of another."""
    parts = urlsplit(url)
    written = parts.netloc.rpartition("@")[0].partition(":")[2]
    found = {written, unquote(written), *parse_qs(parts.query).get("password", ())}
    for given in (options, options.get(SENTINEL_KWARGS) or {}):
        password = given.get("password") or ""
        found.add(password.decode(errors="replace") if isinstance(password, bytes) else password)
    return sorted(found - {""}, key=len, reverse=True)
