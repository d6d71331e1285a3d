"""Parts of a page that are made from the results, between ``<!-- bench:NAME -->`` and its end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_BLOCK = re.compile(r"(<!-- bench:(\S+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def names(page: str) -> list[str]:
    """The blocks of a page."""
    return [found[2] for found in _BLOCK.finditer(page)]


def filled(page: str, contents: Mapping[str, str]) -> str:
    """The page with these contents in its blocks."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{contents[found[2]]}\n\n{found[3]}", page)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells).strip() + " |" for cells in lines)
