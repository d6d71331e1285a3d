"""Items whose identities are hard to tell apart, for real crawls: see ``test_identity_crawls``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from tests.support.spiders.storages import Store


@dataclass
class Tweet:
    """Its id has come through a float, as a database dump or pandas gives it."""

    id: float
    text: str


@dataclass
class Sample:
    """A post that is known by its moment."""

    at: Any
    text: str

    def __post_init__(self) -> None:
        self.at = pd.Timestamp(self.at)


@dataclass
class Reply:
    """A post that is known by its number, as the page writes it."""

    number: str
    text: str


@dataclass
class Notice:
    """A post that is known by its text."""

    notice: str
    text: str


RULES = {
    f"{__name__}.Tweet": ["id"],
    f"{__name__}.Sample": ["at"],
    f"{__name__}.Reply": ["number:digits"],
    f"{__name__}.Notice": ["notice:text"],
}


def item(**values: Any) -> Any:
    """The item of the class that the page names."""
    return globals()[values.pop("class")](**values)


class TextStore(Store):
    """Stores items of any class by their text."""

    async def process_item(self, item):
        self.insert(item["text"] if isinstance(item, dict) else item.text, item)
        return item
