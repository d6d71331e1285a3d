"""Tries a server: does all that the plugin ever does there, and says what came of it.

``python -m scrapy_valkey_dedup.selftest URL``, or from Python :func:`examine`.
"""

from __future__ import annotations

from scrapy_valkey_dedup.selftest.examination import examine
from scrapy_valkey_dedup.selftest.findings import Finding, Report, Status

__all__ = ["Finding", "Report", "Status", "examine"]
