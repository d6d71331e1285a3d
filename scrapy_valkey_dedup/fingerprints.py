"""Request fingerprints as other packages compute them, to switch from them without a loss."""

from __future__ import annotations

import json
from hashlib import sha1
from weakref import WeakKeyDictionary

from scrapy.http import Request
from w3lib.url import canonicalize_url


class ScrapyRedisFingerprinter:
    """The fingerprints of scrapy-redis 0.7.3 to 0.9.1, so that its set of them can be imported.

    For ``REQUEST_FINGERPRINTER_CLASS``. Source: ``scrapy_redis/dupefilter.py``.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Request, bytes] = WeakKeyDictionary()

    def fingerprint(self, request: Request) -> bytes:
        """The SHA-1 of method, canonical URL and body."""
        found = self._known.get(request)
        if found is None:
            parts = {
                "body": (request.body or b"").hex(),
                "method": request.method,
                "url": canonicalize_url(request.url),
            }
            text = json.dumps(parts, sort_keys=True).encode()
            found = self._known[request] = sha1(text, usedforsecurity=False).digest()
        return found
