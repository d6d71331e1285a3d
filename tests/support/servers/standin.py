"""Which server the suites speak to: a Valkey, or a stand-in of ElastiCache Serverless.

``VALKEY_SERVERLESS=1`` chooses the stand-in, with TLS and a user who may do what docs/security.md
grants: ``make test-serverless``. ``VALKEY_SERVERLESS_ALLOWS=time`` allows scripts more than the
real one does, to see what that rule is good for.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from atexit import register
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from bench.serverless import ADMIN, SPIDER, Serverless
from bench.servers import Tls, ValkeyServer, free_port
from scrapy_valkey_dedup.ledger.permissions import RULES
from tests.support.servers.tls import LOCALHOST, LOOPBACK, Authority

IS_SERVERLESS = bool(os.environ.get("VALKEY_SERVERLESS"))


def not_on_serverless(why: str) -> pytest.MarkDecorator:
    """Leaves a test out where the server is the stand-in."""
    return pytest.mark.skipif(IS_SERVERLESS, reason=f"not on the stand-in: {why}")


@lru_cache
def certified() -> Tls:
    """Files for a server on loopback, which last as long as this process."""
    directory = Path(tempfile.mkdtemp(prefix="svd-tls-"))
    owner = os.getpid()
    register(lambda: os.getpid() == owner and shutil.rmtree(directory, ignore_errors=True))
    authority = Authority(directory, "authority")
    authority.certify(LOCALHOST, LOOPBACK)
    file = directory / "server.pem"
    return Tls(file, file, authority.file)


def a_serverless(**options: Any) -> Serverless:
    """A stand-in with TLS, whose spider may do what is documented."""
    allowed = tuple(os.environ.get("VALKEY_SERVERLESS_ALLOWS", "").split())
    made = {"tls": certified(), "permissions": " ".join(RULES), "allowed_in_scripts": allowed}
    return Serverless(**made | options)


def a_server(*, persistent: bool = False) -> ValkeyServer | Serverless:
    """The server that this run of the suites is for."""
    if IS_SERVERLESS:
        return a_serverless(persistent=persistent)
    return ValkeyServer(port=free_port(), persistent=persistent)


def as_admin(url: str) -> str:
    """The URL for looking inside a stand-in, from a spider's; of other servers the same."""
    return url.replace(f"//{SPIDER}:", f"//{ADMIN}:", 1)
