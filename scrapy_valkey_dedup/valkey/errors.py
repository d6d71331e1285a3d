"""What an error of Valkey or valkey-py means: ask again, treat it as an outage, or refuse."""

from __future__ import annotations

import re
import ssl

from valkey import exceptions

from scrapy_valkey_dedup.docs import linked
from scrapy_valkey_dedup.model import (
    CommandRefusedError,
    CredentialsUnavailableError,
    DedupError,
    LedgerRefusedError,
    LedgerReplyError,
    LedgerUnavailableError,
    UnknownReplyError,
)
from scrapy_valkey_dedup.valkey.replies import (
    CREDENTIALS,
    SLOW_DOWN,
    UNABLE,
    Fault,
    Reaction,
    by_pattern,
    by_prefix,
    is_throttled,
    without_arguments,
)


class NotHereError(Exception):
    """The key is served by another node of the cluster, or by none at this moment."""


_NOT_VALKEY = "this is not a Valkey server"

_TRUST = (
    "Check the host name in VALKEY_DEDUP_URL, and ssl_ca_certs (for a certificate of your own: "
    "ssl_certfile and ssl_keyfile) in VALKEY_DEDUP_CLIENT_OPTIONS"
)

# By class where valkey-py has one: it removes the first word of the text then. Subclasses first.
_BY_CLASS: tuple[tuple[type[BaseException], Fault], ...] = (
    (exceptions.AuthenticationError, Fault(Reaction.REFUSE, CREDENTIALS)),  # NOAUTH, WRONGPASS
    (exceptions.AuthenticationWrongNumberOfArgsError, Fault(Reaction.REFUSE, CREDENTIALS)),
    (exceptions.AuthorizationError, Fault(Reaction.REFUSE, CREDENTIALS)),
    (exceptions.NoPermissionError, Fault(Reaction.REFUSE, CREDENTIALS)),
    (ssl.SSLCertVerificationError, Fault(Reaction.REFUSE, _TRUST)),
    (exceptions.BusyLoadingError, Fault(Reaction.RETRY, "it is loading its data after a start")),
    (
        exceptions.ReadOnlyError,
        Fault(
            Reaction.RETRY,
            "it is a replica, as it may be during a failover; if that lasts, let VALKEY_DEDUP_URL "
            "name the primary, the Sentinels or the cluster",
        ),
    ),
    (NotHereError, Fault(Reaction.RETRY)),
    (CredentialsUnavailableError, Fault(Reaction.RETRY)),
    (
        exceptions.OutOfMemoryError,
        Fault(
            Reaction.OUTAGE,
            "its memory is full: raise maxmemory (ElastiCache: the storage limit), or shorten "
            "VALKEY_DEDUP_RETENTION",
        ),
    ),
    (
        exceptions.InvalidResponse,
        Fault(Reaction.RETRY, _NOT_VALKEY),
    ),
    (exceptions.ConnectionError, Fault(Reaction.RETRY)),
    (exceptions.TimeoutError, Fault(Reaction.RETRY)),
    (OSError, Fault(Reaction.RETRY)),
)

_UNEXPECTED = Fault(Reaction.OUTAGE)
_UNKNOWN = Fault(Reaction.UNKNOWN)

# What the server says of our certificate, or of its absence (TLS 1.2: the last one).
# Source: https://www.rfc-editor.org/rfc/rfc8446#section-6.2, as OpenSSL names it.
_ALERTS = re.compile("ALERT_.*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)")
_NOT_TRUSTED_THERE = Fault(
    Reaction.REFUSE,
    "It asks this machine for a certificate from an authority that it trusts: set ssl_certfile and "
    "ssl_keyfile in VALKEY_DEDUP_CLIENT_OPTIONS",
)


def _known(error: BaseException | None) -> Fault | None:
    if error is None:
        return None
    if isinstance(error, ssl.SSLError) and _ALERTS.search(error.reason or ""):
        return _NOT_TRUSTED_THERE
    text = str(error)
    if (found := by_prefix(text)) is not None:
        return found
    # Not for the error of a connection, which names the host.
    is_reply = isinstance(error, exceptions.ResponseError)
    if is_reply and not isinstance(error, exceptions.NoPermissionError) and is_throttled(text):
        return SLOW_DOWN
    return next((found for kind, found in _BY_CLASS if isinstance(error, kind)), _of_reply(error))


