"""Where the documentation of the installed version is, for messages that name a page of it."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

_PAGE = re.compile(r"\b(?:docs/[\w-]+|README)\.md(?:#[\w-]+)?")


def linked(text: str) -> str:
    """A message in which each page, such as ``docs/security.md#tls``, is a whole address.

    A release knows the address (``hatch_build.py``). Anything else is made from a clone, which has
    the pages: there the message stays as it is.
    """
    address = _address()
    return _PAGE.sub(lambda page: f"{address}/{page[0]}", text) if address else text


@cache
def _address() -> str:
    """The address of this version's files, or an empty text."""
    try:
        urls = metadata("scrapy-valkey-dedup").get_all("Project-URL", [])
    except PackageNotFoundError:
        return ""
    for url in urls:
        label, _, address = str(url).partition(", ")
        if label == "Documentation":  # .../tree/v1.2.3/docs
            return address.replace("/tree/", "/blob/").removesuffix("/docs")
    return ""
