"""`scrapy dedup status`: what is told is what is there; nothing is changed."""

from __future__ import annotations

import json
import re
import time
from calendar import timegm
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
import valkey as valkey_py

from bench.servers import ValkeyCluster, ValkeyServer, free_port, wait_for
from scrapy_valkey_dedup.commands.shared.status import buckets
from scrapy_valkey_dedup.commands.shared.status.buckets import BucketSurvey, Contents, Generation
from scrapy_valkey_dedup.commands.shared.status.server import Node
from scrapy_valkey_dedup.commands.shared.status.state import LedgerState, forecast
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.stats import RunInfo
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.urls import redacted
from tests.support.crawls.world import World
from tests.support.ledgers import in_embedded_ledger, in_ledger, keys_of
from tests.support.patience import PATIENCE
from tests.support.processes.dedup_command import Ended, dedup, on_terminal, project
from tests.support.servers.embedded import is_free
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("they look at all keys, and make users")

POSTS, PAGES = 3000, 40


@pytest.fixture
def here(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Path:
    """A project on the session's server."""
    return project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)


def key(number: int) -> bytes:
    """One of many posts."""
    return digest([], [number])


def fill(url: str, namespace: str) -> None:
    """Posts, pages, and the claims of a run that lives and of one that is dead."""

    async def confirm(ledger: Ledger) -> None:
        await ledger.confirm_many([key(number) for number in range(POSTS)])

    async def confirm_pages(ledger: Ledger) -> None:
        await ledger.confirm_many([key(number) for number in range(PAGES)])

    async def live(ledger: Ledger) -> None:
        await ledger.runs.write_heartbeat(1, 3600)
        await ledger.claim_many([key(number) for number in range(-5, 0)])

    async def claim(ledger: Ledger) -> None:
        await ledger.claim_many([key(number) for number in range(-8, -5)])

    in_ledger(url, namespace, confirm)
    in_ledger(url, namespace, confirm_pages, shelf="pages")
    in_ledger(url, namespace, live, run="living")
    in_ledger(url, namespace, claim, run="dead", shelf="pages")


def spool(here: Path, url: str, namespace: str, count: int) -> None:
    """Leaves confirmations on the disk, as a run does that ends in an outage."""
    made = Spool(here / ".scrapy" / "valkey-dedup" / "spool", f"{redacted(url)} 0\n{namespace}", "")
    made.learn("a-ledger")
    assert made.write(b"".join(key(number) for number in range(count)))


def entries(ended: Ended) -> dict[str, int]:
    """How many of each kind were told."""
    assert ended.code == 0, ended.err
    return {what: held["entries"] for what, held in ended.json["holds"].items()}