def _of_reply(error: BaseException) -> Fault | None:
    """The meaning of an error without a class of its own; None if it is not a reply."""
    if not isinstance(error, exceptions.ResponseError):
        return None
    return by_pattern(str(error)) or _UNKNOWN


def _cause(error: BaseException) -> BaseException:
    """The error behind it: valkey-py wraps some refusals in other errors."""
    inner = _known(error.__context__)
    refused = inner is not None and inner.cure is Reaction.REFUSE
    return error.__context__ if refused and error.__context__ is not None else error


def classify(error: BaseException) -> Fault:
    """The meaning of an error."""
    return _known(_cause(error)) or _UNEXPECTED


def first_error(outcome: object) -> Exception | None:
    """The first error in the outcome of a question: a list of replies, or an exception."""
    if isinstance(outcome, Exception):
        return outcome
    if isinstance(outcome, list):
        return next((reply for reply in outcome if isinstance(reply, Exception)), None)
    return None


def is_unexpected(error: BaseException) -> bool:
    """Whether it is a bug, of valkey-py or of this package: nothing raises it on purpose."""
    return not isinstance(
        error, (exceptions.ValkeyError, OSError, NotHereError, DedupError, TimeoutError)
    )


def is_noscript(reply: object) -> bool:
    """Whether it is NOSCRIPT."""
    return isinstance(reply, exceptions.NoScriptError)


def is_retryable(reply: object) -> bool:
    """Whether another connection to the same address may lead to a server that can do it."""
    if not isinstance(reply, Exception):
        return False
    found = _known(reply)
    return found is not None and found.cure is Reaction.RETRY


def redirection(reply: object) -> tuple[bool, str, int] | None:
    """Of MOVED and ASK: whether for good, the host ("": the one that was asked), and the port."""
    if not isinstance(reply, exceptions.ResponseError):
        return None
    found = re.match(r"(MOVED|ASK) \d+ (.*):(\d+)", str(reply))
    return (found[1] == "MOVED", found[2], int(found[3])) if found else None


def as_dedup_error(error: BaseException, place: str) -> DedupError:
    """The package's error for one that asking again does not cure. ``place``: the URL as shown."""
    if isinstance(error, DedupError):
        return error
    cure, hint = classify(error)
    if cure is Reaction.REFUSE:
        cause = _cause(error)
        untrusted = isinstance(cause, ssl.SSLCertVerificationError)
        deed = "is not trusted" if untrusted else "refuses"
        kind = CommandRefusedError if classify(error) is UNABLE else LedgerRefusedError
        return kind(f"Valkey at {place} {deed}: {message_of(cause)}. {linked(hint)}")
    said = f"{message_of(error)}; {hint}" if hint else message_of(error)
    return LedgerReplyError(f"Valkey at {place} answered with an error: {said}")


def deadline_error(
    error: BaseException | None, place: str, deadline: str, doubt: str = ""
) -> DedupError:
    """The package's error after the ``deadline`` (in words); ``error`` was the answer so far.

    ``doubt`` is added if it is not known whether there is a server.
    """
    cure, hint = (None, "") if error is None else classify(error)
    if doubt and hint is _NOT_VALKEY:
        return LedgerUnavailableError(
            f"At {place} something answers that is not a Valkey server ({message_of(error)}){doubt}"
        )
    if cure is Reaction.UNKNOWN:
        return UnknownReplyError(
            f"Valkey at {place} answered with an error, again and again {deadline}: "
            f"{message_of(error)}"
        )
    deed = "throttled every request" if cure is Reaction.SLOW_DOWN else "gave no answer"
    return LedgerUnavailableError(f"Valkey at {place} {deed} {deadline}{because_of(error)}{doubt}")


def message_of(error: BaseException | None) -> str:
    """The text of an error, without a final dot; its type if it has none."""
    return without_arguments(str(error)) or type(error).__name__


def because_of(error: BaseException | None) -> str:
    """The text of an error that came again and again, with its hint."""
    if error is None:
        return ""
    hint = classify(error).hint
    return f": {message_of(error)}" + (f"; {hint}" if hint else "")
