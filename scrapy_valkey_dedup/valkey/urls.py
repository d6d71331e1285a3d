"""The URL of a server: what it may be, and how much of it messages may show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlencode, urlsplit

from scrapy_valkey_dedup.parsing import text

NOT_SHOWN = "(not shown)"

SERVER, CLUSTER, SENTINEL = "server", "cluster", "sentinel"

_TLS = {"valkey": False, "valkeys": True, "redis": False, "rediss": True}
_PORTS = {SERVER: 6379, CLUSTER: 6379, SENTINEL: 26379}
_RESERVED_OPTIONS = {
    "connection_class",
    "connection_pool",
    "decode_responses",
    "parser_class",
    "protocol",
    "retry",
    "valkey_connect_func",
}
_PERCENT_ENCODE = "percent-encode special characters in user, password and options"
_HINTS = (
    "valkey://, valkeys:// (TLS), unix://, and valkey+cluster://, valkeys+cluster://, "
    "valkey+sentinel://, valkeys+sentinel://, for example valkey://localhost:6379"
)
_ADDRESS = re.compile(
    r"(?:(?:localhost|\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5})?|[a-z0-9-]+(?:\.[a-z0-9-]+)+:\d{2,5})"
    r"(?:/\d{0,2})?",
    re.ASCII,
)
"""Host and port without a scheme, and so surely no password."""
_HOST = r"\[[0-9A-Fa-f:.%]+\]|[^\[\]:,@/\s]+"


@dataclass(frozen=True)
class ServerURL:
    """A URL that was understood: one server, a cluster, or Sentinels and the service they watch."""

    text: str = field(repr=False)
    kind: str
    hosts: tuple[tuple[str, int], ...]
    """Empty for a Unix socket."""
    service: str = ""

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return _TLS.get(self._scheme, False)

    @property
    def has_password(self) -> bool:
        """Whether it names a user or a password."""
        parts = urlsplit(self.text)
        return "@" in parts.netloc or "password" in parse_qs(parts.query, keep_blank_values=True)

    def at(self, host: str, port: int) -> str:
        """The URL, as valkey-py reads it, of one of the servers that it leads to."""
        user, at, _ = urlsplit(self.text).netloc.rpartition("@")
        return f"{self._scheme}://{user}{at}{self._behind_user(host, port)}"

    def without_user(self, host: str, port: int) -> str:
        """The URL of one of the Sentinels: user, password and database are those of the service."""
        rest = self._behind_user(host, port, "username", "password", "db")
        return f"{self._scheme}://{rest}"

    def _behind_user(self, host: str, port: int, *without: str) -> str:
        query = urlsplit(self.text).query
        if without:
            options = parse_qsl(query, keep_blank_values=True)
            query = urlencode([option for option in options if option[0] not in without])
        shown = f"[{host}]" if ":" in host else host
        return f"{shown}:{port}" + (f"?{query}" if query else "")

    @property
    def _scheme(self) -> str:
        return urlsplit(self.text).scheme.partition("+")[0]


def without_user(uri: str) -> str:
    """The URI of a feed without user and password: fit for logs and messages."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


def redacted(url: str) -> str:
    """The URL without user, password and query: fit for logs and messages.

    Where a password ends is not certain if its special characters are not percent-encoded: of such
    a URL, and of one that cannot be read, only the scheme is shown.
    """
    if _ADDRESS.fullmatch(url):
        return url
    scheme = re.match(r"[a-z+]{1,30}://", url)
    hidden = (scheme[0] if scheme else "") + NOT_SHOWN
    try:
        parts = urlsplit(url)
        hosts = _hosts(parts, 0)
    except ValueError:
        return hidden
    if not scheme or _may_hold_password(parts):
        return hidden
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    if not hosts:
        return hidden
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _may_hold_password(parts: SplitResult) -> bool:
    """Whether an ``@`` after the host may be the real end of the password."""
    return bool(parts.netloc) and "@" in parts.path + parts.query + parts.fragment


def _hosts(parts: SplitResult, default: int) -> tuple[tuple[str, int], ...]:
    """The hosts and ports of a URL; their message may not be shown if they cannot be read."""
    written = parts.netloc.rpartition("@")[2]
    found = []
    for place in written.split(",") if written else ():
        match = re.fullmatch(rf"({_HOST})(?::(\d{{1,5}}))?", place, re.ASCII)
        port = int(match[2]) if match and match[2] else default
        if match is None or port > 65535:  # noqa: PLR2004 (the highest port)
            raise ValueError("not a host and port")
        found.append((match[1].strip("[]"), port))
    return tuple(found)


