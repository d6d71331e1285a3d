"""A directory for an embedded server, and processes that use it."""

import pytest

from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
from tests.support.servers.embedded import Spider, client, is_free


@pytest.fixture
def data_dir(tmp_path):
    """Name a directory, not made yet, for a server to live in."""
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _no_server_is_left(tmp_path):
    yield
    for lock in tmp_path.rglob("server.lock"):
        if not is_free(lock):
            server = EmbeddedServer(lock.parent)
            with client(server.acquire()) as connection:
                connection.shutdown(nosave=True)
            server.release()


@pytest.fixture
def spider(data_dir):
    """Start a spider process; all are ended with the test."""
    started = []

    def start(path=data_dir, **environment):
        started.append(Spider(path, **environment))
        return started[-1]

    yield start
    for one in started:
        one.die()


@pytest.fixture
def script(tmp_path):
    """Make an executable that stands in for `valkey-server`."""

    def make(*lines):
        path = tmp_path / "binary"
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)
        return str(path)

    return make
