"""Estimates what a ledger costs on ElastiCache Serverless."""
