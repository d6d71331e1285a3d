"""A trial run, and how it is undone: `scrapy dedup forget --trial`, `forget --since`."""

from __future__ import annotations

import re
import signal
import time
from hashlib import blake2b
from math import inf
from pathlib import Path

import pytest
import valkey as valkey_py

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.commands.shared.moments import read_moment
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.valkey.urls import redacted
from tests.support.crawls.world import World
from tests.support.ledgers import heartbeats, in_ledger
from tests.support.patience import wait_until
from tests.support.processes.dedup_command import (
    Command,
    Ended,
    dedup,
    key_of_post,
    on_terminal,
    project,
)
from tests.support.servers.site import pages_of
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("they make users, and look at all keys")

PAGES = Path(__file__).parents[2] / "docs" / "security.md"
NUMBERS = range(100)


def contents(url: str, namespace: str) -> dict[bytes, bytes]:
    """All keys of a namespace with what stands in them, without those of its trials."""
    mine = re.compile(rf"vd1:\{{{re.escape(namespace)}(?!\+trial-)[:+}}]".encode())
    with valkey_py.Valkey.from_url(url) as client:
        return {
            name: client.dump(name) for name in client.scan_iter(count=10_000) if mine.match(name)
        }


def of_trials(url: str, namespace: str) -> set[bytes]:
    """All keys of a namespace's trials."""
    with valkey_py.Valkey.from_url(url) as client:
        return {
            name
            for name in client.scan_iter(count=10_000)
            if f"{{{namespace}+trial-".encode() in name
        }


def forget(world: World, *given: str) -> Ended:
    """Forgets, outside a project."""
    where = ("--url", world.url, "--namespace", world.namespace)
    return dedup("forget", *given, *where, "--yes", "--json", directory=world.directory)


def test_a_trial_changes_nothing_for_others(world: World) -> None:
    """It drops what was stored before, knows its own, and whatever it stores stays new to all."""
    requests = {"VALKEY_DEDUP_REQUESTS": "stored"}
    trial = {**requests, "VALKEY_DEDUP_TRIAL": "first"}
    site = world.site(pages_of(range(100)))
    world.crawl(site, pages=[0, 1], **requests)
    before = contents(world.url, world.namespace)

    stats = world.crawl(site, **trial)
    assert (stats["dedup/items/new"], stats["dedup/items/confirmed"]) == (60, 60)
    assert stats["dedup/requests/duplicate"] == 2
    assert site.served == dict.fromkeys(range(5), 1)
    assert "VALKEY_DEDUP_TRIAL = 'first': what this run stores" in world.log
    assert "`scrapy dedup dump --trial first FILE`" in world.log
    assert f"`scrapy dedup load FILE --into {world.namespace}`" in world.log
    stats = world.crawl(site, **trial)
    assert stats["dedup/requests/duplicate"] == 5
    assert world.stored == {str(post): 1 for post in NUMBERS}
    assert contents(world.url, world.namespace) == before
    world.assert_settled()

    ended = forget(world, "--trial", "first")
    assert ended.code == 0, ended.err
    assert [ended.json[what] for what in ("posts", "pages", "forgotten")] == [60, 3, 63]
    assert of_trials(world.url, world.namespace) == set()
    assert contents(world.url, world.namespace) == before
    ended = forget(world, "--trial", "first")
    assert ended.code == 2
    assert f"there is no trial 'first' of the namespace '{world.namespace}'" in ended.err
    assert "there are: none" in ended.err

    world.crawl(site, **requests)
    assert world.stored == {str(post): 1 if post < 40 else 2 for post in NUMBERS}
    assert world.remembered(NUMBERS) == {str(post) for post in NUMBERS}


def test_a_trial_that_is_kept(world: World) -> None:
    """A dump of it, loaded into the namespace that was tried: no run fetches or stores it again."""
    requests = {"VALKEY_DEDUP_REQUESTS": "stored"}
    site = world.site(pages_of(range(60)))
    world.crawl(site, VALKEY_DEDUP_TRIAL="x", **requests)
    where, file = ("--url", world.url), str(world.directory / "x.dump")
    own = ("--namespace", world.namespace, "--trial", "x")
    for given in (("dump", *own, file), ("load", file, "--into", world.namespace)):
        ended = dedup(*given, *where, directory=world.directory)
        assert ended.code == 0, ended.err
    assert forget(world, "--trial", "x").code == 0
    assert world.remembered(range(60)) == {str(post) for post in range(60)}
    stats = world.crawl(site, **requests)
    assert stats["dedup/requests/duplicate"] == 3
    assert world.stored == {str(post): 1 for post in range(60)}


