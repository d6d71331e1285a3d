"""IAM authentication for Amazon ElastiCache. Needs the extra ``aws``."""

from scrapy_valkey_dedup.aws.iam import ElastiCacheIAM

__all__ = ["ElastiCacheIAM"]
