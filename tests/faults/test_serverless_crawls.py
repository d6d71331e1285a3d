"""Crawls at the stand-in of ElastiCache Serverless: its moods cost no post, its rules are told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.serverless import Serverless
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import COMMANDS, IN_SCRIPTS
from scrapy_valkey_dedup.model import LedgerRefusedError
from scrapy_valkey_dedup.stats import Stats
from scrapy_valkey_dedup.valkey.resp import Script
from tests.support.crawls.world import World
from tests.support.outages import total
from tests.support.patience import PATIENCE, in_loop
from tests.support.runs import Runs
from tests.support.servers.site import pages_of
from tests.support.servers.standin import a_serverless

logger = logging.getLogger(__name__)

POSTS = range(2000)
EVERY_POST = {str(post): 1 for post in POSTS}
CALM = {"error_chance": 0.0, "errors_after": False, "noscript_chance": 0.0, "load_reaches": "one",
        "refused": [], "ecpu_limit": 0.0, "throttle": "error", "life": 0.0}  # fmt: skip
SCRIPTS = 6
"""Claim, confirm, release, renew, look, forget."""


@pytest.fixture(scope="module")
def service() -> Iterator[Serverless]:
    """The stand-in, whose spider may do what is documented."""
    with a_serverless() as made:
        yield made


@pytest.fixture
def standin(service: Serverless) -> Iterator[Serverless]:
    """With all its rules and none of its moods, and its meter at zero."""
    service.set(**CALM)
    service.meter(reset=True)
    yield service
    service.set(**CALM)


@pytest.fixture
def there(world: World, standin: Serverless) -> World:
    """Crawls there."""
    world.url = standin.url
    return world


@pytest.fixture
def runs(standin: Serverless, namespace: str, tmp_path: Path) -> Runs:
    """Runs there, without crawls."""
    made = Runs(standin.url, namespace, tmp_path)
    made.raw.close()
    return made


def assert_unnoticed(world: World, standin: Serverless, **changes: Any) -> dict[str, Any]:
    """Two crawls of the same posts: none passes unchecked, each is stored once and remembered.

    Returns what the meter had counted by then; the moods are over.
    """
    site = world.site(pages_of(POSTS))
    crawls = [world.start(site, seed=seed, **changes) for seed in (1, 2)]
    stats = [crawl.wait() for crawl in crawls]
    counted = standin.meter()
    standin.set(**CALM)
    for found in stats:
        assert found["finish_reason"] == "finished"
        assert "dedup/valkey/outages" not in found
        assert "dedup/items/unchecked" not in found
    assert world.stored == EVERY_POST
    assert total(stats, "confirmed") == len(POSTS)
    world.assert_settled()
    return counted


# -- moods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "errors",
    [
        {"errors_hit": ["evalsha"]},
        {"errors_hit": ["evalsha"], "errors_after": True},
        {"errors_hit": []},
    ],
    ids=["scripts", "scripts that were run", "all"],
)
def test_internal_errors_cost_no_post(
    there: World, standin: Serverless, errors: dict[str, Any]
) -> None:
    """Of the script calls, or of all commands, 5 % fail: nothing is unchecked, all is once.

    Whether the service says so before it has done what it was asked for, or afterwards.
    """
    standin.set(error_chance=0.05, **errors)
    # A busy machine asks for more posts at once, and so less often.
    assert assert_unnoticed(there, standin)["answers"]["internal"] > 0


def test_two_backends_make_no_storm(there: World, standin: Serverless) -> None:
    """SCRIPT LOAD reaches one of two: each script is sent a few times, nothing is unchecked."""
    standin.restart()  # a backend that has learned a script keeps it
    standin.set(load_reaches="first")
    calls = assert_unnoticed(there, standin)["calls"]
    sources = calls.get("script|load", 0) + calls.get("eval", 0)
    # Each run sends one at its start on purpose; each script may be lacking at each backend, for
    # several questions at once, to both runs.
    assert sources <= 2 + 2 * SCRIPTS * len(standin.backends) * 4
    assert calls["evalsha"] < 10_000


def test_a_cache_that_forgets_scripts_costs_no_post(there: World, standin: Serverless) -> None:
    """One in five EVALSHA finds no script: nothing is unchecked, each is asked a second time."""
    standin.set(noscript_chance=0.2)
    # However busy the machine is, no more posts are asked for at once, and so not less often.
    found = assert_unnoticed(there, standin, CONCURRENT_ITEMS=2, SCRAPER_SLOT_MAX_ACTIVE_SIZE=1)
    lacking = found["answers"]["noscript"]
    assert lacking > 100
    assert found["calls"]["eval"] <= lacking + 2 + 2 * SCRIPTS * len(standin.backends) * 4


def test_connections_that_end_cost_no_post(there: World, standin: Serverless) -> None:
    """The service closes each connection after a quarter of a second."""
    standin.set(life=0.25)
    assert assert_unnoticed(there, standin)["connections"] > 5


def test_all_moods_at_once(there: World, standin: Serverless) -> None:
    """Errors, forgotten scripts, short connections and a limit that only delays."""
    standin.set(
        error_chance=0.01, errors_hit=[], noscript_chance=0.05, load_reaches="first", life=0.5,
        ecpu_limit=50_000, throttle="delay",
    )  # fmt: skip
    assert_unnoticed(there, standin)


# -- rules -----------------------------------------------------------------------------------------

IN_SCRIPT = "not allowed from script"
UNKNOWN = "unknown command"


@pytest.mark.parametrize("name", sorted({*COMMANDS, *IN_SCRIPTS}))
@in_loop
async def test_what_is_needed_and_refused_is_told_at_the_start(
    standin: Serverless, runs: Runs, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """One after the other: the run does not start, and says the service's words and the cure."""
    standin.set(refused=[name])
    with pytest.raises(LedgerRefusedError) as caught:
        async with runs.open(timeout=30, job="a-job"):
            pass
    told = str(caught.value)
    assert UNKNOWN in told or IN_SCRIPT in told
    if UNKNOWN in told:
        assert f"'{name.upper()}'" in told
    assert "docs/security.md" in told
    assert "\n" not in told


