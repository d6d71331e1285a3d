"""Which values the options for valkey-py may have: it accepts any, and fails later."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

SENTINEL_KWARGS = "sentinel_kwargs"
"""Options for connections to Sentinels, as valkey-py calls them."""


class _Kind(NamedTuple):
    holds: Callable[[Any], bool]
    cure: str


def _is_number(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and _is_number(value, least)


_SECONDS = _Kind(lambda value: _is_number(value, 0) and value > 0, "write seconds, above 0")
_PAUSE = _Kind(lambda value: _is_number(value, 0), "write seconds, or 0")
_COUNT = _Kind(lambda value: _is_whole(value, 1), "write a whole number, 1 or more")
_DATABASE = _Kind(
    lambda value: _is_whole(value, 0) or (isinstance(value, str) and value.isdecimal()),
    "write the number of a database",
)
_CODE = _Kind(lambda value: isinstance(value, int), "write a number, such as one of module ssl")
_TEXT = _Kind(lambda value: isinstance(value, str | bytes), "write a text")
_FILE = _Kind(lambda value: isinstance(value, str | os.PathLike), "write the path of a file")
_FLAG = _Kind(lambda value: value in (True, False), "write True or False")
_LIST = _Kind(lambda value: isinstance(value, list | tuple), "write a list")
_DICT = _Kind(lambda value: isinstance(value, Mapping), "write a dict")
_PROVIDER = _Kind(
    lambda value: callable(getattr(value, "get_credentials", None)),
    "write an object with a method get_credentials()",
)

_KINDS: Mapping[str, _Kind] = {
    "cache_enabled": _FLAG,
    "client_name": _TEXT,
    "credential_provider": _PROVIDER,
    "db": _DATABASE,
    "encoding": _TEXT,
    "encoding_errors": _TEXT,
    "health_check_interval": _PAUSE,
    "lib_name": _TEXT,
    "lib_version": _TEXT,
    "max_connections": _COUNT,
    "password": _TEXT,
    "retry_on_error": _LIST,
    "retry_on_timeout": _FLAG,
    SENTINEL_KWARGS: _DICT,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _FLAG,
    "socket_keepalive_options": _DICT,
    "socket_read_size": _COUNT,
    "socket_timeout": _SECONDS,
    "socket_type": _CODE,
    "ssl_ca_certs": _FILE,
    "ssl_ca_data": _TEXT,
    "ssl_certfile": _FILE,
    "ssl_check_hostname": _FLAG,
    "ssl_ciphers": _TEXT,
    "ssl_keyfile": _FILE,
    "ssl_min_version": _CODE,
    "username": _TEXT,
}


def option_faults(options: Mapping[Any, Any]) -> Iterable[str]:
    """What is wrong with options: their names and the cures, and nothing of their values.

    None stands for an option that is left out. Names that are not known here are left to
    valkey-py.
    """
    for name, value in options.items():
        if not isinstance(name, str):
            yield "the names of options are texts"
            continue
        kind = _KINDS.get(name)
        if kind is not None and value is not None and not kind.holds(value):
            yield f"{name}: {kind.cure}"
        if name == SENTINEL_KWARGS and isinstance(value, Mapping):
            yield from (f"{name}: {fault}" for fault in option_faults(value))
