"""The keys of pages in Valkey: from a fingerprint, or from the user's own ``dedup_key``."""

from __future__ import annotations

from hashlib import blake2b

from scrapy_valkey_dedup.model import KEY_BYTES, Key
from scrapy_valkey_dedup.settings import DedupSettings


def scope_of_pages(settings: DedupSettings, spider: str) -> bytes:
    """What a page's key depends on besides the page: the name of the job, or of the spider."""
    scope = settings.job if settings.requests == "job" else spider
    return blake2b(f"{settings.requests} {scope}".encode("utf-8", "surrogatepass")).digest()


def key_of_fingerprint(fingerprint: bytes, scope: bytes) -> Key:
    """The key of a page that is identified by its fingerprint."""
    return blake2b(fingerprint, digest_size=KEY_BYTES, key=scope).digest()


def key_of_own_key(own_key: bytes, scope: bytes) -> Key:
    """The key of a page that is identified by a ``dedup_key``."""
    return blake2b(own_key, digest_size=KEY_BYTES, key=scope, person=b"own key").digest()
