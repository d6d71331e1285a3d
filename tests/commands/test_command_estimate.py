"""`scrapy dedup estimate`: what it says of a crawl is what the commands counted there cost."""

from __future__ import annotations

import asyncio
import json
import re
import time
from asyncio import sleep
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import valkey as valkey_py

from bench.servers import ValkeyCluster, ValkeyServer, wait_for
from bench.shared import connected
from scrapy_valkey_dedup.commands.shared.estimates.costs import KEYS, LEDGER, SET, estimate
from scrapy_valkey_dedup.commands.shared.estimates.prices import known_prices
from scrapy_valkey_dedup.commands.shared.estimates.workload import (
    BYTES_A_MEMBER,
    BYTES_A_STRING_KEY,
    DAY,
    Workload,
    bytes_of,
    calls,
)
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.stats import RunInfo
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command
from tests.support.crawls.world import World
from tests.support.ledgers import in_ledger, keys_of
from tests.support.patience import PATIENCE
from tests.support.processes.dedup_command import dedup, project
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("they ask for all that the server has counted")

MONTH = 730 * 3600


@pytest.fixture
def here(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Path:
    """A project on the session's server."""
    return project(
        tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace,
        VALKEY_DEDUP_RETENTION="1h",
    )  # fmt: skip


def estimated(here: Path, *given: str) -> Any:
    """The answer to machines."""
    ended = dedup("estimate", *given, "--json", directory=here)
    assert ended.code == 0, ended.err
    return ended.json


@contextmanager
def watched(server: ValkeyServer) -> Iterator[Counter[str]]:
    """The commands that clients send meanwhile, by name: what scripts call is not among them."""
    found: Counter[str] = Counter()
    # Nothing may be sent for a while, as a crawl starts.
    url = server.url.replace("valkey://", "redis://")
    with valkey_py.Valkey.from_url(url, socket_timeout=PATIENCE) as admin:
        ended, monitor = f"ended {time.time()}", admin.monitor()

        def watch() -> None:
            for each in monitor.listen():
                if ended in each["command"]:
                    return
                if each["client_type"] != "lua":
                    found[each["command"].split()[0].lower()] += 1

        with monitor:
            watching = Thread(target=watch)
            watching.start()
            yield found
            admin.echo(ended)
            watching.join(PATIENCE)
            assert not watching.is_alive()


def test_what_is_estimated_is_what_was_counted(fragile: World, tmp_path: Path) -> None:
    """Within 5 % of what the commands of two crawls cost, by MONITOR and INFO commandstats.

    Plain commands are told with at most 20 too many, sightings within a tenth.
    """

    async def store(ledger: Ledger) -> None:
        await ledger.confirm_many([digest([], [number]) for number in range(200)])

    # While a partition is empty its posts are not looked up, which is how sightings are told.
    in_ledger(fragile.url, fragile.namespace, store, retention=90 * DAY)
    fragile.server.ask("CONFIG", "RESETSTAT")
    here = project(
        tmp_path / "project", VALKEY_DEDUP_URL=fragile.url, VALKEY_DEDUP_NAMESPACE=fragile.namespace
    )
    site = fragile.site(
        {page: [{"post_id": 10 * page + n} for n in range(10)] for page in range(40)}
    )
    with watched(fragile.server) as sent:
        fragile.crawl(site)
        site.free = 12  # the rest waits while the run beats
        crawl = fragile.start(site, VALKEY_DEDUP_WAIT=0, VALKEY_DEDUP_LEASE=1)
        wait_for(lambda: sent["set"] >= 12, PATIENCE, "heartbeats")
        site.free = inf
        crawl.wait()
    scripts = sent["evalsha"] + sent["eval"]
    plain = sum(sent.values()) - scripts
    counts = fragile.server.ask("INFO", "commandstats")
    taken = sum(counts[f"cmdstat_{name}"]["usec"] for name in ("evalsha", "eval"))
    costs = plain + max(scripts, taken / 3)

    found = estimated(here, "--from-ledger")
    counted = found["counted"]
    assert counted["scripts"] == scripts
    assert plain <= counted["plain"] <= plain + 20
    assert counted["ecpu"] == pytest.approx(costs, rel=0.05)
    assert counted["usd"] == pytest.approx(costs * 0.0023e-6, rel=0.05)
    a_month = MONTH / counted["seconds"]
    ledger, keys, one = (found["ways"][name] for name in (LEDGER, KEYS, SET))
    assert ledger["ecpu"] == pytest.approx(costs * a_month, rel=0.05)
    assert ledger["posts"] == keys["posts"] == one["posts"] == 600
    assert keys["ecpu"] == one["ecpu"] == pytest.approx(800 * a_month, rel=0.1)
    assert ledger["usd"] == pytest.approx(ledger["usd_ecpu"] + 0.1 * 0.084 * 730)
    shown = dedup("estimate", "--from-ledger", "--spiders", "3", directory=here)
    assert re.search(rf"^{LEDGER} +600 ", shown.out, re.MULTILINE)
    assert re.search(
        r"^known +posts, pages, bytes \(MEMORY USAGE\), commands", shown.out, re.MULTILINE
    )
    assert "--spiders not used" in shown.err
    assert "hours only" in shown.err


def test_a_cluster(tmp_path: Path) -> None:
    """The scripts of all nodes are counted, and the posts of all."""

    async def store(ledger: Ledger) -> None:
        await ledger.confirm_many([digest([], [number]) for number in range(300)])

    with ValkeyCluster(replicas=0) as cluster:
        here = project(tmp_path, VALKEY_DEDUP_URL=cluster.url, VALKEY_DEDUP_NAMESPACE="posts")
        in_ledger(cluster.url, "posts", store)
        counts = [node.ask("INFO", "commandstats") for node in cluster.nodes]
        names = ("cmdstat_evalsha", "cmdstat_eval")
        scripts = sum(each.get(name, {"calls": 0})["calls"] for each in counts for name in names)
        found = estimated(here, "--from-ledger")
    assert found["counted"]["scripts"] == scripts
    assert found["ways"][LEDGER]["posts"] == 300


@pytest.mark.parametrize("together", [1, 10, 80])
def test_calls_of_a_post(valkey: ValkeyServer, namespace: str, together: int) -> None:
    """A post that waits with others takes as many calls as the model says, within a tenth."""

    async def store(ledger: Ledger) -> None:
        for start in range(0, 400, together):
            keys = [digest([], [number]) for number in range(start, start + together)]
            await ledger.claim_many(keys)
            await ledger.confirm_many(keys)

    def scripts() -> int:
        return int(valkey.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"])

    in_ledger(valkey.url, namespace, store)  # the scripts are known from now on
    before = scripts()
    in_ledger(valkey.url, namespace, store)
    assert (scripts() - before) / 400 == pytest.approx(calls(together), rel=0.1)


def used(server: ValkeyServer) -> int:
    """Bytes that the server has in use, once only this asker is connected: buffers are no posts."""
    with server.client() as client:
        wait_for(
            lambda: client.info("clients")["connected_clients"] == 1,
            PATIENCE,
            "the end of others' connections",
        )
        return int(client.info("memory")["used_memory"])


def test_bytes_of_a_post(tmp_path: Path) -> None:
    """What posts take is what the server needs for them, weighed or by the model: within 15 %."""
    posts = 20_000

    async def store(ledger: Ledger) -> None:
        for start in range(0, posts, 500):
            some = range(start, start + 500)
            await ledger.confirm_many([digest([], [number]) for number in some])

    with ValkeyServer() as server:
        here = project(tmp_path, VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_NAMESPACE="posts")
        in_ledger(server.url, "posts", lambda _: sleep(0))
        before = used(server)
        in_ledger(server.url, "posts", store)
        taken = used(server) - before
        found = estimated(here, "--from-ledger", "--posts-a-day", "1000")["ways"][LEDGER]
    assert found["posts"] == posts
    assert found["gb"] * 1e9 == pytest.approx(taken, rel=0.15)
    assert bytes_of(posts) == pytest.approx(taken, rel=0.15)


def test_bytes_of_the_other_ways() -> None:
    """A string key and a member of a set take what the model says, within a sixth."""
    names = [f"{number:040x}" for number in range(100_000)]

    async def fill(server: Client, command_for: Callable[[str], bytes]) -> None:
        for start in range(0, len(names), 2000):
            await server.ask(*map(command_for, names[start : start + 2000]))

    with ValkeyServer() as server:
        told = [used(server)]
        for command_for in (
            lambda name: command("SET", f"seen:posts:{name}", 1, "NX", "EX", 7_776_000),
            lambda name: command("SADD", "posts:dupefilter", name),
        ):
            asyncio.run(ask(server.url, partial(fill, command_for=command_for)))
            told.append(used(server))
    keys, members = (after - before for before, after in pairwise(told))
    assert keys / len(names) == pytest.approx(BYTES_A_STRING_KEY, rel=1 / 6)
    assert members / len(names) == pytest.approx(BYTES_A_MEMBER, rel=1 / 6)


async def ask(url: str, deed: Callable[[Client], Awaitable[None]]) -> None:
    """Does something with a connection of its own."""
    async with connected(url) as server:
        await deed(server)


def test_an_estimate_by_hand(here: Path) -> None:
    """100,000 posts a day for 90 days, each met twice, alone: the sums of the prices."""
    found = estimated(here, "--posts-a-day", "100,000", "--sightings", "2", "--retention", "90d")
    ledger = found["ways"][LEDGER]
    assert ledger["posts"] == 100_000 * 90 * 1.25
    assert 8.5 < 1e9 * ledger["gb"] / ledger["posts"] < 10.5
    assert ledger["usd_storage"] == pytest.approx(ledger["gb"] * 0.084 * 730)
    month = 730 / 24
    # Of two and a half generations, of two levels; a duplicate; a beat each 2.5 s; a start a day.
    ecpu = {"new posts": 100_000 * (5.5 + 1.5 * 0.3 + 0.5), "duplicates": 100_000 * 2.4,
            "pages": 0, "heartbeats": 86400 / 2.5 * 1.25,
            "history": 720 * 10 + 24 * 16 * 70, "starts": 85}  # fmt: skip
    assert found["ecpu_of"] == pytest.approx({name: each * month for name, each in ecpu.items()})
    assert ledger["ecpu"] == pytest.approx(sum(ecpu.values()) * month)
    assert ledger["usd_ecpu"] == pytest.approx(ledger["ecpu"] * 0.0023e-6)
    keys, one = found["ways"][KEYS], found["ways"][SET]
    assert (keys["posts"], one["posts"]) == (100_000 * 90, 100_000 * 365)
    assert keys["ecpu"] == one["ecpu"] == pytest.approx(200_000 * month)
    assert ledger["usd"] < keys["usd"] < one["usd"]
    assert "--together 1" in found["assumed"]


def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    """The table in docs/operations.md is that of the command above it."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    section = page.split("\n## What it costs\n")[1].split("\n## ")[0]
    (given,) = re.findall(r"^ {4}scrapy dedup estimate (--posts-a-day .*)", section, re.MULTILINE)
    table = re.findall(r"^ {4}((?:a month|this|a string|one set).*)", section, re.MULTILINE)
    shown = dedup("estimate", *given.split(), directory=project(tmp_path)).out.splitlines()
    assert table == shown[1:5]


def test_other_prices(here: Path) -> None:
    """Prices that are given replace those of the file, and are told."""
    given = ("--price", "usd_per_gb_hour=1", "--price", "minimum_gb=2", "--posts-a-day", "9")
    found = estimated(here, *given)
    assert found["ways"][LEDGER]["usd_storage"] == 2 * 730
    assert found["prices"]["changed"] == ["usd_per_gb_hour", "minimum_gb"]
    shown = dedup("estimate", *given, directory=here).out
    assert "given: usd_per_gb_hour, minimum_gb" in shown
    assert known_prices().check in shown


def test_prices_have_a_source() -> None:
    """The file says where and when the prices were found, and where to check them."""
    prices = known_prices()
    assert date(2026, 1, 1) <= date.fromisoformat(prices.date)
    assert prices.region == "us-east-1"
    assert prices.source
    assert all(link.startswith("https://") for link in [*prices.links, prices.check])


def test_what_makes_it_cheaper_or_dearer() -> None:
    """An idle fleet pays the least storage and its heartbeats; batches save, pages cost."""
    prices = known_prices()
    idle = estimate(Workload(0, spiders=10), prices)
    assert idle.ways[LEDGER].usd_storage == pytest.approx(6.132)
    assert idle.ways[LEDGER].ecpu == pytest.approx((10 * 86400 / 2.5 * 1.25 + 850) * 730 / 24)
    busy = Workload(1e6, sightings=5)

    def usd(work: Workload) -> float:
        return estimate(work, prices).ways[LEDGER].usd

    dearer = [
        replace(busy, together=1), replace(busy, pages=1e6), replace(busy, retention=180 * DAY),
        replace(busy, sightings=6), replace(busy, spiders=2), replace(busy, starts=2),
    ]  # fmt: skip
    usual = usd(busy)
    assert all(usd(each) > usual for each in dearer[1:])
    assert (
        usd(dearer[0]) == usual > usd(replace(busy, together=10)) > usd(replace(busy, together=80))
    )
    # A call is one ECPU at least, however fast its script.
    fast = estimate(busy, replace(prices, script_us_per_ecpu=1e9))
    assert fast.parts["new posts"] == pytest.approx(1e6 * calls(1) * 730 / 24)


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ("", "--posts-a-day 100000, or measure it: --from-ledger"),
        ("--posts-a-day many", "'many': write a number, 0 or more"),
        ("--posts-a-day 9 --sightings 0.5", "'0.5': write a number, 1 or more"),
        ("--posts-a-day 9 --hours 25", "'25': write a number, from 0 to 24"),
        ("--posts-a-day 9 --retention long", "write seconds, or a duration"),
        ("--posts-a-day 9 --price gb=1", "--price gb=1: "),
        ("--posts-a-day 9 --price minimum_gb=-1", "write a number, 0 or more"),
        ("--posts-a-day 9 --price hours_per_month=0", "more than 0"),
    ],
)
def test_wrong_usage(here: Path, given: str, cure: str) -> None:
    """One line that says how it is written, and 2."""
    ended = dedup("estimate", *given.split(), directory=here)
    assert (ended.code, ended.out) == (2, "")
    assert cure in ended.err
    assert ended.err.count("\n") == 1


def test_where_nothing_is_counted(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Without the right to INFO: what runs tell, or what is given; and it says what is assumed."""
    users = {"spider": RULES, "scanner": (*RULES, "+scan")}
    urls = {}
    for name, words in users.items():
        valkey.ask("ACL", "SETUSER", f"{name}-{namespace}", "on", ">secret", *words)
        urls[name] = valkey.url.replace("://", f"://{name}-{namespace}:secret@")

    async def be_a_run(ledger: Ledger) -> None:
        await ledger.confirm_many([digest([], [number]) for number in range(500)])
        await ledger.runs.write_heartbeat(1, 3600)
        note = RunInfo("posts", "host", time.time() - 7200, 0, 500, 1500)
        await ledger.runs.write_info(note.to_json(), 3600)

    in_ledger(valkey.url, namespace, be_a_run, run="living")
    ended = dedup("estimate", "--from-ledger", "--url", urls["spider"], directory=here)
    assert ended.code == 2
    assert "info" in ended.err
    assert "give --posts-a-day, too" in ended.err
    assert ended.err.count("\n") == 1

    found = estimated(here, "--from-ledger", "--url", urls["scanner"])
    assert found["counted"] is None
    assert found["workload"]["posts"] == pytest.approx(500 * 12, rel=0.02)
    assert found["workload"]["sightings"] == 4
    assert found["ways"][LEDGER]["posts"] == 500
    assert found["ways"][LEDGER]["gb"] * 1e9 == pytest.approx(bytes_of(500))
    told = " ".join(found["assumed"])
    assert "bytes, as docs/ledger.md has them" in told
    assert "ECPU as bench.ecpu measured them at best (" in told
    assert "secret" not in json.dumps(found)
    given = ("--posts-a-day", "70", "--sightings", "3", "--url", urls["spider"])
    assert estimated(here, "--from-ledger", *given)["workload"]["posts"] == 70


def test_a_user_who_may_only_read(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """The reader of docs/security.md is enough to have it counted; nothing is changed."""
    in_ledger(valkey.url, namespace, lambda ledger: ledger.confirm_many([digest([], [1])]))
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    (rules,) = re.findall(r"ACL SETUSER reader on >PASSWORD (.*?)\n```", page, re.DOTALL)
    valkey.ask("ACL", "SETUSER", f"reader-{namespace}", "on", ">secret", *rules.split())
    url = valkey.url.replace("://", f"://reader-{namespace}:secret@")
    before = keys_of(valkey, namespace)
    assert estimated(here, "--from-ledger", "--url", url)["counted"]["scripts"] > 0
    assert keys_of(valkey, namespace) == before
