"""What the user has set, read once."""

from scrapy_valkey_dedup.settings.dedup_settings import DedupSettings
from scrapy_valkey_dedup.settings.names import PREFIX

__all__ = ["PREFIX", "DedupSettings"]
