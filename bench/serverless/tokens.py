"""Whether a token of AWS IAM lets a user in: signature, cache, user, age, as AWS documents them.

https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html: a presigned request
(Signature Version 4) without its scheme, whose host is the name of the cache.
"""

from __future__ import annotations

import datetime as dt
import hmac
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qsl, quote, urlsplit

_EMPTY = sha256(b"").hexdigest()
_TIME = "%Y%m%dT%H%M%SZ"
_OF_15_MINUTES = 900
_SKEW = 60  # seconds that the clocks may differ


@dataclass(frozen=True)
class Cache:
    """A cache that knows one pair of AWS keys, whose owner may connect as any of its IAM users."""

    name: str
    region: str
    key: str
    secret: str

    def fault(self, user: str, token: str) -> str:
        """What is wrong with the token of a user; "" if nothing is."""
        split = urlsplit(f"https://{token}")
        facts = dict(parse_qsl(split.query, keep_blank_values=True))
        signature = facts.pop("X-Amz-Signature", "")
        if split.hostname != self.name:
            return "another cache"
        if (facts.get("Action"), facts.get("User")) != ("connect", user):
            return "another user"
        if facts.get("ResourceType") != "ServerlessCache":
            return "no serverless cache"
        moment = facts.get("X-Amz-Date", "")
        right = self._signature(facts, moment)
        if not right or not hmac.compare_digest(right, signature):
            return "signature"
        made = dt.datetime.strptime(moment, _TIME).replace(tzinfo=dt.timezone.utc)
        age = (dt.datetime.now(dt.timezone.utc) - made).total_seconds()
        valid = min(int(facts.get("X-Amz-Expires", "0")), _OF_15_MINUTES)
        return "" if -_SKEW <= age <= valid else "expired"

    def _signature(self, facts: dict[str, str], moment: str) -> str:
        scope = f"{moment[:8]}/{self.region}/elasticache/aws4_request"
        if facts.get("X-Amz-Credential") != f"{self.key}/{scope}":
            return ""
        pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in facts.items())
        query = "&".join(f"{name}={value}" for name, value in pairs)
        request = f"GET\n/\n{query}\nhost:{self.name}\n\nhost\n{_EMPTY}"
        digest = sha256(request.encode()).hexdigest()
        signed = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        key = f"AWS4{self.secret}".encode()
        for part in (moment[:8], self.region, "elasticache", "aws4_request", signed):
            key = hmac.new(key, part.encode(), sha256).digest()
        return key.hex()
