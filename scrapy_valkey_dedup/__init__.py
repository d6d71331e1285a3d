"""Deduplicates scraped posts across spiders, processes and runs, with Valkey as the memory."""

from scrapy_valkey_dedup.addon import Addon
from scrapy_valkey_dedup.items.pipeline import DedupPipeline, current_claim
from scrapy_valkey_dedup.items.processor import DedupItemProcessor
from scrapy_valkey_dedup.model import DedupError, DuplicatePage, DuplicatePost
from scrapy_valkey_dedup.requests.dupefilter import DupeFilter
from scrapy_valkey_dedup.requests.middleware import RequestDedupMiddleware
from scrapy_valkey_dedup.session.claim import Claim

__version__ = "0.1.0"

__all__ = [
    "Addon",
    "Claim",
    "DedupError",
    "DedupItemProcessor",
    "DedupPipeline",
    "DupeFilter",
    "DuplicatePage",
    "DuplicatePost",
    "RequestDedupMiddleware",
    "current_claim",
]