def _has_wrong_port(parts: SplitResult) -> bool:
    """Whether nothing is wrong with the hosts but what stands behind a colon."""
    places = parts.netloc.rpartition("@")[2].split(",")
    return all(re.fullmatch(rf"({_HOST}):[^:\[\]]+|({_HOST})", place) for place in places)


def parsed(url: str) -> ServerURL:
    """Understands a URL.

    Raises:
        ValueError: it is none that this version can use; the message holds no secret.

    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may hold the password
        raise ValueError(f"it cannot be read as a URL; {_PERCENT_ENCODE}") from None
    base, plus, way = parts.scheme.partition("+")
    kind = way if plus else SERVER
    if (base not in _TLS or kind not in _PORTS) and parts.scheme != "unix":
        raise ValueError(_wrong_scheme(url))
    try:
        hosts = _hosts(parts, _PORTS[kind]) if parts.scheme != "unix" else ()
    except ValueError:  # what stands there may be a password
        reason = ": the port is not a number from 0 to 65535" if _has_wrong_port(parts) else ""
        raise ValueError(f"it cannot be read as a URL{reason}; {_PERCENT_ENCODE}") from None
    if not (hosts or (parts.scheme == "unix" and parts.path)):
        raise ValueError(
            "it names no host: write it as in valkey://localhost:6379 (or, for a Unix socket, its "
            "path as in unix:///run/valkey.sock)"
        )
    if _may_hold_password(parts):
        raise ValueError(f"there is an @ after the host; {_PERCENT_ENCODE}")
    _check_options(parts, kind)
    return ServerURL(url, kind, hosts, _service(parts, kind, len(hosts)))


def _wrong_scheme(url: str) -> str:
    """What to write instead of a URL of another kind, or of an address without a scheme."""
    if "://" in url:
        return f"this version speaks {_HINTS}"
    if url.startswith("/"):
        return "it has no scheme: write unix:// before the path, as in unix:///run/valkey.sock"
    place = url if _ADDRESS.fullmatch(url) else "host:6379"
    return (
        f"it has no scheme: write valkey:// before the host, as in valkey://{place} (with TLS, as "
        f"ElastiCache needs it, valkeys://{place})"
    )


def _service(parts: SplitResult, kind: str, hosts: int) -> str:
    """The service that Sentinels watch; checks what stands behind the host."""
    path = parts.path.removeprefix("/")
    if kind == SENTINEL:
        if not path or "/" in path:
            raise ValueError(
                "after the hosts of the Sentinels the name of the service must follow, as in "
                "valkey+sentinel://one:26379,two:26379/posts"
            )
        return unquote(path)
    if kind == CLUSTER and path not in ("", "0"):
        raise ValueError("a cluster has no database but 0; leave it out")
    if kind == SERVER and hosts > 1:
        raise ValueError(
            "it names several hosts; write valkey+cluster:// for a cluster, valkey+sentinel:// for "
            "Sentinels"
        )
    if parts.scheme != "unix" and not re.fullmatch(r"\d*", path, re.ASCII):
        raise ValueError(
            "after the host only the number of a database may follow, as in valkey://localhost/0"
        )
    return ""


def _check_options(parts: SplitResult, kind: str) -> None:
    options = parse_qs(parts.query, keep_blank_values=True)
    refuse_reserved(options)
    if kind == CLUSTER and options.get("db", ["0"]) != ["0"]:
        raise ValueError("a cluster has no database but 0; leave db out")


def server_url(value: Any) -> str | None:
    """The URL of a server, a cluster or Sentinels, or None.

    Raises:
        ValueError: it is none that this version can use; the message holds no secret.
    """
    if value is None or value == "":
        return None
    found = text(value)
    scheme, colon, rest = found.partition(":")
    return parsed(scheme.lower() + colon + rest).text


def database(url: str, options: Mapping[str, Any]) -> str:
    """The number of the database that URL or options choose, as they write it."""
    parts = urlsplit(url)
    return (
        parse_qs(parts.query).get("db", [""])[0]
        or ("" if parts.scheme == "unix" else parts.path.strip("/"))
        or str(options.get("db", 0))
    )


def refuse_reserved(names: Iterable[str]) -> None:
    """Raises a ``ValueError`` if an option for valkey-py is among them that the plugin sets."""
    if reserved := sorted(_RESERVED_OPTIONS.intersection(names)):
        raise ValueError(f"the plugin sets {', '.join(reserved)} itself; leave it out")
