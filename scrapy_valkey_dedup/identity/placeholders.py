"""Placeholders, which programs write where a value is missing, and ids that lost digits.

Twenty posts whose id is "null" would be one post, and nineteen of them lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from scrapy_valkey_dedup.model import UnkeyedError

IN_ANY_CASE = frozenset(
    ["none", "null", "(null)", "undefined", "nil", "<nil>", "<na>", "n/a", "#n/a",
     "[object object]", "invalid date"]
)  # fmt: skip
AS_WRITTEN = frozenset(["nan", "NaN", "NAN", "NaT"])
"""Not in any case: Nan and Nat are names."""

_LONGEST = 15
_FLOAT = re.compile(r"[+-]?(?:\d(?:\.\d+)?[eE]\+\d\d+|\d\.\d+E\d\d+|\d{16,}\.0*)", re.ASCII)
"""A large float as Python, JavaScript, Java and spreadsheets write it."""


def refuse_placeholder(value: Any) -> None:
    """Refuses a placeholder, or a collection of nothing but placeholders.

    Raises:
        UnkeyedError: says so, without the text.

    """
    if isinstance(value, str):
        _refuse_text(value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        _refuse_members(value)
    elif isinstance(value, dict):
        _refuse_members(value.values())


def _refuse_text(value: str) -> None:
    text = value.strip()
    if is_placeholder(text):
        raise UnkeyedError("it is a text that stands for nothing, such as 'None', 'null' or 'NaN'")
    if ("." in text or "+" in text) and _FLOAT.fullmatch(text):
        raise UnkeyedError(
            "it is the text of a large float: an id has lost digits on its way; keep it as a text "
            "or an int from the start"
        )


def _refuse_members(values: Iterable[Any]) -> None:
    found = False
    for value in values:
        if value is None:
            continue
        if not isinstance(value, str):
            return
        text = value.strip()
        if text and not is_placeholder(text):
            return
        found = found or bool(text)
    if found:
        raise UnkeyedError("it holds only texts that stand for nothing, such as 'None' or 'null'")


def is_placeholder(text: str) -> bool:
    """Whether a text without space around it is a placeholder."""
    return len(text) <= _LONGEST and (text in AS_WRITTEN or text.casefold() in IN_ANY_CASE)
