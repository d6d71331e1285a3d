"""The URL of a server: what it may look like, and how much of it may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from scrapy_valkey_dedup.values import text

NOT_SHOWN = "(not shown)"

_SCHEMES = ("valkey", "valkeys", "redis", "rediss", "unix")
_RESERVED_OPTIONS = {"decode_responses", "protocol", "connection_pool", "retry", "parser_class"}
_PERCENT_ENCODE = "percent-encode special characters in user, password and options"


def redacted(url: str) -> str:
    """The URL without user, password and query: fit for logs and messages.

    Where a password ends is not certain if its special characters are not percent-encoded: of such
    a URL, and of one that cannot be read, only the scheme is shown.
    """
    scheme = re.match(r"[a-z+]{1,30}://", url)
    hidden = (scheme[0] if scheme else "") + NOT_SHOWN
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (reading it checks it)
    except ValueError:
        return hidden
    if not scheme or _may_hold_password(parts):
        return hidden
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    if not parts.hostname:
        return hidden
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _may_hold_password(parts: SplitResult) -> bool:
    """Whether an ``@`` after the host may be the real end of the password."""
    return bool(parts.netloc) and "@" in parts.path + parts.query + parts.fragment


def server_url(value: Any) -> str | None:
    """The URL of a server, or None.

    Raises:
        ValueError: it is none that this version can use; the message holds no secret.
    """
    if value is None or value == "":
        return None
    found = text(value)
    try:
        parts = urlsplit(found)
        scheme, place = parts.scheme, parts.path if parts.scheme == "unix" else parts.hostname
        parts.port  # noqa: B018 (reading it checks it)
    except ValueError:  # its message may hold the password
        raise ValueError(f"it cannot be read as a URL; {_PERCENT_ENCODE}") from None
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ValueError(f"this version speaks {known}, for example valkey://localhost:6379")
    if not place:
        raise ValueError("it names no host (or, for unix://, no path of a socket)")
    if _may_hold_password(parts):
        raise ValueError(f"there is an @ after the host; {_PERCENT_ENCODE}")
    if scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path, re.ASCII):
        raise ValueError(
            "after the host only the number of a database may follow, as in valkey://localhost/0"
        )
    refuse_reserved(parse_qs(parts.query, keep_blank_values=True))
    return scheme + found[len(scheme) :]


def refuse_reserved(names: Iterable[str]) -> None:
    """Raises a ``ValueError`` if an option for valkey-py is among them that the plugin sets."""
    if reserved := sorted(_RESERVED_OPTIONS.intersection(names)):
        raise ValueError(f"the plugin sets {', '.join(reserved)} itself; leave it out")
