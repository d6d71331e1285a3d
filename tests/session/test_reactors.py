"""Reactors that will not do, or that are not there. That both others do, test_crawl.py shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import SCRAPY_VERSION
from tests.support.crawls.world import World
from tests.support.patience import PATIENCE
from tests.support.servers.site import pages_of
from tests.support.servers.standin import not_on_serverless

ROOT = Path(__file__).parents[2]


def test_a_reactor_without_asyncio_is_refused(world: World) -> None:
    """On a reactor without asyncio the crawl does not start, and the message names the cure."""
    site = world.site(pages_of(range(10)))
    directory = world.directory / "crawl"
    directory.mkdir()
    job = {
        "site": site.url,
        "pages": [0],
        "directory": str(directory),
        "settings": {
            "VALKEY_DEDUP_URL": world.url,
            "TWISTED_REACTOR": "twisted.internet.selectreactor.SelectReactor",
        },
    }
    command = [sys.executable, "-m", "tests.support.spiders.refused", json.dumps(job)]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, env=dict(os.environ)
    )
    # Scrapy 2.14 ends with 0 whatever component cannot be built.
    assert ended.returncode == (1 if SCRAPY_VERSION >= (2, 15) else 0), ended.stderr
    log = (directory / "log").read_text() + ended.stderr
    assert "TWISTED_REACTOR = 'twisted.internet.selectreactor.SelectReactor'" in log
    assert "twisted.internet.asyncioreactor.AsyncioSelectorReactor" in log
    assert site.served == {}


def test_components_are_built_and_used_where_there_is_no_reactor(world: World) -> None:
    """Built outside any loop, as in a unit test, they do their work in one and leave nothing.

    Two pipelines, one closed with an ``await`` and one without: each takes its post, and no task,
    claim or heartbeat is left. Opened where asyncio does not run, a third is refused with the cure.
    """
    settings = {"VALKEY_DEDUP_URL": world.url, "VALKEY_DEDUP_NAMESPACE": world.namespace}
    command = [sys.executable, "-m", "tests.support.spiders.unit", json.dumps(settings)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["posts"] == [{"post_id": "1"}] * 2
    assert not found["reactor"]
    assert "twisted.internet.asyncioreactor.AsyncioSelectorReactor" in found["refused"]
    world.assert_settled()


@not_on_serverless("its tests are for one server without TLS")
def test_crawls_in_a_reactor_that_is_there_already() -> None:
    """Crawls in a process whose reactor another program, here pytest, has installed and runs.

    ``tests/in_reactor`` has its own pytest, beside the other tests.
    """
    options = ["--override-ini", "addopts=", "--reactor=asyncio", str(ROOT / "tests/in_reactor")]
    command = [sys.executable, "-m", "pytest", *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
