"""What an error of Valkey's or of valkey-py's means: wait and ask again, give up, or refuse."""

from __future__ import annotations

import re
import ssl
from enum import Enum
from typing import NamedTuple

from valkey import exceptions

from scrapy_valkey_dedup.model import (
    CredentialsUnavailableError,
    DedupError,
    LedgerRefusedError,
    LedgerReplyError,
    LedgerUnavailableError,
)


class Cure(Enum):
    """What helps against a fault."""

    RETRY = "ask again in a moment"
    OUTAGE = "asking again at once does not help, but time may"
    REFUSE = "time does not help"


class Fault(NamedTuple):
    """What a fault is called for, and what the user can do."""

    cure: Cure
    hint: str = ""


class NotHereError(Exception):
    """A cluster serves a key elsewhere, or by nobody at this moment."""


_CREDENTIALS = (
    "Check user, password and permissions in VALKEY_DEDUP_URL, VALKEY_DEDUP_CLIENT_OPTIONS or "
    "VALKEY_DEDUP_CREDENTIALS; docs/security.md has the permissions that are needed"
)
_TRUST = (
    "Check the host name in VALKEY_DEDUP_URL, and ssl_ca_certs (for a certificate of your own: "
    "ssl_certfile and ssl_keyfile) in VALKEY_DEDUP_CLIENT_OPTIONS"
)

# By class where valkey-py has one: it takes the first word off the text then. Subclasses first.
_BY_CLASS: tuple[tuple[type[BaseException], Fault], ...] = (
    (exceptions.AuthenticationError, Fault(Cure.REFUSE, _CREDENTIALS)),  # NOAUTH, WRONGPASS
    (exceptions.AuthenticationWrongNumberOfArgsError, Fault(Cure.REFUSE, _CREDENTIALS)),
    (exceptions.AuthorizationError, Fault(Cure.REFUSE, _CREDENTIALS)),
    (exceptions.NoPermissionError, Fault(Cure.REFUSE, _CREDENTIALS)),
    (ssl.SSLCertVerificationError, Fault(Cure.REFUSE, _TRUST)),
    (exceptions.BusyLoadingError, Fault(Cure.RETRY, "it is loading its data after a start")),
    (
        exceptions.ReadOnlyError,
        Fault(
            Cure.RETRY,
            "it is a replica, as it may be during a failover; if that lasts, let VALKEY_DEDUP_URL "
            "name the primary, the Sentinels or the cluster",
        ),
    ),
    (NotHereError, Fault(Cure.RETRY)),
    (CredentialsUnavailableError, Fault(Cure.RETRY)),
    (
        exceptions.OutOfMemoryError,
        Fault(
            Cure.OUTAGE,
            "its memory is full: raise maxmemory (ElastiCache: the storage limit), or shorten "
            "VALKEY_DEDUP_RETENTION",
        ),
    ),
    (
        exceptions.InvalidResponse,
        Fault(Cure.RETRY, "something else than Valkey answers there"),
    ),
    (exceptions.ConnectionError, Fault(Cure.RETRY)),
    (exceptions.TimeoutError, Fault(Cure.RETRY)),
    (OSError, Fault(Cure.RETRY)),
)

# By their first words, which stand there where valkey-py has no class for them.
_BY_WORDS: tuple[tuple[tuple[str, ...], Fault], ...] = (
    (
        ("MOVED ", "ASK "),
        Fault(
            Cure.REFUSE,
            "It is a node of a cluster: write valkey+cluster:// (with TLS valkeys+cluster://) in "
            "VALKEY_DEDUP_URL",
        ),
    ),
    (
        # Valkey 7.2 to 9, and Redis 7.0, for a command or a key that only the script touches.
        ("ACL failure in script", "The user executing the script can't"),
        Fault(Cure.REFUSE, _CREDENTIALS),
    ),
    (
        ("This instance has cluster support disabled", "unknown command 'CLUSTER'"),
        Fault(Cure.REFUSE, "It is no cluster: write valkey:// or valkeys:// in VALKEY_DEDUP_URL"),
    ),
    (
        ("unknown command 'SENTINEL'",),
        Fault(
            Cure.REFUSE,
            "It is no Sentinel: let VALKEY_DEDUP_URL name the Sentinels, or write valkey:// or "
            "valkeys://",
        ),
    ),
    (
        ("DB index is out of range", "invalid DB index", "SELECT is not allowed in cluster mode"),
        Fault(Cure.REFUSE, "It has no such database: leave its number out of VALKEY_DEDUP_URL"),
    ),
    (
        # A slot that is being migrated, key by key, and the script meets one that has gone.
        (
            "Attempted to access a non local key",  # Valkey
            "Script attempted to access a non local key",  # Redis 7.0
        ),
        Fault(Cure.RETRY, "the slot is being migrated"),
    ),
    (
        ("CLUSTERDOWN",),
        Fault(Cure.RETRY, "the cluster does not serve all slots: look at its nodes"),
    ),
    (("MASTERDOWN",), Fault(Cure.RETRY, "it is a replica that has lost its primary")),
    (("TRYAGAIN",), Fault(Cure.RETRY, "the slot is being migrated")),
    (
        ("NOREPLICAS",),
        Fault(
            Cure.RETRY,
            "it takes no writes while it has too few replicas (min-replicas-to-write)",
        ),
    ),
    (
        # A connection that was reset a moment ago is written to: CPython's writelines, from 3.12
        # on, looks at the transport's socket and not whether it has been lost.
        ("'NoneType' object has no attribute '_add_writer'",),
        Fault(Cure.RETRY, "the connection was reset"),
    ),
    (("BUSY",), Fault(Cure.RETRY, "a script of somebody's has been running for too long there")),
    (
        ("MISCONF",),
        Fault(Cure.OUTAGE, "it takes no writes because it cannot save its data: look at its log"),
    ),
)
_UNFORESEEN = Fault(Cure.OUTAGE)

