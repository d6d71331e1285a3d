"""The door to Valkey, the only importer of valkey-py: connections, deadlines, errors, scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha1
from typing import Any, TypeAlias, TypeVar

from valkey import exceptions
from valkey.asyncio import ConnectionPool

from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError, LedgerUnavailableError

Argument: TypeAlias = str | bytes | int

_T = TypeVar("_T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts
_REFUSALS = (
    exceptions.AuthenticationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.NoPermissionError,
)


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _packed(arguments: Sequence[Argument]) -> bytes:
    """Arguments as RESP bulk strings."""
    return b"".join(
        [_bulk(part if isinstance(part, bytes) else str(part).encode()) for part in arguments]
    )


def command(*arguments: Argument) -> bytes:
    """A command as RESP. valkey-py's own packer takes 15 us for a script call, this takes 3."""
    return b"*%d\r\n%b" % (len(arguments), _packed(arguments))


@dataclass(frozen=True)
class Script:
    """A Lua script; Valkey knows it by the SHA-1 of its source."""

    name: str
    source: str = field(repr=False)
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        sha = sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)


@dataclass(frozen=True)
class ScriptCall:
    """One run of a script. All keys it touches derive from ``key`` and share its hash tag."""

    script: Script
    key: str
    head: tuple[Argument, ...]
    """The arguments that all calls have in common."""
    rest: Sequence[bytes]

    def command(self) -> bytes:
        """The call as RESP."""
        count = 4 + len(self.head) + len(self.rest)
        opening = _opening(self.script.sha, self.key, self.head)
        return b"*%d\r\n%b%b" % (count, opening, b"".join(map(_bulk, self.rest)))


@lru_cache(maxsize=4096)
def _opening(sha: str, key: str, head: tuple[Argument, ...]) -> bytes:
    return _packed(("EVALSHA", sha, 1, key, *head))


class Server:
    """A Valkey server, asked in pipelines, each within one deadline that covers all its attempts.

    Every command sent from here may be sent again, as its reply may be lost: callers send only what
    means the same twice.

    Raises, from every method that asks: :class:`LedgerUnavailableError`,
    :class:`LedgerRefusedError`; never an exception of valkey-py.
    """

    def __init__(
        self,
        url: str,
        place: str,
        options: Mapping[str, Any],
        timeout: float,
        revive: Callable[[], object] | None = None,
    ) -> None:
        """``place`` is the URL as messages may show it; ``timeout`` is in seconds.

        ``revive`` is called in a thread when a connection fails, before the next attempt: it may
        block, and start a server that has died.
        """
        self._place = place
        self._timeout = timeout
        self._revive = revive
        self._trouble: BaseException | None = None
        defaults: dict[str, Any] = {"socket_connect_timeout": timeout}
        if url.startswith(("valkeys:", "rediss:")):
            defaults["ssl_check_hostname"] = True
        try:
            self._pool = ConnectionPool.from_url(url, **defaults | dict(options))
        except (TypeError, ValueError) as error:
            raise LedgerRefusedError(f"VALKEY_DEDUP_URL {place} cannot be used: {error}") from None

    async def ask(self, *commands: bytes) -> list[Any]:
        """Returns the replies to commands, sent in one round trip."""
        return self._checked(await self._within_deadline(lambda: self._exchange(commands)))

    async def run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Returns a reply for each call, all in one round trip; loads scripts the server lacks."""
        commands = [call.command() for call in calls]
        replies = await self._within_deadline(lambda: self._exchange(commands))
        missing = [
            i for i, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)
        ]
        if missing:
            # A new, a flushed or a promoted server: it has forgotten the scripts.
            sources = {calls[i].script.source for i in missing}
            loads = [command("SCRIPT", "LOAD", source) for source in sources]
            again = await self.ask(*loads, *(commands[i] for i in missing))
            for i, reply in zip(missing, again[len(loads) :], strict=True):
                replies[i] = reply
        return self._checked(replies)

    async def close(self) -> None:
        """Closes all connections."""
        await self._pool.disconnect()

    async def _exchange(self, commands: Sequence[bytes]) -> list[Any]:
        """Sends all commands and reads all replies; an error reply stands in its place."""
        connection = await self._pool.get_connection("")  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command([b"".join(commands)])
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except exceptions.ResponseError as error:
                    replies.append(error)
        except BaseException:
            # Replies may be under way that nobody will read.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)
        return replies

    async def _within_deadline(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        self._trouble = None
        try:
            return await asyncio.wait_for(self._until_answered(attempt), self._timeout)
        except asyncio.TimeoutError:
            why = f": {self._trouble}" if self._trouble else ""
            raise LedgerUnavailableError(
                f"Valkey at {self._place} gave no answer within {self._timeout:g} s "
                f"(VALKEY_DEDUP_TIMEOUT){why}"
            ) from None

    async def _until_answered(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        pause = _FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except _REFUSALS as error:
                raise self._translated(error) from None
            except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
                self._trouble = error
            except exceptions.ValkeyError as error:
                raise self._translated(error) from None
            await self._try_to_revive()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _try_to_revive(self) -> None:
        if self._revive is not None:
            try:
                await asyncio.to_thread(self._revive)
            except DedupError as error:
                self._trouble = error

    def _checked(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._translated(reply) from None
        return replies

    def _translated(self, error: Exception) -> DedupError:
        if isinstance(error, _REFUSALS):
            return LedgerRefusedError(
                f"Valkey at {self._place} refuses: {error}. Check user, password and permissions "
                "in VALKEY_DEDUP_URL or VALKEY_DEDUP_CLIENT_OPTIONS"
            )
        return LedgerUnavailableError(f"Valkey at {self._place} answered with an error: {error}")
