"""Tests a server: runs all operations of the plugin there, and reports which ones work.

``python -m scrapy_valkey_dedup.selftest URL``, or from Python :func:`examine`.
"""

from __future__ import annotations

from scrapy_valkey_dedup.selftest.examination import examine
from scrapy_valkey_dedup.selftest.findings import Finding, Report, Status

__all__ = ["Finding", "Report", "Status", "examine"]
