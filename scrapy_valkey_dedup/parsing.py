"""Parsers of single values, as they stand in settings files and on command lines.

Each returns the value, or raises a ``ValueError`` whose message is the cure.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Callable
from typing import Any

from scrapy.utils.misc import load_object

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_CENTURY = 100 * 365.25 * 86400


def text(value: Any) -> str:
    """A text that is not empty, stripped."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("write a text that is not empty")
    return value.strip()


def short_name(value: Any) -> str | None:
    """A name of plain characters, or None. To mean it as a switch is a mistake."""
    written = "" if value is None else str(value)
    if written.lower() in ("", "none"):
        return None
    is_switch = written.lower() in ("true", "false")
    if is_switch or not re.fullmatch(r"[A-Za-z0-9._-]{1,32}", written):
        raise ValueError(
            "write a name of 1 to 32 letters, digits, dots, hyphens and underscores, or None"
        )
    return written


def flag(value: Any) -> bool:
    """True or False, in any spelling."""
    word = str(value).strip().lower()
    if word in ("1", "true"):
        return True
    if word in ("0", "false"):
        return False
    raise ValueError("write True or False")


def choice(*known: str) -> Callable[[Any], str]:
    """A parser that accepts these words."""

    def parse(value: Any) -> str:
        if value in known:
            return str(value)
        close = difflib.get_close_matches(str(value).lower(), known, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        *first, last = map(repr, known)
        raise ValueError(f"{hint}write {', '.join(first)} or {last}")

    return parse


def seconds(value: Any) -> float:
    """A duration in seconds, from a number or a text such as "90d"."""
    written = str(value).strip().lower()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", written, re.ASCII)
    if re.match(r"-\s*\d", written, re.ASCII):
        raise ValueError("it must not be negative")
    if isinstance(value, bool) or not match:
        raise ValueError('write seconds, or a duration such as "45s", "30m", "12h", "90d"')
    found = float(match[1]) * _SECONDS[match[2]]
    if found > _CENTURY:
        raise ValueError(
            "that is more than a century; None means forever where a setting allows it"
        )
    return found


def duration(at_least: float) -> Callable[[Any], float]:
    """A parser of durations, in seconds."""

    def parse(value: Any) -> float:
        found = seconds(value)
        if found < at_least:
            raise ValueError(f"it must be at least {at_least:g} seconds")
        return found

    return parse


def retention(value: Any) -> float | None:
    """A duration in seconds, or None: forever."""
    if value is None or str(value).strip().lower() == "none":
        return None
    return duration(1)(value)


limit = retention
"""A duration in seconds, or None: no limit."""


def count(value: Any) -> int | None:
    """A whole number, or None: no limit."""
    written = str(value).strip().lower()
    if written == "none":
        return None
    if re.match(r"-\s*\d", written, re.ASCII):
        raise ValueError("it must not be negative")
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", written, re.ASCII):
        raise ValueError("write a whole number, or None for no limit")
    return int(written)


def decoded(value: Any) -> Any:
    """Settings from the command line are texts: JSON, or a literal of Python's, if it looks so."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError as error:
            found = _literal(value)
            if found is None:
                raise ValueError(f"it is not valid JSON: {error}") from error
            return found
    return value


def _literal(written: str) -> list[Any] | dict[Any, Any] | None:
    """A list or a dict as Python writes it, with single quotes, say; None if it is neither."""
    try:
        found = ast.literal_eval(written.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, list | dict) else None


def patterns(value: Any) -> tuple[re.Pattern[str], ...]:
    """Regular expressions: one, a list of them, or such a list as JSON; None: no pattern."""
    if value is None or value == "":
        return ()
    if isinstance(value, re.Pattern):
        value = [value]
    elif isinstance(value, str):
        listed = _json_list(value)
        value = [value] if listed is None else listed
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError("write a regular expression, or a list of them")  # noqa: TRY004
    return tuple(_pattern(written) for written in value)


def _json_list(written: str) -> list[Any] | None:
    """None if it is anything else, such as a regular expression that begins with a bracket."""
    if not written.lstrip().startswith("["):
        return None
    try:
        return list(decoded(written))
    except ValueError:
        return None


def _pattern(written: Any) -> re.Pattern[str]:
    if isinstance(written, re.Pattern) and isinstance(written.pattern, str):
        return written
    if not isinstance(written, str) or not written:
        raise ValueError(f"{written!r:.60} is not a regular expression: write a text")
    try:
        return re.compile(written)
    except re.error as error:
        raise ValueError(f"{written!r:.60} is not a regular expression: {error}") from error


def loaded(path: Any) -> Any:
    """What an import path names; an object stays as it is."""
    try:
        return load_object(path)
    except Exception as error:  # an import may run any code
        raise ValueError(f"it cannot be imported: {error}") from error
