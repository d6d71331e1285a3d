"""A stand-in of ElastiCache Serverless for Valkey: real servers behind a front with its rules."""

from bench.serverless.service import ADMIN, SPIDER, Serverless

__all__ = ["ADMIN", "SPIDER", "Serverless"]
