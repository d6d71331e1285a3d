"""The setting ``VALKEY_DEDUP_CREDENTIALS``: the object that gives user and password."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from scrapy_valkey_dedup.model import SettingsError
from scrapy_valkey_dedup.parsing import decoded, loaded
from scrapy_valkey_dedup.valkey.redaction import error_text, name_of, without_secrets

EXAMPLE = '"scrapy_valkey_dedup.aws.ElastiCacheIAM"'

_OPTIONS = {"username", "password", "credential_provider", "valkey_connect_func"}


class Provider(Protocol):
    """An object that gives user and password, as valkey-py's ``CredentialProvider`` does.

    If its attribute ``needs_tls`` is true, it is not used without TLS.
    """

    def get_credentials(self) -> tuple[str, str] | tuple[str]:
        """User and password, or the password alone. It may block: it is called in a thread."""


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
        why = without_secrets(str(error), [value.strip(), *value.strip().split(".")])
        raise ValueError(f"{why}; write the path of a provider, such as {EXAMPLE}") from None


def _made(maker: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    _check_options(maker, options)
    try:
        return maker(**options)
    except SettingsError as error:  # one of ours, which knows what may be shown
        raise ValueError("; ".join(error.faults)) from None
    except Exception as error:  # noqa: BLE001 (it may run any code)
        raise ValueError(
            f"{name_of(maker)} cannot be made: {error_text(error, options.values())}"
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
                f"{name_of(maker)} has no option {option!r:.60}; {hint}it knows "
                + (", ".join(map(repr, known)) or "none")
            )
    for name, entry in known.items():
        if entry.default is Parameter.empty and name not in options:
            raise ValueError(
                f"{name_of(maker)} needs the option {name!r}; write a dict of "
                f'"provider" and its options'
            )


def _whole(found: Any) -> Provider:
    if not callable(getattr(found, "get_credentials", None)):
        raise ValueError(  # noqa: TRY004
            f"{_without_get(found)}, which is asked for user and password"
        )
    return found  # type: ignore[no-any-return]


def _without_get(found: Any) -> str:
    return f"{name_of(found)} has no method get_credentials()"


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
        yield f"{name_of(given)} needs TLS; write valkeys:// in VALKEY_DEDUP_URL"