# What the other side of TLS says of our certificate, or of having none (TLS 1.2: the last).
# Source: https://www.rfc-editor.org/rfc/rfc8446#section-6.2, as OpenSSL names it.
_ALERTS = re.compile("ALERT_.*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)")
_NOT_TRUSTED_THERE = Fault(
    Cure.REFUSE,
    "It wants a certificate of this machine's, signed by an authority that it trusts: ssl_certfile "
    "and ssl_keyfile in VALKEY_DEDUP_CLIENT_OPTIONS",
)


def _known(error: BaseException | None) -> Fault | None:
    if error is None:
        return None
    if isinstance(error, ssl.SSLError) and _ALERTS.search(error.reason or ""):
        return _NOT_TRUSTED_THERE
    text = str(error)
    for starts, found in _BY_WORDS:
        if text.startswith(starts):
            return found
    for kind, found in _BY_CLASS:
        if isinstance(error, kind):
            return found
    return None


def _cause(error: BaseException) -> BaseException:
    """What is at the bottom of it: valkey-py wraps some refusals in errors of its own."""
    inner = _known(error.__context__)
    refused = inner is not None and inner.cure is Cure.REFUSE
    return error.__context__ if refused and error.__context__ is not None else error


def fault(error: BaseException) -> Fault:
    """What the error means."""
    return _known(_cause(error)) or _UNFORESEEN


def error_in(outcome: object) -> Exception | None:
    """The first error in what came of a question: a list of replies, or an exception."""
    if isinstance(outcome, Exception):
        return outcome
    if isinstance(outcome, list):
        return next((reply for reply in outcome if isinstance(reply, Exception)), None)
    return None


def is_unforeseen(error: BaseException) -> bool:
    """Whether nobody raises it on purpose: a fault of valkey-py's, or of ours."""
    return not isinstance(
        error, (exceptions.ValkeyError, OSError, NotHereError, DedupError, TimeoutError)
    )


def lacks_script(reply: object) -> bool:
    """Whether it is NOSCRIPT."""
    return isinstance(reply, exceptions.NoScriptError)


def leads_elsewhere(reply: object) -> bool:
    """Whether another connection to the same address may lead to a server that can do it."""
    if not isinstance(reply, Exception):
        return False
    found = _known(reply)
    return found is not None and found.cure is Cure.RETRY


def redirection(reply: object) -> tuple[bool, str, int] | None:
    """Of MOVED and ASK: whether for good, the host ("": the one that was asked), and the port."""
    if not isinstance(reply, exceptions.ResponseError):
        return None
    found = re.match(r"(MOVED|ASK) \d+ (.*):(\d+)", str(reply))
    return (found[1] == "MOVED", found[2], int(found[3])) if found else None


def translated(error: BaseException, place: str) -> DedupError:
    """Our error for one that asking again does not cure. ``place`` is the URL as it is shown."""
    if isinstance(error, DedupError):
        return error
    cure, hint = fault(error)
    if cure is Cure.REFUSE:
        cause = _cause(error)
        untrusted = isinstance(cause, ssl.SSLCertVerificationError)
        deed = "is not trusted" if untrusted else "refuses"
        return LedgerRefusedError(f"Valkey at {place} {deed}: {words(cause)}. {hint}")
    said = f"{words(error)}; {hint}" if hint else words(error)
    kind = LedgerReplyError if cure is Cure.OUTAGE else LedgerUnavailableError
    return kind(f"Valkey at {place} answered with an error: {said}")


def words(error: BaseException | None) -> str:
    """The text of an error, without a final dot; its type if it has none."""
    return str(error).rstrip(".") or type(error).__name__


def explained(error: BaseException | None) -> str:
    """The text of an error that was met while asking again and again, with its hint."""
    if error is None:
        return ""
    hint = fault(error).hint
    return f": {words(error)}" + (f"; {hint}" if hint else "")