def test_a_trial_and_a_crawl_at_once(world: World) -> None:
    """Neither waits for the other, nor drops what the other is storing: each stores all."""
    site = world.site(pages_of(range(40)))
    site.free = 1
    crawl = world.start(site, CONCURRENT_REQUESTS=1)
    wait_until(lambda: len(world.stored) == 20)
    other = world.site(pages_of(range(20, 60)))
    stats = world.crawl(other, VALKEY_DEDUP_TRIAL="x")
    assert stats["dedup/items/new"] == 40
    site.free = inf
    stats = crawl.wait()
    assert stats["dedup/items/new"] == 40
    assert world.stored == {str(post): 2 if 20 <= post < 40 else 1 for post in range(60)}
    assert forget(world, "--all", "namespace").json["posts of the trial x"] == 40
    assert contents(world.url, world.namespace) == {}
    assert of_trials(world.url, world.namespace) == set()


def test_a_trial_that_is_killed(world: World) -> None:
    """Whenever it is killed, its posts are new to all others; what it still claims is told."""
    site = world.site(pages_of(range(60)))
    site.free = 2
    crawl = world.start(
        site, CONCURRENT_REQUESTS=1, VALKEY_DEDUP_TRIAL="x", VALKEY_DEDUP_CONFIRM="manual"
    )
    name = f"{world.namespace}+trial-x"
    wait_until(lambda: heartbeats(world.url, name) and len(world.stored) == 40)
    ended = forget(world, "--trial", "x")
    assert ended.code == 0, ended.err
    (run,) = ended.json["claimed_by_living_runs"]
    assert ended.json["claimed_by_living_runs"][run] == 40
    assert of_trials(world.url, world.namespace) != set()
    crawl.kill()
    site.free = inf
    world.crawl(site)
    assert world.stored == {str(post): 2 if post < 40 else 1 for post in range(60)}


def test_a_trial_that_ends_in_an_outage(tmp_path: Path, namespace: str) -> None:
    """What it could not confirm waits for the next run of the trial; no other run delivers it."""
    with ValkeyServer(persistent=True) as server:
        world = World(server.url, namespace, tmp_path)
        data = {"VALKEY_DEDUP_DATA_DIR": str(tmp_path / "data"), "VALKEY_DEDUP_TIMEOUT": 0.5}
        trial = {**data, "VALKEY_DEDUP_TRIAL": "x"}
        site = world.site(pages_of(range(60)))
        site.free = 1
        crawl = world.start(site, CONCURRENT_REQUESTS=1, **trial)
        wait_until(lambda: len(world.stored) == 20)
        server.kill()
        site.free = inf
        spooled = crawl.wait()["dedup/items/spooled"]
        assert spooled >= 40
        server.start()
        stats = world.crawl(site, **data)
        assert stats["dedup/items/confirmed"] == 60
        assert "dedup/items/recovered" not in stats
        stats = world.crawl(site, **trial)
        assert stats["dedup/items/recovered"] == spooled
        assert "dedup/items/new" not in stats
        assert world.stored == {str(post): 2 for post in range(60)}
        world.close()


def test_forgetting_that_is_killed(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Wherever it is killed, nothing but the trial has changed; the next one comes to the end."""
    here = project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)

    async def store(ledger: Ledger) -> None:
        await ledger.confirm_many([key_of_post(number) for number in NUMBERS])

    async def fill(ledger: Ledger) -> None:
        keys = [blake2b(b"%d" % number, digest_size=16).digest() for number in range(50_000)]
        await ledger.confirm_many(keys)

    in_ledger(valkey.url, namespace, store)
    in_ledger(valkey.url, f"{namespace}+trial-x", fill)
    before, trial = contents(valkey.url, namespace), of_trials(valkey.url, namespace)
    given = ("forget", "--trial", "x", "--yes", "--json")
    command = Command(*given, directory=here)
    wait_until(lambda: len(of_trials(valkey.url, namespace)) < len(trial))
    command.signal(signal.SIGKILL)
    command.end()
    assert contents(valkey.url, namespace) == before
    ended = dedup(*given, directory=here)
    assert of_trials(valkey.url, namespace) == set(), ended
    assert contents(valkey.url, namespace) == before


def test_the_verbs_in_a_trial(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> None:
    """With --trial each verb is about the trial; `check` knows the others' posts there, too."""
    here = project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)
    post = ("--spider", "forum", "--item", "posts.items.Post")

    async def store(ledger: Ledger) -> None:
        await ledger.confirm_many([key_of_post(0)])

    in_ledger(valkey.url, namespace, store)
    line = '{{"site": "x", "post_id": {}}}'
    lines = "".join(line.format(number) + "\n" for number in range(1, 4))

    def answer(*given: str, stdin: str = "") -> Ended:
        ended = dedup(*given, "--trial", "a.b_c-1", "--json", directory=here, stdin=stdin)
        assert ended.code == 0, ended.err
        return ended

    assert answer("import", *post, "-", stdin=lines).json["remembered"] == 3
    found = answer("check", *post, *map(line.format, range(5))).json["posts"]
    assert [each["known"] for each in found] == [True, True, True, True, False]
    assert answer("status").json["holds"]["posts"]["entries"] == 3
    assert f"{namespace}+trial-a.b_c-1" in answer("status").json["namespaces"]
    found = dedup("check", *post, "--json", *map(line.format, range(5)), directory=here).json
    assert [each["known"] for each in found["posts"]] == [True, False, False, False, False]
    ended = dedup("forget", "--trial", "b", "--yes", directory=here)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "there are: a.b_c-1" in ended.err
    found = answer("forget", *post, "--yes", line.format(0), line.format(1)).json
    assert (found["known"], found["forgotten"]) == (1, 1)  # the other one is not the trial's
    assert answer("forget", "--yes").json["forgotten"] == 2
    assert of_trials(valkey.url, namespace) == set()
    ended = dedup("status", "--trial", "a b", directory=here)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "VALKEY_DEDUP_TRIAL = 'a b': write a name" in ended.err