def test_status_tells_what_is_there(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Posts, pages and their ends, memory, runs, claims of the living and the dead, the spool."""
    fill(valkey.url, namespace)
    fill(valkey.url, f"{namespace}.b")
    spool(here, valkey.url, namespace, 12)
    before = keys_of(valkey, namespace)
    found = dedup("status", "--json", "--exact", directory=here)
    assert entries(found) == {"posts": POSTS, "pages": PAGES, "timelines": 0}
    told = found.json
    (generation,) = told["holds"]["posts"]["generations"]
    assert generation["entries"] == POSTS
    assert told["holds"]["posts"]["exact"] is True
    assert 8 < told["holds"]["posts"]["bytes_each"] < 200
    assert told["runs"] == [{"run": "living"}]
    assert told["claims"] == {"living": 5, "dead": 3}
    assert told["claims_of_dead_runs"] == {"dead": 3}
    assert told["spooled"] == {"posts": 12}
    assert {namespace, f"{namespace}.b"} <= set(told["namespaces"])
    assert told["topology"] == "one server"
    assert told["memory"][0]["used"] > 0
    assert keys_of(valkey, namespace) == before

    piped = dedup("status", directory=here)
    assert piped.code == 0, piped.err
    assert re.search(
        rf"^posts +\d{{4}}-\d\d-\d\d \d\d:\d\d UTC +{POSTS:,}", piped.out, re.MULTILINE
    )
    assert re.search(r"^dead runs +3 open claims of dead:", piped.out, re.MULTILINE)
    assert re.search(r"^spool +12 posts wait on this machine", piped.out, re.MULTILINE)
    assert re.search(r"^living +starting +5$", piped.out, re.MULTILINE)
    shown = on_terminal("status", directory=here)
    assert shown.code == 0
    assert re.search(rf"pages +\d{{4}}-.* UTC +{PAGES} ", shown.plain)


def test_status_for_prometheus(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Each line is a sample with the namespace, or says what the next ones are."""
    fill(valkey.url, namespace)
    ended = dedup("status", "--format", "prometheus", directory=here)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    sample = re.compile(rf'[a-z_]+\{{namespace="{namespace}"(,[a-z]+="[^"]*")*\}} [\d.e+-]+')
    assert [line for line in lines if not (line.startswith("# ") or sample.fullmatch(line))] == []
    prefix = f'scrapy_valkey_dedup_{{}}{{{{namespace="{namespace}"{{}}}}}} {{}}'
    assert prefix.format("up", "", 1) in lines
    assert prefix.format("entries", ',kind="posts"', POSTS) in lines
    assert prefix.format("claims", ',run="dead"', 3) in lines
    ended = dedup("status", "--json", "--format", "prometheus", directory=here)
    assert ended.code == 2
    assert "exclude each other" in ended.err


def test_status_of_an_empty_ledger(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Where no run has been, that is told; nothing is made, and nothing is wrong."""
    ended = dedup("status", "--json", directory=here)
    assert entries(ended) == {"posts": 0, "pages": 0, "timelines": 0}
    assert ended.json["empty"] is True
    assert keys_of(valkey, namespace) == set()
    assert "no run has been here yet" in dedup("status", directory=here).out


def test_status_in_an_outage(tmp_path: Path, namespace: str) -> None:
    """It says so, with what waits on this machine, and ends with 2."""
    url = f"valkey://127.0.0.1:{free_port()}"
    here = project(
        tmp_path,
        VALKEY_DEDUP_URL=url, VALKEY_DEDUP_NAMESPACE=namespace, VALKEY_DEDUP_TIMEOUT=0.5,
    )  # fmt: skip
    spool(here, url, namespace, 7)
    ended = dedup("status", "--json", directory=here)
    assert ended.code == 2
    assert "gave no answer" in ended.json["error"]
    assert ended.json["spooled"] == {"posts": 7}
    ended = dedup("status", directory=here)
    assert ended.code == 2
    assert "7 posts wait on this machine" in ended.out
    assert ended.err.count("\n") == 1
    ended = dedup("status", "--format", "prometheus", directory=here)
    assert ended.code == 2
    assert f'scrapy_valkey_dedup_up{{namespace="{namespace}"}} 0' in ended.out


def test_status_right_after_a_crash(tmp_path: Path, namespace: str) -> None:
    """A server that was killed and is back tells what it kept; a killed run's claims are told."""
    with ValkeyServer(persistent=True) as server:
        here = project(tmp_path, VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_NAMESPACE=namespace)
        fill(server.url, namespace)
        server.kill()
        server.start()
        ended = dedup("status", "--json", directory=here)
        assert entries(ended) == {"posts": POSTS, "pages": PAGES, "timelines": 0}
        assert ended.json["claims_of_dead_runs"] == {"dead": 3}


def test_status_of_an_embedded_ledger(tmp_path: Path) -> None:
    """The embedded server is started and stopped; where there is none that is told, with 2."""
    here = project(tmp_path)
    folder = tmp_path / ".scrapy" / "valkey-dedup"
    ended = dedup("status", directory=here)
    assert ended.code == 2
    assert "there is no ledger yet" in ended.err
    assert not folder.exists()

    in_embedded_ledger(folder, lambda ledger: ledger.confirm_many([*map(key, range(100))]))
    ended = dedup("status", "--json", directory=here)
    assert entries(ended)["posts"] == 100
    assert ended.json["holds"]["posts"]["generations"] == [{"ends": None, "entries": 100}]
    assert ended.json["topology"] == "embedded server of this machine"
    assert re.search(r"^posts +forever +100 ", dedup("status", directory=here).out, re.MULTILINE)
    assert "forever" in on_terminal("status", directory=here).plain
    assert is_free(folder / "server.lock")


def test_status_in_a_cluster(tmp_path: Path, namespace: str) -> None:
    """Every node's part is counted, and its memory told."""
    with ValkeyCluster(replicas=0) as cluster:
        here = project(tmp_path, VALKEY_DEDUP_URL=cluster.url, VALKEY_DEDUP_NAMESPACE=namespace)
        fill(cluster.url, namespace)
        ended = dedup("status", "--json", directory=here)
        assert entries(ended) == {"posts": POSTS, "pages": PAGES, "timelines": 0}
        assert ended.json["claims"] == {"living": 5, "dead": 3}
        assert ended.json["topology"] == f"cluster, {len(cluster.nodes)} primaries"
        assert len(ended.json["memory"]) == len(cluster.nodes)


def test_status_with_a_user_who_may_only_read(
    here: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """The permissions of docs/security.md are enough for all; without SCAN and INFO the rest."""
    fill(valkey.url, namespace)
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    (rules,) = re.findall(r"ACL SETUSER reader on >PASSWORD (.*?)\n```", page, re.DOTALL)
    users = {"reader": rules.split(), "spider": [*RULES]}
    told: dict[str, Any] = {}
    for name, words in users.items():
        valkey.ask("ACL", "SETUSER", f"{name}-{namespace}", "on", ">secret", *words)
        url = valkey.url.replace("://", f"://{name}-{namespace}:secret@")
        ended = dedup("status", "--url", url, "--json", directory=here)
        assert entries(ended) == {"posts": POSTS, "pages": PAGES, "timelines": 0}
        assert "secret" not in ended.out
        told[name] = ended.json
    assert told["reader"]["claims"] == {"living": 5, "dead": 3}
    assert told["reader"]["memory"][0]["used"] > 0
    assert told["reader"]["holds"]["posts"]["bytes"] > 0
    assert told["spider"]["memory"][0]["used"] is None
    assert "scan" in told["spider"]["refused"]


def test_a_run_tells_what_it_is_doing(tmp_path: Path, world: World, valkey: ValkeyServer) -> None:
    """Spider, host, start, claims, new and duplicate, of the living.

    The note is a key beside the heartbeat, with its own expiry, which takes less than 400 bytes.
    The last note of a run has what the crawl's stats have; to status the run is over.
    """
    here = project(
        tmp_path / "project", VALKEY_DEDUP_URL=world.url, VALKEY_DEDUP_NAMESPACE=world.namespace
    )
    site = world.site({number: [{"post_id": number % 5, "text": ""}] for number in range(40)})
    site.free = 12
    crawl = world.start(
        site, CONCURRENT_REQUESTS=1, VALKEY_DEDUP_WAIT=0, VALKEY_DEDUP_LEASE=1,
        VALKEY_DEDUP_TIMEOUT=1, VALKEY_DEDUP_CONFIRM="manual",
    )  # fmt: skip
    began = time.time()

    def told() -> Any:
        runs = dedup("status", "--json", directory=here).json["runs"]
        return runs[0] if runs and runs[0].get("new") == 5 else None

    run = wait_for(told, PATIENCE, "the run's note")
    assert run["host"] == gethostname()
    assert abs(run["start"] - began) < PATIENCE
    assert (run["open"], run["spider"]) == (5, "posts")
    (name,) = [name for name in valkey.ask("KEYS", "*") if f"{{{world.namespace}}}:info:" in name]
    assert 0 < valkey.ask("MEMORY", "USAGE", name) < 400
    assert 0 < valkey.ask("PTTL", name) < 10_000
    shown = dedup("status", directory=here).out
    assert re.search(rf"^{re.escape(run['run'])} +posts +{gethostname()} ", shown, re.MULTILINE)
    lines = dedup("status", "--format", "prometheus", directory=here).out
    assert f'_run_new{{namespace="{world.namespace}",run="{run["run"]}",spider="posts"' in lines
    site.free = inf
    stats = crawl.wait()
    assert 0 < valkey.ask("PTTL", name) < 10_000
    last = RunInfo.from_json(valkey.ask("GET", name))
    assert last is not None
    counted = (last.new, last.duplicate, last.open, last.unchecked, last.outages)
    assert counted == (stats["dedup/items/new"], stats.get("dedup/items/duplicate", 0), 0, 0, 0)
    assert last.ended == stats["finish_reason"] == "finished"
    assert run["age"] < last.age < time.time() - began + PATIENCE
    assert dedup("status", "--json", directory=here).json["runs"] == []


NOTE = {"spider": "posts", "host": "here", "start": 1.5, "new": 3}


@pytest.mark.parametrize(
    "changed",
    [
        {"spider": 7}, {"host": None}, {"spider": "x" * 61}, {"start": "now"}, {"start": 1e300},
        {"start": inf}, {"start": -1}, {"new": True}, {"new": 1.5}, {"new": 10**400}, {"open": []},
        {"age": -0.1},
    ],
    ids=str,
)  # fmt: skip
def test_a_note_that_no_run_has_written(changed: dict[str, Any]) -> None:
    """Facts of the wrong kind, or too large, are no note; those of a later version are left out."""
    found = RunInfo.from_json(json.dumps({**NOTE, "later": {}}).encode())
    assert found == RunInfo("posts", "here", 1.5, new=3)
    assert RunInfo.from_json(json.dumps({**NOTE, **changed}).encode()) is None
    for written in (None, b"", b"{}", b"[]", b"null", b"[" * 100_000, b"\xff", b'"spider"'):
        assert RunInfo.from_json(written) is None


def test_a_note_that_is_not_permitted_harms_no_crawl(world: World, valkey: ValkeyServer) -> None:
    """A user whose keys leave it out crawls as any other: no outage, and its heartbeat ends."""
    user, root = f"user-{world.namespace}", f"~vd1:{{{world.namespace}"
    keys = [f"{root}:*", f"{root}+*", *(f"{root}}}:{name}" for name in ("run:*", "layout", "id"))]
    words = [word for word in RULES if not word.startswith("~")]
    valkey.ask("ACL", "SETUSER", user, "on", ">secret", *keys, *words)
    url = valkey.url.replace("://", f"://{user}:secret@")
    site = world.site({number: [{"post_id": number, "text": ""}] for number in range(6)})
    site.free = 3
    crawl = world.start(
        site, CONCURRENT_REQUESTS=1, VALKEY_DEDUP_URL=url, VALKEY_DEDUP_WAIT=0,
        VALKEY_DEDUP_LEASE=1, VALKEY_DEDUP_TIMEOUT=1,
    )  # fmt: skip
    wait_for(
        lambda: f"{{{world.namespace}}}:info:" in str(valkey.ask("ACL", "LOG")), PATIENCE, "it"
    )
    site.free = inf
    assert "dedup/valkey/outages" not in crawl.wait()
    assert len(world.stored) == 6
    assert not [name for name in valkey.ask("KEYS", "*") if f"{{{world.namespace}}}:run:" in name]


def test_room_until_the_memory_is_full(tmp_path: Path, namespace: str) -> None:
    """With a limit there are so many posts to come: what is free by what each takes."""
    with ValkeyServer("--maxmemory", "100mb") as server:
        here = project(tmp_path, VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_NAMESPACE=namespace)
        fill(server.url, namespace)
        told = dedup("status", "--json", directory=here).json
        (memory,) = told["memory"]
        assert memory["limit"] == 100 << 20
        assert memory["policy"] == "noeviction"
        assert 0 < told["room"]["bytes"] <= memory["limit"] - memory["used"] + (1 << 20)
        each = told["holds"]["posts"]["bytes_each"]
        assert told["room"]["posts"] == pytest.approx(told["room"]["bytes"] / each, rel=0.01)
        assert told["room"]["full_at"] is None  # it has been filled for a moment only
        assert re.search(r"^room +\d.* MB, about [\d,]+ posts", dedup("status", directory=here).out,
                         re.MULTILINE)  # fmt: skip


def test_a_part_tells_what_all_hold(
    valkey: ValkeyServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not all buckets are looked at it is told that it is about, and it is within 5 %."""
    count = 100_000

    async def look(ledger: Ledger) -> None:
        await ledger.confirm_many([key(number) for number in range(count)])
        server = Client(valkey.url, "", {}, 10)
        part = await BucketSurvey(server, namespace, "posts").measure()
        whole = await BucketSurvey(server, namespace, "posts", exact=True).measure()
        await server.close()
        assert not part.is_exact
        assert part.entries == pytest.approx(count, rel=0.05)
        assert (whole.entries, whole.is_exact) == (count, True)

    monkeypatch.setattr(buckets, "_ENOUGH", 1000)
    in_ledger(valkey.url, namespace, look)


# -- what it costs, and what it foretells ----------------------------------------------------------

SMALL = {
    "hello",
    "get",
    "mget",
    "scard",
    "scan",
    "info",
    "memory|usage",
    "select",
    "client|setinfo",
}
"""Commands whose time does not depend on how many posts there are, or whose step is bounded."""


def test_status_asks_in_small_steps(here: Path, namespace: str) -> None:
    """Each command takes a bounded time; and of ten times as many posts they are no more.

    As long as no bucket is full, that is: then a level more is looked at.
    """
    with ValkeyServer() as server:
        asked = []
        for count in (2_000, 20_000):

            async def fill(ledger: Ledger, count: int = count) -> None:
                await ledger.confirm_many([key(number) for number in range(count)])

            in_ledger(server.url, namespace, fill)
            server.ask("CONFIG", "RESETSTAT")
            with watched(server) as commands:
                ended = dedup("status", "--url", server.url, "--json", directory=here)
                assert ended.json["holds"]["posts"]["entries"] == count, ended.err
            stats = server.ask("INFO", "commandstats")
            calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
            mine = {name: number for name, number in calls.items() if name not in _WATCHERS}
            assert set(mine) <= SMALL, mine
            asked.append(sum(mine.values()))
            scans = [words for words in commands if words[0] == "SCAN"]
            assert scans
            assert all(int(words[words.index("COUNT") + 1]) <= 1000 for words in scans)
            assert max(len(words) for words in commands if words[0] == "MGET") <= 1001
        assert asked[1] < 1.1 * asked[0] < 16_000


_WATCHERS = {"monitor", "config|resetstat", "ping", "quit"}


@contextmanager
def watched(server: ValkeyServer) -> Iterator[list[list[str]]]:
    """The commands that a server is sent meanwhile."""
    url = server.url  # it may be a while until the command, as it starts, sends anything
    with (
        valkey_py.Valkey.from_url(url, socket_timeout=PATIENCE) as client,
        client.monitor() as monitor,
    ):
        commands: list[list[str]] = []
        yield commands
        client.execute_command("PING", "that was all")
        while (words := str(monitor.next_command()["command"]).split(" "))[0] != "PING":
            commands.append(words)


DAY = 86400.0
KEPT = 90 * DAY


def state_of(*, limit: int, ages: dict[float, int], nodes: int = 1) -> LedgerState:
    """A ledger with so many posts in generations that began so many days ago, of 10 bytes each."""
    state = LedgerState("somewhere", "posts")
    facts = {"used_memory": "1000000", "maxmemory": str(limit)}
    state.nodes = [Node(str(number), facts) for number in range(nodes)]
    generations = [Generation(NOW + 1.5 * KEPT - DAY * age, ages[age]) for age in ages]
    state.contents = {"posts": Contents(generations, bytes_each=10.0)}
    return state


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("limit", "ages", "nodes", "posts", "rate", "days"),
    [
        # 100,000 posts a day for ten days, and room for 500,000 more: five days.
        (6_000_000, {10: 1_000_000}, 1, 500_000, 100_000, 5),
        # The same, since the older of two generations began.
        (6_000_000, {10: 600_000, 2: 400_000}, 1, 500_000, 100_000, 5),
        # Two servers have twice the room of the one that has less.
        (6_000_000, {10: 1_000_000}, 2, 1_000_000, 100_000, 10),
        # At 1.5 retentions what is forgotten makes room: 13.5 million posts are the most there are.
        (126_000_000, {10: 1_000_000}, 1, 12_500_000, 100_000, inf),
        (125_999_990, {10: 1_000_000}, 1, 12_499_999, 100_000, 124.99999),
        # Full already.
        (900_000, {10: 1_000_000}, 1, 0, 100_000, 0),
        # For less than an hour it cannot be told.
        (6_000_000, {0.04: 1_000_000}, 1, 500_000, None, None),
        # Nothing is remembered, so what a post takes is not known.
        (6_000_000, {}, 1, None, None, None),
    ],
)
def test_the_day_when_memory_is_full(  # noqa: PLR0913, PLR0917 (a table)
    limit: int,
    ages: dict[float, int],
    nodes: int,
    posts: int | None,
    rate: float | None,
    days: float | None,
) -> None:
    """Room by what a post takes, and by the rate since the oldest generation began."""
    state = state_of(limit=limit, ages=ages, nodes=nodes)
    if not ages:
        state.contents["posts"].bytes_each = None
    found = forecast(state, KEPT, NOW)
    assert found is not None
    assert (found.posts, found.rate and pytest.approx(found.rate * DAY)) == (posts, rate)
    told = None if found.full_at is None else (found.full_at - NOW) / DAY
    assert told == (None if days is None else pytest.approx(days))


def test_the_rate_of_runs(namespace: str) -> None:
    """Where the ledger itself tells no rate, as it never forgets, runs do that have had an hour."""
    state = state_of(limit=6_000_000, ages={})
    state.contents["posts"] = Contents([Generation(inf, 1_000_000)], bytes_each=10.0)
    notes = {
        "a": RunInfo("x", "y", NOW - DAY, new=100_000),
        "b": RunInfo("x", "y", NOW - 60, new=9),
    }
    state.runs.infos, state.runs.alive = notes, ["a", "b"]
    found = forecast(state, None, NOW)
    assert found is not None
    assert found.rate == pytest.approx(100_000 / DAY)
    assert found.full_at == pytest.approx(NOW + 5 * DAY)
    state.runs.alive = ["b"]
    found = forecast(state, None, NOW)
    assert found is not None
    assert (found.rate, found.full_at) == (None, None)


def test_the_day_is_told(here: Path, namespace: str) -> None:
    """In the table and for machines: the room that there is, by the rate of the last day."""
    with ValkeyServer() as server:

        async def fill(ledger: Ledger) -> None:  # as a day ago, by a retention of 90 days
            ledger._remember = (ledger._remember[0], round(134 * DAY * 1000), 1)
            await ledger.confirm_many([key(number) for number in range(POSTS)])

        in_ledger(server.url, namespace, fill)
        # Much more than the buffers of connections, which come and go.
        limit = server.ask("INFO", "memory")["used_memory"] + 10**7
        server.ask("CONFIG", "SET", "maxmemory", limit)
        told = dedup("status", "--url", server.url, "--json", directory=here).json
        room, each = told["room"], told["holds"]["posts"]["bytes_each"]
        assert room["posts_a_day"] == POSTS
        left = room["bytes"] / (POSTS * each)
        assert 1 < left < 100
        assert (room["full_at"] - time.time()) / DAY == pytest.approx(left, rel=0.01)
        shown = dedup("status", "--url", server.url, directory=here).out
        (line,) = [line for line in shown.splitlines() if line.startswith("room ")]
        found = re.search(r"; 3,000 a day recently: full about (\d{4}-\d\d-\d\d)$", line)
        assert found, line
        told_day = timegm(time.strptime(found[1], "%Y-%m-%d"))
        assert (told_day - time.time()) / DAY == pytest.approx(left, rel=0.2, abs=1)
