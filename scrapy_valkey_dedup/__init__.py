"""Deduplicates scraped posts across spiders, processes and runs, with Valkey as the memory."""

from scrapy_valkey_dedup.addon import Addon
from scrapy_valkey_dedup.dupefilter import DupeFilter
from scrapy_valkey_dedup.model import Claim, DedupError, DuplicatePage, DuplicatePost
from scrapy_valkey_dedup.pipeline import DedupPipeline, current_claim
from scrapy_valkey_dedup.processor import DedupItemProcessor
from scrapy_valkey_dedup.requests import RequestDedupMiddleware

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