def test_who_may_try(world: World, valkey: ValkeyServer) -> None:
    """A user of a namespace may run trials in it; to forget a trial needs SCAN besides."""
    user, name = f"user-{world.namespace}", world.namespace
    patterns = re.findall(r"~\S+posts\S*", PAGES.read_text("utf-8").split("```text")[2])
    words = [word for word in RULES if not word.startswith("~")]
    allowed = [pattern.replace("posts", name) for pattern in patterns]
    valkey.ask("ACL", "SETUSER", user, "on", ">secret", *allowed, *words)
    url = valkey.url.replace("://", f"://{user}:secret@")
    site = world.site(pages_of(range(20)))
    changes = {"VALKEY_DEDUP_URL": url, "VALKEY_DEDUP_TRIAL": "x", "VALKEY_DEDUP_JOB": "j"}
    assert world.crawl(site, **changes)["dedup/items/confirmed"] == 20
    given = ("forget", "--trial", "x", "--yes", "--url", url, "--namespace", name)
    assert "scan" in dedup(*given, directory=world.directory).err
    valkey.ask("ACL", "SETUSER", user, "+scan")
    ended = dedup(*given, directory=world.directory)
    assert ended.code == 0, ended.err
    assert of_trials(world.url, name) == set()


# -- since a moment --------------------------------------------------------------------------------

HOUR = 3600
AGES = {"old": 0.5, "middle": 1.0, "new": 1.5}
"""Of generations of a retention of an hour: when they end, in hours from now. The first was written
until half an hour ago, the second from half an hour ago until now, the third is being written."""


def posts(age: str) -> list[bytes]:
    """Ten of each age."""
    start = 10 * list(AGES).index(age)
    return [key_of_post(number) for number in range(start, start + 10)]


def store_ages(url: str, namespace: str, shelf: str = "") -> None:
    """Has them remembered in generations that end so."""
    for age, hours in AGES.items():

        async def store(ledger: Ledger, age: str = age, hours: float = hours) -> None:
            ledger._remember = (ledger._remember[0], round(hours * HOUR * 1000), 1)
            await ledger.confirm_many(posts(age))

        in_ledger(url, namespace, store, shelf=shelf)


def known(url: str, namespace: str, shelf: str = "") -> list[str]:
    """The ages that are remembered."""
    found = []
    for age in AGES:

        async def look(ledger: Ledger, age: str = age) -> set[bool]:
            return set(await ledger.seen_many(posts(age)))

        if in_ledger(url, namespace, look, shelf=shelf) == {True}:
            found.append(age)
    return found


def a_project(tmp_path: Path, url: str, namespace: str, **more: object) -> Path:
    """A project that remembers for an hour."""
    kept = {"VALKEY_DEDUP_RETENTION": HOUR, "VALKEY_DEDUP_REQUEST_RETENTION": HOUR}
    return project(
        tmp_path, VALKEY_DEDUP_URL=url, VALKEY_DEDUP_NAMESPACE=namespace, **{**kept, **more}
    )


