"""User and password of each new connection, from a provider that is asked in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeAlias

from scrapy_valkey_dedup.model import (
    CredentialsUnavailableError,
    DedupError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from scrapy_valkey_dedup.valkey.provider import Provider
from scrapy_valkey_dedup.valkey.redaction import error_text, name_of, values_of


class Connection(Protocol):
    """What is used of valkey-py's connection."""

    username: str | None
    password: str | None
    credential_provider: Any

    async def on_connect(self) -> None:
        """Authenticates, and sends what a new connection needs."""

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: FBT001, FBT002 (not ours)
        """Closes it."""


_Credentials: TypeAlias = tuple[str | None, str]


class _CredentialFetcher:
    """Asks a provider in a thread, as it may use the network.

    Connections that need credentials meanwhile share the answer: a provider that hangs holds only
    one thread.
    """

    def __init__(self, given: Provider, patience: float) -> None:
        self._given = given
        self._patience = patience
        self._asked: asyncio.Future[_Credentials | DedupError] | None = None

    async def answer(self) -> _Credentials:
        """User and password, or one of our errors."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.ensure_future(asyncio.to_thread(_ask, self._given))
        asked = self._asked
        await asyncio.wait([asked], timeout=self._patience)
        if not asked.done():
            raise CredentialsUnavailableError(
                f"{name_of(self._given)} gave no credentials within {self._patience:g} s"
            )
        answer = asked.result()
        if isinstance(answer, DedupError):
            raise answer.with_traceback(None)
        return answer


def connect_hook(
    given: Provider, patience: float
) -> Callable[[Connection], Coroutine[Any, Any, None]]:
    """The ``valkey_connect_func`` of connections, which valkey-py calls for each new one.

    ``patience``: how many seconds one attempt waits for the provider.
    """
    inquiry = _CredentialFetcher(given, patience)

    async def authenticate(connection: Connection) -> None:
        try:
            connection.username, connection.password = await inquiry.answer()
            connection.credential_provider = None
            await connection.on_connect()
        except BaseException:
            # valkey-py closes it only after its own errors. Left open, it would count as
            # authenticated.
            await connection.disconnect(nowait=True)
            raise
        finally:
            connection.username = connection.password = None

    return authenticate


def with_provider(
    options: Mapping[str, Any], given: Provider | None, patience: float
) -> Mapping[str, Any]:
    """Options for valkey-py with which its connections ask a provider, given here or among them."""
    given = given or options.get("credential_provider")
    if given is None or "valkey_connect_func" in options:
        return options
    # The provider stays in the options: valkey-py refuses a password next to it.
    asking = {"credential_provider": given, "valkey_connect_func": connect_hook(given, patience)}
    return {**options, **asking}


def _ask(given: Provider) -> _Credentials | DedupError:
    """Runs in a thread."""
    what = f"VALKEY_DEDUP_CREDENTIALS: {name_of(given)}.get_credentials()"
    try:
        answer: Any = given.get_credentials()
    except LedgerUnavailableError as error:
        return CredentialsUnavailableError(*error.args)
    except DedupError as error:
        return error
    except Exception as error:  # noqa: BLE001 (it may run any code)
        return LedgerRefusedError(f"{what} failed: {error_text(error, values_of(given))}")
    if (
        isinstance(answer, tuple | list)
        and len(answer) in (1, 2)
        and all(isinstance(part, str) and part for part in answer)
    ):
        return (None, answer[0]) if len(answer) == 1 else (answer[0], answer[1])
    return LedgerRefusedError(f"{what} must return user and password, two texts that are not empty")
