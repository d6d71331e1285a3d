"""Each verb of `scrapy dedup`, and a trial, on whatever server the suites speak to.

These run on the stand-in of ElastiCache Serverless, too (``make test-serverless``): with TLS, as a
user who may do what a spider may, and where MEMORY USAGE and others are refused to everybody.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.stats import RunInfo
from tests.support.crawls.world import World
from tests.support.ledgers import in_ledger
from tests.support.processes.dedup_command import Ended, dedup, key_of_post, project
from tests.support.servers.site import pages_of
from tests.support.servers.standin import IS_SERVERLESS, as_admin

POST = ("--spider", "forum", "--item", "posts.items.Post")
NUMBERS = range(300)


@pytest.fixture
def here(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Path:
    """A project whose spiders may do what they need, and no more on the stand-in."""
    lines = "".join(f'{{"site": "x", "post_id": {number}}}\n' for number in NUMBERS)
    (tmp_path / "posts.jl").write_text(lines)
    return project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)


@pytest.fixture
def filled(valkey: ValkeyServer, namespace: str) -> None:
    """The posts are remembered."""

    async def store(ledger: Ledger) -> None:
        await ledger.confirm_many([key_of_post(number) for number in NUMBERS])

    in_ledger(valkey.url, namespace, store)


def answer(here: Path, *given: str, code: int = 0) -> Any:
    """What a verb answers."""
    ended: Ended = dedup(*given, "--json", directory=here)
    assert ended.code == code, ended.err
    return ended.json


def test_import(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """What is imported is remembered."""
    assert answer(here, "import", *POST, "posts.jl")["remembered"] == len(NUMBERS)

    async def look(ledger: Ledger) -> list[bool]:
        return await ledger.seen_many([key_of_post(number) for number in NUMBERS])

    assert all(in_ledger(valkey.url, namespace, look))


@pytest.mark.usefixtures("filled")
def test_check(here: Path) -> None:
    """A post with the date until which it is kept; of a file, how many are known."""
    (post,) = answer(here, "check", *POST, '{"site": "X", "post_id": 7}')["posts"]
    assert post["known"] is True
    assert post["kept_until"].endswith("UTC")
    assert answer(here, "check", *POST, "posts.jl")["known"] == len(NUMBERS)


@pytest.mark.usefixtures("filled")
def test_forget(here: Path, valkey: ValkeyServer) -> None:
    """A post as a spider's user; a namespace, or since a moment, as one who may SCAN."""
    one = '{"site": "X", "post_id": 7}'
    assert answer(here, "forget", *POST, "--yes", one)["forgotten"] == 1
    if IS_SERVERLESS:
        refused = answer(here, "forget", "--since", "1d", "--yes", code=2)
        assert "scan" in refused["error"]
    admin = ("--url", as_admin(valkey.url))
    kept = ("-s", "VALKEY_DEDUP_RETENTION=1h")  # as they were stored
    found = answer(here, "forget", "--since", "1d", "--yes", *kept, *admin)
    assert found["forgotten"] == len(NUMBERS) - 1
    assert answer(here, "check", *POST, "posts.jl")["new"] == len(NUMBERS)
    found = answer(here, "forget", "--all", "namespace", "--yes", *admin)
    assert found["forgotten"] == 0


@pytest.mark.usefixtures("filled")
def test_dump_and_load(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """To load needs what a spider may do, to dump SSCAN besides."""
    if IS_SERVERLESS:
        assert "sscan" in answer(here, "dump", "posts.dump", code=2)["error"]
    found = answer(here, "dump", "posts.dump", "--url", as_admin(valkey.url))
    assert found["posts"] == len(NUMBERS)
    there = f"{namespace}-there"
    loaded = answer(here, "load", "posts.dump", "--into", there)
    assert loaded["new"]["posts"] == len(NUMBERS)
    assert answer(here, "check", *POST, "posts.jl", "--namespace", there)["known"] == len(NUMBERS)


@pytest.mark.usefixtures("filled")
def test_status(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """How many posts, as a spider's user; as one who may SCAN the namespaces besides."""
    found = answer(here, "status")
    assert found["holds"]["posts"]["entries"] == len(NUMBERS)
    assert bool(found["refused"]) is IS_SERVERLESS
    if IS_SERVERLESS:
        assert "scan" in found["refused"]
        assert found["holds"]["posts"]["bytes"] is None
    found = answer(here, "status", "--url", as_admin(valkey.url))
    assert namespace in found["namespaces"]


@pytest.mark.usefixtures("filled")
def test_estimate(here: Path) -> None:
    """What a ledger with so many posts costs, as a spider's user: at least the least storage."""
    found = answer(here, "estimate", "--from-ledger", "--posts-a-day", "100")
    ledger = found["ways"]["this ledger"]
    assert ledger["posts"] == len(NUMBERS)
    assert ledger["usd"] > ledger["usd_storage"] == pytest.approx(6.132)
    assert ("bytes (MEMORY USAGE)" in found["measured"]) is not IS_SERVERLESS


@pytest.mark.usefixtures("filled")
def test_doctor(here: Path) -> None:
    """What a spider needs works; what may not be asked there is unknown, not wrong."""
    # The tests' server keeps nothing; of a service that is unknown.
    found = answer(here, "doctor", code=0 if IS_SERVERLESS else 1)["findings"]
    levels = {each["what"]: each["level"] for each in found}
    assert (levels["permissions"], levels["layout"]) == ("fine", "fine")
    wrong = {each["what"] for each in found if each["level"] == "wrong"}
    assert wrong == (set() if IS_SERVERLESS else {"persistence"})
    assert ("unknown" in levels.values()) is IS_SERVERLESS


def test_a_trial(world: World, valkey: ValkeyServer, tmp_path: Path) -> None:
    """It stores what was never stored, leaves it new to all others, and is forgotten."""
    site = world.site(pages_of(range(60)))
    world.crawl(site, pages=[0])
    stats = world.crawl(site, VALKEY_DEDUP_TRIAL="x")
    assert (stats["dedup/items/new"], stats["dedup/items/duplicate"]) == (40, 20)
    where = ("--url", as_admin(valkey.url), "--namespace", world.namespace)
    found = answer(tmp_path, "forget", "--trial", "x", "--yes", *where)
    assert found["forgotten"] == 40
    world.crawl(site)
    assert world.stored == {str(post): 1 if post < 20 else 2 for post in range(60)}


@pytest.mark.usefixtures("filled")
def test_watch(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """A run with its claims, as one who may SCAN; how the ledger is as a spider's user, too."""

    async def work(ledger: Ledger) -> None:
        await ledger.runs.write_heartbeat(1, 60)
        note = RunInfo("forum", "here", 1e9, open=2, new=5, duplicate=15, age=9.0)
        await ledger.runs.write_info(note.to_json(), 60)

    in_ledger(valkey.url, namespace, work, run="a-run")
    look = ("watch", "--count", "1")
    found = answer(here, *look)
    assert found["posts"] == {"entries": len(NUMBERS), "exact": True}
    assert found["latency_ms"]["median"] > 0
    assert ("scan" in found["refused"], found["memory"] is None) == (IS_SERVERLESS, IS_SERVERLESS)
    (run,) = answer(here, *look, "--url", as_admin(valkey.url))["runs"]
    counted = (run["spider"], run["state"], run["open"], run["new"], run["duplicate"])
    assert counted == ("forum", "at work", 2, 5, 15)
    assert dedup(*look, directory=here).out.count("300 posts") == 1