def test_forget_since_a_moment(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Posts, pages and timelines of every generation written since then, and of no other.

    It says from when on; nothing of another namespace, of a trial, or that is kept forever goes.
    """
    url, others = valkey.url, [f"{namespace}+trial-x", f"{namespace}.b", f"{namespace}0"]
    here = a_project(tmp_path, url, namespace)
    for shelf in ("", "pages", "timelines"):
        store_ages(url, namespace, shelf)
    for other in others:
        store_ages(url, other)

    async def keep(ledger: Ledger) -> None:
        ledger._remember = (ledger._remember[0], 0, 0)
        await ledger.confirm_many([key_of_post(number) for number in range(900, 907)])

    in_ledger(url, namespace, keep)
    folder = here / ".scrapy" / "valkey-dedup" / "spool"
    spool = Spool(folder, f"{redacted(url)} 0\n{namespace}", "")
    spool.learn("a-ledger")
    assert spool.write(b"".join(posts("new")))
    ended = dedup("forget", "--since", "10m", "--yes", "--json", "--all", "pages", directory=here)
    assert ended.code == 0, ended.err
    assert (ended.json["pages"], ended.json["forgotten"]) == (20, 20)
    assert ended.json["since"] == pytest.approx(time.time() - HOUR / 2, abs=60)
    assert "wait on this machine" not in ended.err  # those are posts
    assert known(url, namespace, "pages") == ["old"]
    assert known(url, namespace) == known(url, namespace, "timelines") == list(AGES)

    shown = on_terminal("forget", "--since", "10m", directory=here, typed="n\n")
    began = r"and with it what was stored or met from \d{4}-\d\d-\d\d \d\d:\d\d UTC on, as a gen"
    assert re.search(f"all that was stored since .* UTC, {began}", shown.plain), shown.plain
    assert known(url, namespace) == list(AGES)
    ended = dedup("forget", "--since", "10m", "--yes", "--json", directory=here)
    assert ended.code == 0, ended.err
    assert ended.json["forgotten"] == 40
    assert "7 entries are kept forever" in ended.err
    assert "10 posts that were stored in an outage wait on this machine's disk" in ended.err
    for shelf in ("", "pages", "timelines"):
        assert known(url, namespace, shelf) == ["old"]
    assert dedup("forget", "--since", "10m", "--yes", "--json", directory=here).json[
        "forgotten"
    ] == 0  # fmt: skip
    ended = dedup("forget", "--since", "40m", "--yes", "--json", directory=here)
    assert ended.json["forgotten"] == 30
    assert known(url, namespace) == []
    assert {other: known(url, other) for other in others} == {other: list(AGES) for other in others}


def test_a_shorter_retention_forgets_more(
    tmp_path: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """Where the retention was shorter before, what was written under it is found by giving it."""
    here = a_project(tmp_path, valkey.url, namespace, VALKEY_DEDUP_RETENTION=10 * HOUR)
    store_ages(valkey.url, namespace)
    given = ("forget", "--since", "10m", "--yes", "--json")
    ended = dedup(*given, directory=here)
    assert ended.json["forgotten"] == 0
    assert "If a run's retention is shorter than here" in ended.err
    ended = dedup(*given, "-s", f"VALKEY_DEDUP_RETENTION={HOUR}", directory=here)
    assert ended.json["forgotten"] == 20


def test_a_longer_retention_hides_the_age(
    tmp_path: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """What ends later than anything stored now may be of any age: it is told before it goes."""
    here = a_project(tmp_path, valkey.url, namespace)

    async def store(ledger: Ledger) -> None:
        await ledger.confirm_many([key_of_post(number) for number in NUMBERS])

    in_ledger(valkey.url, namespace, store, retention=100 * HOUR)
    ended = dedup("forget", "--since", "10m", directory=here)
    assert ended.code == 2
    assert "and with it what is kept for longer than the retention here" in ended.err
    ended = dedup("forget", "--since", "10m", "--yes", "--json", directory=here)
    assert (ended.json["forgotten"], ended.json["since"]) == (len(NUMBERS), None)


def test_since_in_a_ledger_that_never_forgets(
    tmp_path: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """What is kept forever has no date: one line says so, and nothing is forgotten."""
    here = a_project(tmp_path, valkey.url, namespace, VALKEY_DEDUP_RETENTION=None)
    for given in ([], ["--all", "posts"]):
        ended = dedup("forget", "--since", "3d", "--yes", *given, directory=here)
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert "VALKEY_DEDUP_RETENTION = None" in ended.err
    in_ledger(valkey.url, namespace, lambda ledger: ledger.confirm_many([key_of_post(1)]))
    ended = dedup("forget", "--since", "3d", "--yes", "--all", "pages", directory=here)
    assert ended.code == 0, ended.err


def test_moments() -> None:
    """A date, a date and time (UTC unless it says otherwise), or how long ago."""
    now = 1_800_000_000.0  # 2027-01-15 08:00 UTC
    for written, found in {
        "2027-01-15": now - 8 * HOUR,
        "2027-01-15 07:00": now - HOUR,
        "2027-01-15T07:00Z": now - HOUR,
        "2027-01-15 07:00 UTC": now - HOUR,
        "2027-01-15 07:00+01:00": now - 2 * HOUR,
        "3d": now - 72 * HOUR,
        "90m": now - 1.5 * HOUR,
    }.items():
        assert read_moment(written, now) == found, written
    for wrong in ("2027-01-16", "yesterday", "2027-13-01", ""):
        with pytest.raises(CommandError, match="--since"):
            read_moment(wrong, now)
