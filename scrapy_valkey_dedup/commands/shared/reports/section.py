"""A part of the page: its title, its words, and the table of what its chart shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Data = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    about: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=list)
    """Texts; the first of each row is its head."""
    has_chart: bool = True
    is_wide: bool = False
    html: str = ""
