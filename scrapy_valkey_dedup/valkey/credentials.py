"""Who gives user and password: a provider, which each new connection asks, in a thread."""

from __future__ import annotations

import asyncio
import difflib
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from inspect import Parameter
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qs, urlsplit

from scrapy_valkey_dedup.model import (
    CredentialsUnavailableError,
    DedupError,
    LedgerRefusedError,
    LedgerUnavailableError,
    SettingsError,
)
from scrapy_valkey_dedup.parsing import decoded, loaded
from scrapy_valkey_dedup.valkey.urls import NOT_SHOWN

EXAMPLE = '"scrapy_valkey_dedup.aws.ElastiCacheIAM"'

_OPTIONS = {"username", "password", "credential_provider", "valkey_connect_func"}
_LONG_ENOUGH = 4  # characters: what is shorter keeps no secret, and stands in any text


class Provider(Protocol):
    """Whatever gives user and password, as valkey-py's ``CredentialProvider`` does.

    One that has a true attribute ``needs_tls`` is not used without TLS.
    """

    def get_credentials(self) -> tuple[str, str] | tuple[str]:
        """User and password, or the password alone. It may block: it is called in a thread."""


class Connection(Protocol):
    """What is used of valkey-py's connection."""

    username: str | None
    password: str | None
    credential_provider: Any

    async def on_connect(self) -> None:
        """Authenticates, and says who is there."""

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: FBT001, FBT002 (not ours)
        """Closes it."""


# -- the setting -----------------------------------------------------------------------------------


def parse_provider(value: Any) -> Provider | None:
    """What ``VALKEY_DEDUP_CREDENTIALS`` means: a provider, or None.

    It is a provider; or a class or a function that makes one, or its import path; or a dict with
    that as ``"provider"`` and with its keyword arguments.

    Raises:
        ValueError: it is none of these; the message shows nothing of it but names of options.
    """
    value = decoded(value)
    if value is None or value == "":
        return None
    options: dict[str, Any] = {}
    if isinstance(value, Mapping):
        options = dict(value)
        value = options.pop("provider", None)
        if value is None:
            raise ValueError(f'the dict names no "provider", such as {EXAMPLE}')
    found = _found(value)
    if hasattr(found, "get_credentials") and not isinstance(found, type):
        if options:
            raise ValueError("its provider is made already: give the class, or leave out options")
        return _whole(found)
    if not callable(found) or (isinstance(found, type) and not hasattr(found, "get_credentials")):
        raise ValueError(f"{_without_get(found)}; write the path of a provider, such as {EXAMPLE}")
    return _whole(_made(found, options))