@in_loop
async def test_a_script_that_asks_for_the_time_is_a_refusal(
    standin: Serverless, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all scripts did once; should one do so again, the first start says so."""
    real = Ledger.__init__

    def init(self: Ledger, *arguments: object, **options: object) -> None:
        real(self, *arguments, **options)
        for name, script in self._scripts.items():
            self._scripts[name] = Script(name, f"redis.call('TIME')\n{script.source}")

    monkeypatch.setattr(Ledger, "__init__", init)
    with pytest.raises(LedgerRefusedError, match=f"{IN_SCRIPT}.*security"):
        async with runs.open(timeout=30):
            pass


@pytest.mark.parametrize("policy", ["pass", "pause", "close"])
def test_a_refusal_ends_the_crawl(there: World, standin: Serverless, policy: str) -> None:
    """Whatever ON_OUTAGE says: one line with the cure, nothing is stored, and it is no success."""
    standin.set(refused=["sadd"])
    crawl = there.start(there.site(pages_of(range(100))), VALKEY_DEDUP_ON_OUTAGE=policy)
    crawl.process.join(PATIENCE)
    assert "finished" not in crawl.log
    told = [line for line in crawl.log.splitlines() if "ERROR" in line]
    assert len(told) == 1, crawl.log
    assert IN_SCRIPT in told[0]
    assert "docs/security.md" in told[0]
    assert there.stored == {}


# -- the limit -------------------------------------------------------------------------------------


def test_throttling_slows_a_crawl_down(there: World, standin: Serverless) -> None:
    """A limit of a part of what it would use: one warning, counted, no outage, none unchecked."""
    posts = range(600)
    free = there.crawl(there.site(pages_of(range(10_000, 10_600))))
    assert Stats.THROTTLED not in free
    used = standin.meter(reset=True)["ecpu"]
    standin.set(ecpu_limit=used / 6)
    stats = there.crawl(there.site(pages_of(posts)))
    assert "dedup/valkey/outages" not in stats
    assert "dedup/items/unchecked" not in stats
    assert stats["dedup/items/confirmed"] == len(posts)
    # What is turned away after the stats are written, as the run signs off, is not among them.
    assert 0 < stats[Stats.THROTTLED] <= standin.meter()["answers"]["throttled"]
    warnings = [line for line in there.log.splitlines() if "WARNING" in line and "limit" in line]
    assert len(warnings) == 1
    assert "throttled" in warnings[0]
    assert "ECPUs a second" in warnings[0]


@in_loop
async def test_a_start_costs_little(standin: Serverless, runs: Runs) -> None:
    """With pages, where the ledger is known: at most 20 calls, and at best less than 100 ECPU.

    At best: on a busy machine a script takes longer, and so it costs more.
    """
    async with runs.open(job="a-job"):
        pass
    costs = []
    for _ in range(10):
        standin.meter(reset=True)
        async with runs.open(job="a-job"):
            found = standin.meter()
        assert found["calls"].pop("auth") == 1
        assert sum(found["calls"].values()) <= 20, found["calls"]
        costs.append(found["ecpu"])
    logger.info("a start takes %s ECPU", sorted(map(round, costs)))
    assert min(costs) < 100
