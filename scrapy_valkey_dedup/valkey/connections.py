"""Connections to one Valkey server, by valkey-py."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from valkey import exceptions
from valkey.asyncio import ConnectionPool, SSLConnection

from scrapy_valkey_dedup.model import LedgerRefusedError
from scrapy_valkey_dedup.valkey.client_options import option_faults
from scrapy_valkey_dedup.valkey.errors import NotHereError, is_retryable
from scrapy_valkey_dedup.valkey.resp import Question

Outcome = list[Any] | Exception
"""The replies to a question, error replies among them; or why it has none."""

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER with a timeout of 0
_WRITE_IT = "write valkey://user:password@host:6379/0, special characters percent-encoded"


class NodeConnections:
    """A pool of connections to one server, each of which carries one exchange at a time."""

    def __init__(self, url: str, place: str, options: Mapping[str, Any]) -> None:
        """Connects to nothing, but finds unknown options and unreadable certificates.

        ``url`` is one that valkey-py reads, ``place`` the URL as messages may show it.

        Raises:
            LedgerRefusedError: URL or options cannot be used.

        """
        # Library name and version (CLIENT SETINFO) would need two more permissions.
        defaults: dict[str, Any] = {"lib_name": None, "lib_version": None}
        if url.startswith(("valkeys:", "rediss:")):
            defaults["ssl_check_hostname"] = True
        try:
            self._pool = ConnectionPool.from_url(url, **defaults | dict(options))
        except (TypeError, ValueError):  # its text may quote a part of the password
            raise LedgerRefusedError(
                f"VALKEY_DEDUP_URL {place} cannot be used: {_WRITE_IT}"
            ) from None
        self._pool.connection_kwargs["decode_responses"] = False
        self._closed = False
        refuse_options(place, "; ".join(option_faults(self._pool.connection_kwargs)))
        try:
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            if isinstance(connection, SSLConnection):
                connection.ssl_context.get()
        except Exception as error:  # noqa: BLE001 (each option has its own errors)
            refuse_options(place, str(error) or type(error).__name__)

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Sends all commands in one round trip."""
        packed = b"".join([part for question in questions for part in question.commands])
        count = sum([len(question.commands) for question in questions])
        try:
            replies = await self._send_and_read(packed, count)
        except Exception as error:  # noqa: BLE001 (errors.py knows what it means)
            # If the pool is closed during an exchange, valkey-py may raise anything.
            return [NotHereError("the server was left") if self._closed else error] * len(questions)
        if count == len(questions):
            return [[reply] for reply in replies]
        each = iter(replies)
        return [[next(each) for _ in question.commands] for question in questions]

    async def _send_and_read(self, packed: bytes, count: int) -> list[Any]:
        if self._closed:
            raise NotHereError("the server was left")
        connection = await self._pool.get_connection("")  # type: ignore[no-untyped-call]
        stream, writer = getattr(connection, "_reader", None), getattr(connection, "_writer", None)
        try:
            await connection.send_packed_command([packed])
            replies: list[Any] = []
            for _ in range(count):
                try:
                    replies.append(await connection.read_response())
                except exceptions.ResponseError as error:
                    replies.append(error)
            if any(map(is_retryable, replies)):
                # The address may lead to another server by now, as after a failover.
                await connection.disconnect(nowait=True)
        except BaseException as error:
            # Replies may be on their way that would not be read.
            _abort(writer)  # by now valkey-py may have begun to close it in order
            await connection.disconnect(nowait=True)
            # "Connection lost" is all that valkey-py says when TLS is ended while it writes.
            reason = stream.exception() if stream is not None else None
            if isinstance(error, exceptions.ConnectionError) and isinstance(reason, ssl.SSLError):
                raise reason from error
            raise
        finally:
            await self._pool.release(connection)
            if self._closed:
                await connection.disconnect(nowait=True)
        return replies

    def node_of(self, _: str) -> str:
        """All keys are on one server."""
        return ""

    async def close(self) -> None:
        """Closes all connections; those in use as soon as they are free."""
        self._closed = True
        with suppress(exceptions.ValkeyError, OSError):  # a peer that does not end TLS properly
            await self._pool.disconnect(inuse_connections=False)


def refuse_options(place: str, why: str) -> None:
    """Refuses the options if there is a reason to."""
    if why:
        raise LedgerRefusedError(
            f"VALKEY_DEDUP_CLIENT_OPTIONS, or the options in VALKEY_DEDUP_URL {place}, "
            f"cannot be used: {why}"
        ) from None


def _abort(writer: asyncio.StreamWriter | None) -> None:
    """Has the kernel drop what is not sent yet: after a normal close it would try for minutes."""
    if writer is None:
        return
    with suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    writer.transport.abort()
