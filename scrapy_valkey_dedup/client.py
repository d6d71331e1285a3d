"""The door to Valkey, the only importer of valkey-py: connections, deadlines, errors, scripts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha1
from typing import Any, TypeAlias, TypeVar

from valkey import exceptions
from valkey.asyncio import ConnectionPool, SSLConnection

from scrapy_valkey_dedup.credentials import CredentialsUnavailableError, Provider, with_provider
from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError, LedgerUnavailableError

Argument: TypeAlias = str | bytes | int

_T = TypeVar("_T")
_SLICES = 10
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts
_DENIALS = (
    exceptions.AuthenticationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.NoPermissionError,
)
_DENIED_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")
_PASSING = ("CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN")  # first words of errors that a failover cures
_MAY_PASS = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    OSError,
    CredentialsUnavailableError,
)
_WRITE_IT = "write valkey://user:password@host:6379/0, special characters percent-encoded"


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

    def __init__(  # noqa: PLR0913 (all that a connection depends on)
        self,
        url: str,
        place: str,
        options: Mapping[str, Any],
        timeout: float,
        revive: Callable[[], object] | None = None,
        *,
        credentials: Provider | None = None,
    ) -> None:
        """``place`` is the URL as messages may show it; ``timeout`` is in seconds.

        ``credentials``, if there are any, are asked for by each connection that is made.

        ``revive`` is called in a thread when a connection fails, before the next attempt: it may
        block, and start a server that has died.
        """
        self._place = place
        self._timeout = timeout
        self._revive = revive
        self._revival: asyncio.Future[DedupError | None] | None = None
        self._trouble: BaseException | None = None
        self._pool = self._make_pool(url, with_provider(options, credentials, timeout / 2))

    async def ask(self, *commands: bytes) -> list[Any]:
        """Returns the replies to commands, sent in one round trip."""
        return self._checked(await self._within_deadline(lambda: self._exchange(commands)))

    async def run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Returns a reply for each call, all in one round trip; loads scripts the server lacks."""
        return self._checked(await self._within_deadline(lambda: self._run(calls)))

    async def close(self) -> None:
        """Closes all connections."""
        with suppress(exceptions.ValkeyError, OSError):  # a peer that does not take its leave
            await self._pool.disconnect()

    def _make_pool(self, url: str, options: Mapping[str, Any]) -> ConnectionPool:
        # Half the deadline for one attempt: a connection that went dead unnoticed, as behind a NAT
        # gateway or at a failover, is replaced while the question still has time.
        attempt = self._timeout / 2
        defaults: dict[str, Any] = {"socket_timeout": attempt, "socket_connect_timeout": attempt}
        if url.startswith(("valkeys:", "rediss:")):
            defaults["ssl_check_hostname"] = True
        try:
            pool = ConnectionPool.from_url(url, **defaults | dict(options))
        except (TypeError, ValueError):  # its text may quote a part of the password
            raise LedgerRefusedError(
                f"VALKEY_DEDUP_URL {self._place} cannot be used: {_WRITE_IT}"
            ) from None
        pool.connection_kwargs["decode_responses"] = False
        try:
            # Connects to nothing, but finds unknown options and unreadable certificates now.
            connection = pool.make_connection()  # type: ignore[no-untyped-call]
            if isinstance(connection, SSLConnection):
                connection.ssl_context.get()
        except Exception as error:  # noqa: BLE001 (each option has errors of its own)
            raise LedgerRefusedError(
                f"VALKEY_DEDUP_CLIENT_OPTIONS, or the options in VALKEY_DEDUP_URL {self._place}, "
                f"cannot be used: {error}"
            ) from None
        return pool

    async def _run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        commands = [call.command() for call in calls]
        replies = await self._exchange(commands)
        while missing := [
            i for i, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)
        ]:
            # A new, a flushed or a promoted server: it has forgotten the scripts.
            sources = {calls[i].script.source for i in missing}
            loads = [command("SCRIPT", "LOAD", source) for source in sources]
            again = await self._exchange([*loads, *(commands[i] for i in missing)])
            self._checked(again[: len(loads)])
            for i, reply in zip(missing, again[len(loads) :], strict=True):
                replies[i] = reply
        return replies

    async def _exchange(self, commands: Sequence[bytes]) -> list[Any]:
        """Sends all commands and reads all replies; an error reply stands in its place.

        An error that says "not here, not now" is raised: the next attempt takes a new connection,
        which may lead to the new primary.
        """
        connection = await self._pool.get_connection("")  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command([b"".join(commands)])
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except exceptions.ResponseError as error:
                    if _is_passing(error):
                        raise exceptions.ConnectionError(str(error)) from None
                    replies.append(error)
        except BaseException:
            # Replies may be under way that nobody will read.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)
        return replies

    async def _within_deadline(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        # Not wait_for, which before Python 3.12 may swallow a cancellation, and which waits until
        # what it has cancelled has ended.
        self._trouble = None
        question = asyncio.ensure_future(self._until_answered(attempt))
        try:
            # In slices, each of which counts for what it should have taken: a pause of this process
            # (a pipeline that blocks the loop, a suspended machine) is no silence of Valkey's.
            for _ in range(_SLICES):
                await asyncio.wait([question], timeout=self._timeout / _SLICES)
                if question.done():
                    return question.result()
        finally:
            question.cancel()
        why = f": {_words(self._trouble)}" if self._trouble else ""
        raise LedgerUnavailableError(
            f"Valkey at {self._place} gave no answer within {self._timeout:g} s "
            f"(VALKEY_DEDUP_TIMEOUT){why}"
        )

    async def _until_answered(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        pause = _FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except _MAY_PASS as error:
                if (refusal := self._refusal(error)) is not None:
                    raise refusal from None
                self._trouble = error
            except exceptions.ValkeyError as error:
                raise self._translated(error) from None
            except DedupError:
                raise
            except Exception as error:
                # A fault of valkey-py's own, or of ours: a question that failed all the same, and
                # the outage policy is the better answer than a post that is not stored.
                raise self._translated(error) from error
            await self._try_to_revive()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _try_to_revive(self) -> None:
        if self._revive is None:
            return
        if self._revival is None or self._revival.done():
            # One at a time: each may hold its thread for long.
            self._revival = asyncio.ensure_future(asyncio.to_thread(self._revive_now))
        await asyncio.wait([self._revival])
        self._trouble = self._revival.result() or self._trouble

    def _revive_now(self) -> DedupError | None:
        """Runs in a thread."""
        try:
            if self._revive is not None:
                self._revive()
        except DedupError as error:
            return error
        return None

    def _checked(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._translated(reply) from None
        return replies

    def _translated(self, error: Exception) -> DedupError:
        return self._refusal(error) or LedgerUnavailableError(
            f"Valkey at {self._place} answered with an error: {_words(error)}"
        )

    def _refusal(self, error: Exception) -> DedupError | None:
        """What to raise if waiting cures nothing. valkey-py wraps some causes in other errors."""
        for cause in (error, error.__context__):
            if isinstance(cause, _DENIALS) or str(cause).startswith(_DENIED_IN_SCRIPT):
                return LedgerRefusedError(
                    f"Valkey at {self._place} refuses: {_words(cause)}. Check user, password and "
                    "permissions in VALKEY_DEDUP_URL, VALKEY_DEDUP_CLIENT_OPTIONS or "
                    "VALKEY_DEDUP_CREDENTIALS"
                )
            if isinstance(cause, ssl.SSLCertVerificationError):
                return LedgerRefusedError(
                    f"Valkey at {self._place} is not trusted: {_words(cause)}. Check the host name "
                    "in VALKEY_DEDUP_URL and ssl_ca_certs in VALKEY_DEDUP_CLIENT_OPTIONS"
                )
        return None


def _is_passing(error: Exception) -> bool:
    return isinstance(error, exceptions.ReadOnlyError) or str(error).startswith(_PASSING)


def _words(error: BaseException | None) -> str:
    return str(error).rstrip(".")
