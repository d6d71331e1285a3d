"""What stands for AWS in the tests: keys, services that hand them out, a Valkey that knows tokens.

Tokens are signed and checked without AWS: a user of Valkey's own access control list has the tokens
of the moments at which it is let in as its passwords.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import time_machine
import valkey as valkey_py

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.aws import ElastiCacheIAM
from tests.support.servers.http import Handler, HttpServer

MOMENT = dt.datetime(2026, 11, 22, 12, 0, 0, tzinfo=dt.timezone.utc)
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "the-secret-key-of-the-tests",
    "AWS_SESSION_TOKEN": "the-session-token-of-the-tests",
}
SECRETS = (KEYS["AWS_SECRET_ACCESS_KEY"], KEYS["AWS_SESSION_TOKEN"])
WHO = {"user": "bot", "cache": "posts", "region": "eu-central-1"}
ADMIN = "the-password-of-the-admin"


def signed(**changes: Any) -> str:
    """The toolkit's own token of this moment."""
    from developer_toolkit_elasticache import generate_iam_auth_token  # slow: it brings botocore

    target = {"user_id": "bot", "region": "eu-central-1", "serverless_cache_name": "posts"}
    return generate_iam_auth_token(**(target | changes))


def signed_at(moments: Iterable[dt.datetime]) -> list[str]:
    """The toolkit's own tokens of these moments."""
    tokens = []
    for moment in moments:
        with time_machine.travel(moment, tick=False):
            tokens.append(signed())
    return tokens


def admin(server: ValkeyServer) -> valkey_py.Valkey:
    """Who may do everything on a server that was started with ``--requirepass ADMIN``."""
    return valkey_py.Valkey.from_url(server.url, password=ADMIN)


def let_in(server: ValkeyServer, *tokens: str) -> None:
    """From now on the user ``bot`` is let in with these tokens, and with no other."""
    with admin(server) as client:
        client.acl_setuser(
            "bot", enabled=True, reset_passwords=True, passwords=[f"+{token}" for token in tokens],
            keys=["*"], categories=["+@all"],
        )  # fmt: skip


class SignedIn(ElastiCacheIAM):
    """For crawls, whose processes do not have the environment of their test."""

    def __init__(self, **options: Any) -> None:
        os.environ.update(KEYS)
        super().__init__(**options)


class SignedOut(ElastiCacheIAM):
    """The same, without keys."""

    def __init__(self, **options: Any) -> None:
        for name in KEYS:
            os.environ.pop(name, None)
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
        super().__init__(**options)


class Asked(NamedTuple):
    """What a service was asked."""

    authorization: str
    body: str


class Service(HttpServer):
    """An HTTP service of AWS on loopback; ``answer`` returns status and body of the next reply."""

    def __init__(self, answer: Callable[[], tuple[int, bytes]]) -> None:
        self.calls = 0
        self.requests: list[Asked] = []

        class Answers(Handler):
            def do_GET(handler) -> None:  # noqa: N802, N805 (http.server's name; self is the service)
                asked = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
                signed_by = handler.headers.get("Authorization", "")
                self.requests.append(Asked(signed_by, asked.decode()))
                self.calls += 1
                status, body = answer()
                handler.send_response(status)
                handler.end_headers()
                handler.wfile.write(body)

            do_POST = do_GET  # noqa: N815 (Python's name)

        super().__init__(Answers)


def container_keys(secret: str, expires: dt.datetime) -> bytes:
    """What the service of a container's role answers."""
    answer = {
        "AccessKeyId": "ASIACONTAINER",
        "SecretAccessKey": secret,
        "Token": f"token-with-{secret}",
        "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return json.dumps(answer).encode()


def role_keys(secret: str, expires: dt.datetime) -> bytes:
    """What the Security Token Service answers to AssumeRole."""
    return f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
      <AssumeRoleResult>
        <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>
        <Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>
          <SessionToken>token-with-{secret}</SessionToken>
          <Expiration>{expires:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>
      </AssumeRoleResult></AssumeRoleResponse>""".encode()
