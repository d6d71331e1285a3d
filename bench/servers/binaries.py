"""Which binary is started as a server."""

from __future__ import annotations

import os

from scrapy_valkey_dedup.valkey.embedded_process import find_binary


def binary() -> str:
    """The server to run: ``VALKEY_SERVER`` if it is set, else what the embedded extra brings."""
    return os.environ.get("VALKEY_SERVER") or find_binary()