def _found(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return loaded(value.strip())
    except ValueError as error:
        why = _hiding(str(error), [value.strip(), *value.strip().split(".")])
        raise ValueError(f"{why}; write the path of a provider, such as {EXAMPLE}") from None


def _made(maker: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    _check_options(maker, options)
    try:
        return maker(**options)
    except SettingsError as error:  # one of ours, which knows what may be shown
        raise ValueError("; ".join(error.faults)) from None
    except Exception as error:  # noqa: BLE001 (it may run any code)
        raise ValueError(
            f"{_name(maker)} cannot be made: {_told(error, options.values())}"
        ) from None


def _check_options(maker: Callable[..., Any], options: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(maker).parameters
    except ValueError:  # of some that are written in C
        return
    by_name = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    known = {name: entry for name, entry in parameters.items() if entry.kind in by_name}
    takes_all = any(entry.kind is Parameter.VAR_KEYWORD for entry in parameters.values())
    for option in options:
        if option not in known and not takes_all:
            close = difflib.get_close_matches(str(option), known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"{_name(maker)} has no option {option!r:.60}; {hint}it knows "
                + (", ".join(map(repr, known)) or "none")
            )
    for name, entry in known.items():
        if entry.default is Parameter.empty and name not in options:
            raise ValueError(
                f"{_name(maker)} needs the option {name!r}; write a dict of "
                f'"provider" and its options'
            )


def _whole(found: Any) -> Provider:
    if not callable(getattr(found, "get_credentials", None)):
        raise ValueError(  # noqa: TRY004
            f"{_without_get(found)}, which is asked for user and password"
        )
    return found  # type: ignore[no-any-return]


def _without_get(found: Any) -> str:
    return f"{_name(found)} has no method get_credentials()"


def credential_conflicts(
    url: str | None, options: Mapping[str, Any], given: Provider | None
) -> Iterable[str]:
    """What in a URL, and in options for valkey-py, contradicts a provider of credentials."""
    if given is None:
        return
    if url is None:
        yield "the embedded server asks for none; set VALKEY_DEDUP_URL, or leave them out"
        return
    parts = urlsplit(url)
    if parts.username or parts.password or _OPTIONS.intersection(parse_qs(parts.query)):
        yield "VALKEY_DEDUP_URL has a user or a password as well; leave them out there"
    if twice := sorted(_OPTIONS.intersection(options)):
        yield f"VALKEY_DEDUP_CLIENT_OPTIONS has {', '.join(twice)} as well; leave it out there"
    secure = parts.scheme.partition("+")[0] in ("valkeys", "rediss")
    if getattr(given, "needs_tls", False) and not secure:
        yield f"{_name(given)} needs TLS; write valkeys:// in VALKEY_DEDUP_URL"


# -- connections -----------------------------------------------------------------------------------

_Given: TypeAlias = tuple[str | None, str]


class _CredentialFetcher:
    """Asks a provider in a thread, since it may ask others over the network.

    Who comes while it is being asked shares the answer: one that hangs holds a single thread.
    """

    def __init__(self, given: Provider, patience: float) -> None:
        self._given = given
        self._patience = patience
        self._asked: asyncio.Future[_Given | DedupError] | None = None

    async def answer(self) -> _Given:
        """User and password, or one of our errors."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.ensure_future(asyncio.to_thread(_ask, self._given))
        asked = self._asked
        await asyncio.wait([asked], timeout=self._patience)
        if not asked.done():
            raise CredentialsUnavailableError(
                f"{_name(self._given)} has given no credentials within {self._patience:g} s"
            )
        answer = asked.result()
        if isinstance(answer, DedupError):
            raise answer.with_traceback(None)
        return answer


def connect_hook(
    given: Provider, patience: float
) -> Callable[[Connection], Coroutine[Any, Any, None]]:
    """What valkey-py is to call as the ``valkey_connect_func`` of its connections.

    ``patience``: how many seconds one attempt waits for the provider.
    """
    inquiry = _CredentialFetcher(given, patience)

    async def authenticate(connection: Connection) -> None:
        try:
            connection.username, connection.password = await inquiry.answer()
            connection.credential_provider = None
            await connection.on_connect()
        except BaseException:
            # valkey-py closes it after errors of its own only. Left open, it would be taken for one
            # that is authenticated.
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
    # The provider stays among them: valkey-py finds out if there is a password as well.
    asking = {"credential_provider": given, "valkey_connect_func": connect_hook(given, patience)}
    return {**options, **asking}


def _ask(given: Provider) -> _Given | DedupError:
    """Runs in a thread."""
    what = f"VALKEY_DEDUP_CREDENTIALS: {_name(given)}.get_credentials()"
    try:
        answer: Any = given.get_credentials()
    except LedgerUnavailableError as error:
        return CredentialsUnavailableError(*error.args)
    except DedupError as error:
        return error
    except Exception as error:  # noqa: BLE001 (it may run any code)
        return LedgerRefusedError(f"{what} failed: {_told(error, _values_of(given))}")
    if (
        isinstance(answer, tuple | list)
        and len(answer) in (1, 2)
        and all(isinstance(part, str) and part for part in answer)
    ):
        return (None, answer[0]) if len(answer) == 1 else (answer[0], answer[1])
    return LedgerRefusedError(
        f"{what} returned something else than user and password, two texts that are not empty"
    )


# -- words that hold no secret ---------------------------------------------------------------------


def _name(found: Any) -> str:
    kind = found if isinstance(found, type) or inspect.isroutine(found) else type(found)
    return getattr(kind, "__name__", "it")


def _values_of(given: Any) -> Iterable[Any]:
    return getattr(given, "__dict__", {}).values()


def _told(error: Exception, secrets: Iterable[Any]) -> str:
    """An error of code that is not ours: its type and its words without what may be secret."""
    words = _hiding(str(error), secrets).rstrip(".")
    return f"{type(error).__name__}: {words:.300}" if words else type(error).__name__


def _hiding(words: str, secrets: Iterable[Any]) -> str:
    texts = {secret for secret in secrets if isinstance(secret, str)}
    for text in sorted(texts, key=len, reverse=True):
        if len(text) >= _LONG_ENOUGH:
            words = words.replace(text, NOT_SHOWN)
    return words
