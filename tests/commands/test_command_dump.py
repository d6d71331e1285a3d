"""`scrapy dedup dump` and `load`: a namespace goes into a file, and back, wherever to."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bench.servers import FaultyProxy, Tls, ValkeyCluster, ValkeyServer, free_port
from scrapy_valkey_dedup.commands.shared.connection import SHELVES
from scrapy_valkey_dedup.commands.shared.dumps.format import Header
from scrapy_valkey_dedup.commands.shared.dumps.reader import DumpReader
from scrapy_valkey_dedup.commands.shared.dumps.writer import DumpWriter
from scrapy_valkey_dedup.ledger.keys import PARTITIONS, namespace_tag
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.ledger.transfer import Bucket, BucketBatch, ShelfBuckets
from scrapy_valkey_dedup.model import TRIAL_MARK
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.urls import redacted
from tests.support.crawls.items import stored
from tests.support.crawls.world import World
from tests.support.ledgers import in_ledger, remembered
from tests.support.patience import wait_until
from tests.support.processes.dedup_command import (
    Command,
    dedup,
    environment,
    key_of_post,
    on_terminal,
    project,
)
from tests.support.servers.site import pages_of
from tests.support.servers.standin import a_serverless, as_admin, not_on_serverless
from tests.support.servers.tls import LOOPBACK, SPEAKER, Authority, needs_tls

pytestmark = not_on_serverless("they make users, and look at all keys")

ROOT = Path(__file__).parents[2]
NUMBERS = range(300)
POST = ("--spider", "forum", "--item", "posts.items.Post")
MANY = 20_000


@pytest.fixture
def here(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Path:
    """A project on the session's server."""
    return project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)


def store(url: str, namespace: str, numbers: Iterable[int] = NUMBERS, shelf: str = "") -> None:
    """Remembers posts, or as many pages or sightings."""
    keys = [key_of_post(number) for number in numbers]

    async def stored(ledger: Ledger) -> None:
        await ledger.confirm_many(keys)

    in_ledger(url, namespace, stored, shelf=shelf)


def known(url: str, namespace: str, numbers: Iterable[int], shelf: str = "") -> set[int]:
    """Which of them are remembered."""
    asked = list(numbers)

    async def look(ledger: Ledger) -> list[bool]:
        return await ledger.seen_many([key_of_post(number) for number in asked])

    found = in_ledger(url, namespace, look, shelf=shelf)
    return {number for number, seen in zip(asked, found, strict=True) if seen}


def held(url: str, namespace: str) -> set[tuple[Any, ...]]:
    """All that a namespace remembers: where it stands, and until when."""

    async def look() -> set[tuple[Any, ...]]:
        server = Client(as_admin(url), url, {}, 10)
        try:
            return {
                (kind, number, batch.ends, bucket.path, *bucket.members)
                for kind, shelf in SHELVES.items()
                for number in range(PARTITIONS)
                async for batch in ShelfBuckets(server, namespace_tag(namespace), shelf).read(
                    number
                )
                for bucket in batch.buckets
            }
        finally:
            await server.close()

    return asyncio.run(look())


def answer(*given: str, directory: Path) -> Any:
    """What a command that ends well answers."""
    ended = dedup(*given, "--json", directory=directory)
    assert ended.code == 0, ended.err
    return ended.json


# -- there and back --------------------------------------------------------------------------------


def test_a_namespace_there_and_back(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """All three kinds are the same afterwards, with their ends; loading again adds nothing."""
    for number, shelf in enumerate(SHELVES.values()):
        store(valkey.url, namespace, range(300 - number), shelf)
    there = f"{namespace}-there"
    found = answer("dump", "a.dump", directory=here)
    counts = {"posts": 300, "pages": 299, "timelines": 298}
    assert {name: found[name] for name in counts} == counts
    assert (found["namespace"], found["file"]) == (namespace, str(here / "a.dump"))
    assert found["bytes"] == (here / "a.dump").stat().st_size

    nothing = dict.fromkeys(counts, 0)
    for new in (counts, nothing):
        loaded = answer("load", "a.dump", "--into", there, directory=here)
        assert loaded["namespace"] == there
        assert [loaded[name] for name in ("entries", "new", "expired")] == [counts, new, nothing]
        assert held(valkey.url, there) == held(valkey.url, namespace)
    assert known(valkey.url, there, range(400)) == set(range(300))
    assert known(valkey.url, there, range(400), "timelines") == set(range(298))


def test_claims_and_other_namespaces_stay(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Claims and heartbeats are not in the file; no other namespace is, or is touched."""

    async def claim(ledger: Ledger) -> None:
        await ledger.confirm_many([key_of_post(1)])
        await ledger.claim_many([key_of_post(2)])
        await ledger.runs.write_heartbeat(1, 3600)

    in_ledger(valkey.url, namespace, claim)
    others = (f"{namespace}.b", f"{namespace}0", f"{namespace}+pages")
    for other in others:
        store(valkey.url, other)
    assert answer("dump", "a.dump", directory=here)["posts"] == 1
    before = {other: held(valkey.url, other) for other in (namespace, *others)}
    there = f"{namespace}-there"
    answer("load", "a.dump", "--into", there, directory=here)
    assert {other: held(valkey.url, other) for other in before} == before
    keys = valkey.ask("KEYS", f"vd1:{{{there}*")
    assert not [key for key in keys if ":c:" in key or ":run:" in key]
    assert len(keys) == 4  # the layout, the ledger's own id, a list of generations, a bucket
    ids = {valkey.ask("GET", f"vd1:{{{name}}}:id") for name in (namespace, there)}
    assert len(ids) == 2

    # And where a live run has claimed it, the claim stays although the post is loaded.
    in_ledger(valkey.url, namespace, lambda ledger: ledger.forget_many([key_of_post(1)]))
    in_ledger(valkey.url, namespace, lambda ledger: ledger.claim_many([key_of_post(1)]))
    answer("load", "a.dump", directory=here)
    (state,) = in_ledger(
        valkey.url, namespace, lambda ledger: ledger.inspect_many([key_of_post(1)])
    )
    assert state.until is not None
    assert state.holder == "outsider"


def test_all_namespaces(tmp_path: Path) -> None:
    """Each goes into a file; where keys have only the digest of a name, --into says the name."""
    with ValkeyServer(port=free_port()) as server:
        here = project(tmp_path, VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_NAMESPACE="Frühling")
        names = ["Frühling", "one", "two words"]
        for number, name in enumerate(names):
            store(server.url, name, range(100 * number, 100 * number + 50))
        store(server.url, f"one{TRIAL_MARK}x")
        found = answer("dump", "--all-namespaces", "backups", directory=here)["dumps"]
        assert {each["tag"] for each in found} == set(map(namespace_tag, names))
        assert {each["namespace"] for each in found} == {"Frühling", "one", None}
        files = {each["tag"]: each["file"] for each in found}
        before = [held(server.url, name) for name in names]
        server.ask("FLUSHALL")
        ended = dedup("load", files[namespace_tag("two words")], directory=here)
        assert (ended.code, "add --into NAMESPACE" in ended.err) == (2, True)
        for name in names:
            into = ("--into", name) if name == "two words" else ()
            answer("load", files[namespace_tag(name)], *into, directory=here)
        assert [held(server.url, name) for name in names] == before


def test_what_an_operator_sees(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Plain lines in a pipe, a bar on a terminal, and a note where spiders here would not look."""
    store(valkey.url, namespace)
    ended = dedup("dump", "a.dump", directory=here)
    assert re.search(r"^posts +300$", ended.out, re.MULTILINE), ended.out
    assert ended.err == ""
    ended = on_terminal("load", "a.dump", "--into", f"{namespace}-there", directory=here)
    assert ended.code == 0
    assert "load a.dump" in ended.plain
    assert re.search(r"posts +300 +300 +0", ended.plain), ended.plain
    ended = dedup("load", "a.dump", "-s", "VALKEY_DEDUP_NAMESPACE=other", directory=here)
    assert ended.code == 0
    said = f"the entries are in the namespace {namespace!r} now, but VALKEY_DEDUP_NAMESPACE is"
    assert said in ended.err
    ended = dedup("load", "a.dump", "--into", f"{namespace}-there", directory=here)
    assert said.replace(namespace, f"{namespace}-there") in ended.err
    for name in (namespace, f"{namespace}+trial-x"):
        assert dedup("load", "a.dump", "--into", name, directory=here).err == ""
    for verb in ("dump", "load"):
        ended = dedup(verb, "--help", directory=here)
        assert f"scrapy dedup {verb} posts.dump" in ended.out


def test_a_dump_whose_retention_is_over(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Nothing is loaded any more, and the exit code says so."""
    header = Header(namespace, namespace, "2026-11-26T08:00:00+00:00")
    with DumpWriter(here / "a.dump", header) as file:
        ends = int(time.time() - 1) * 1000
        file.add("posts", BucketBatch(3, ends, [Bucket("00", array("q", NUMBERS))]))
        file.finish()
    ended = dedup("load", "a.dump", "--json", directory=here)
    assert ended.code == 1
    assert ended.json["expired"]["posts"] == ended.json["entries"]["posts"] == len(NUMBERS)
    assert held(valkey.url, namespace) == set()


def test_confirmations_on_the_disk_are_told(
    here: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """What an outage has left on this machine is not in the ledger yet: a line says so."""
    store(valkey.url, namespace)
    folder = here / ".scrapy" / "valkey-dedup" / "spool"
    spool = Spool(folder, f"{redacted(valkey.url)} 0\n{namespace}", "")
    spool.learn("a-ledger")
    assert spool.write(b"".join(map(key_of_post, range(300, 307))))
    ended = dedup("dump", "a.dump", "--json", directory=here)
    assert ended.json["posts"] == 300
    assert "7 posts that were stored in an outage wait on this machine's disk" in ended.err


# -- what is refused -------------------------------------------------------------------------------


def test_a_file_that_is_not_whole_changes_nothing(
    here: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """One line says what is wrong with it, and no key is written, not even the layout."""
    store(valkey.url, namespace)
    answer("dump", "a.dump", directory=here)
    whole = (here / "a.dump").read_bytes()
    middle = len(whole) // 2
    wrong = {
        "damaged": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "cut off": whole[:-1],
        "version '9'": whole.replace(b"dump 1", b"dump 9", 1),
    }
    there = f"{namespace}-there"
    for said, content in wrong.items():
        (here / "b.dump").write_bytes(content)
        ended = dedup("load", "b.dump", "--into", there, directory=here)
        assert ended.code == 2
        assert ended.err.count("\n") == 1
        assert said in ended.err, ended.err
    assert valkey.ask("KEYS", f"vd1:{{{there}*") == []
    answer("load", "a.dump", "--into", there, directory=here)
    assert held(valkey.url, there) == held(valkey.url, namespace)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["dump"], "the following arguments are required: file"),
        (["dump", "a.dump"], "there is no ledger of the namespace"),
        (["dump", "nowhere/a.dump"], "No such file or directory"),
        (["dump", "scrapy.cfg"], "exists and is not a dump"),
        (["load", "nothing.dump"], "No such file or directory"),
        (["load", "scrapy.cfg"], "is not a dump"),
        (["load", "scrapy.cfg", "--namespace", "other"], "--into NAMESPACE changes it"),
        (["load", "a.dump", "--into", "{spider}"], "it takes a name, without { and }"),
        (["load", "a.dump", "--into", " "], "write a text that is not empty"),
        (["load", "scrapy.cfg", "--trial", "x"], "--into NAMESPACE+trial-x"),
    ],
)
def test_wrong_usage(
    here: Path, valkey: ValkeyServer, namespace: str, given: list[str], said: str
) -> None:
    """One line says what is wrong, with 2, and nothing is left."""
    if "a.dump" not in given:
        store(valkey.url, namespace)
    if "--into" in given:
        store(valkey.url, namespace)
        answer("dump", "a.dump", directory=here)
    before = sorted(here.rglob("*.dump*"))
    ended = dedup(*given, directory=here)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(here.rglob("*.dump*")) == before


# -- interrupted -----------------------------------------------------------------------------------


@contextmanager
def slow(tmp_path: Path, delay: float, timeout: float = 5) -> Iterator[tuple[Path, ValkeyServer]]:
    """A project with posts, and a server so far away that a command takes seconds."""
    with (
        ValkeyServer(port=free_port(), persistent=True) as server,
        FaultyProxy(server.port or 0) as line,
    ):
        line.delay = delay
        url = server.url_through(line.port)
        given = {"URL": url, "NAMESPACE": "one", "TIMEOUT": timeout}
        here = project(tmp_path, **{f"VALKEY_DEDUP_{name}": each for name, each in given.items()})
        store(server.url, "one", range(MANY))
        yield here, server


def begun(*given: str, directory: Path, is_begun: Callable[[], Any]) -> Command:
    """A command that is under way."""
    command = Command(*given, "--json", directory=directory)
    wait_until(is_begun)
    return command


def test_killed_while_it_loads(tmp_path: Path) -> None:
    """What was loaded stays, and to load the file again does the rest: then all is as in one go."""
    with slow(tmp_path, 0.005) as (here, server):
        direct = ("--url", server.url)
        answer("dump", "a.dump", *direct, directory=here)
        given = ("load", "a.dump", "--into", "two")
        command = begun(
            *given, directory=here, is_begun=lambda: server.ask("EXISTS", "vd1:{two:01}")
        )
        command.signal(signal.SIGKILL)
        command.end()
        assert 0 < len(held(server.url, "two")) < len(held(server.url, "one"))
        loaded = answer(*given, *direct, directory=here)
        assert 0 < loaded["new"]["posts"] < MANY
        assert held(server.url, "two") == held(server.url, "one")


def test_both_wait_for_a_server_that_is_away(tmp_path: Path) -> None:
    """One that does not answer for a moment is asked again, and nothing is left out."""
    with slow(tmp_path, 0.001, timeout=0.5) as (here, server):
        loading = ("load", "a.dump", "--into", "two")
        answers = []
        for given, is_begun in (
            (("dump", "a.dump"), lambda: list(here.glob(".a.dump*"))),
            (loading, lambda: server.ask("EXISTS", "vd1:{two:01}")),
        ):
            command = begun(*given, directory=here, is_begun=is_begun)
            server.kill()
            wait_until(lambda command=command: "asking again for 60 s" in command.err)
            server.start()
            answers.append(command.end().json)
        assert answers[0]["posts"] == answers[1]["entries"]["posts"] == MANY
        assert held(server.url, "two") == held(server.url, "one")


def test_an_interrupted_dump_leaves_the_earlier_one(tmp_path: Path) -> None:
    """Ctrl-C while it writes: one line, and nothing is left of it."""
    with slow(tmp_path, 0.005) as (here, server):
        answer("dump", "a.dump", "--url", server.url, directory=here)
        earlier = (here / "a.dump").read_bytes()
        command = begun(
            "dump", "a.dump", directory=here, is_begun=lambda: list(here.glob(".a.dump*"))
        )
        command.signal(signal.SIGINT)
        ended = command.end()
        assert (ended.code, ended.out) == (128 + signal.SIGINT, "")
        *progress, last = ended.err.splitlines()
        assert last == "interrupted"
        assert all(line.startswith("dump") for line in progress), progress  # on a slow machine
        assert not list(here.glob(".a.dump*"))
        assert (here / "a.dump").read_bytes() == earlier


# -- wherever from and to --------------------------------------------------------------------------


@needs_tls
def test_from_a_laptop_to_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands move an embedded ledger to a cluster with TLS and ACL, as operations.md says."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = page.split("## Moving to another server")[1].split("\n## ")[0]
    (setting,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    dumping, loading = re.findall(r"^    (.*scrapy dedup.*)$", section, re.MULTILINE)
    here = project(tmp_path)
    with (here / "posts" / "settings.py").open("a") as file:
        file.write(setting)
    lines = "".join(f'{{"site": "x", "post_id": {number}}}\n' for number in range(5000))
    (here / "posts.jl").write_text(lines)
    answer("import", *POST, "posts.jl", directory=here)

    def checked() -> Any:
        given = ("check", *POST, "--json", '{"site": "x", "post_id": 7}')
        return dedup(*given, directory=here).json["posts"][0]

    def shell(line: str) -> None:
        line = line.replace(" scrapy ", f" {sys.executable} -m scrapy ")
        ended = subprocess.run(
            line, shell=True, cwd=here, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert "PASSWORD" not in ended.stdout + ended.stderr

    before = checked()
    monkeypatch.setenv("VALKEY_SERVER", str(SPEAKER))
    authority = Authority(tmp_path, "authority")
    authority.certify(LOOPBACK)
    tls = Tls(tmp_path / "server.pem", tmp_path / "server.pem", authority.file)
    with ValkeyCluster(replicas=0, tls=tls, password="another") as cluster:
        for node in cluster.nodes:
            rules = [*RULES, "+cluster|slots"]
            node.ask("ACL", "SETUSER", "spider", "on", ">PASSWORD", *rules)
        url = cluster.url.replace("://:another@", "://spider:PASSWORD@")
        url += f"?ssl_ca_certs={quote(str(authority.file))}"
        shell(f" {dumping}")
        shell(re.sub(r'"valkeys\+cluster://.*?"', lambda _: f'"{url}"', loading))
        monkeypatch.setenv("VALKEY_DEDUP_URL", url)
        found = answer("check", *POST, "posts.jl", directory=here)
        assert (found["known"], found["new"]) == (5000, 0)
        assert checked() == before
        assert all(node.ask("DBSIZE") for node in cluster.nodes)
        for node in cluster.nodes:
            node.ask("ACL", "SETUSER", "spider", "+sscan")
        answer("dump", "back.dump", directory=here)
    assert all_in(here / "back.dump") == all_in(here / "posts.dump")


def test_to_serverless_and_back(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """With the rules of ElastiCache Serverless, TLS and an ACL: all answers are the same there."""
    for shelf in SHELVES.values():
        store(valkey.url, namespace, range(3000), shelf)
    answer("dump", "a.dump", directory=here)
    with a_serverless(permissions=" ".join([*RULES, "+sscan"])) as there:
        answer("load", "a.dump", "--url", there.url, directory=here)
        for shelf in SHELVES.values():
            assert known(there.url, namespace, range(6000), shelf) == set(range(3000))
        answer("dump", "b.dump", "--url", there.url, directory=here)
    assert all_in(here / "b.dump") == all_in(here / "a.dump")


def all_in(path: Path) -> list[Any]:
    """What a file holds."""
    with DumpReader(path) as file:
        return list(file.batches())


def test_what_each_may_do(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """With the permissions of docs/security.md each works, and without one of them says which."""
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    (line,) = re.findall(r"ACL SETUSER backup on >PASSWORD (.*)", page)
    store(valkey.url, namespace)
    user = f"user-{namespace}"
    url = valkey.url.replace("://", f"://{user}:secret@")

    def refused(*rules: str, given: tuple[str, ...]) -> str:
        valkey.ask("ACL", "SETUSER", user, "reset", "on", ">secret", *rules)
        ended = dedup(*given, "--url", url, directory=here)
        assert "secret" not in ended.err
        assert ended.code in (0, 2), ended.err
        return ended.err if ended.code else ""  # what works may have a note

    dumping, loading = ("dump", "a.dump"), ("load", "a.dump", "--into", f"{namespace}-there")
    assert refused(*line.split(), given=dumping) == ""
    for word in line.split()[2:]:
        rules = [each for each in line.split() if each != word]
        assert word[1:] in refused(*rules, given=dumping).lower()
    assert "sscan" in refused(*RULES, given=dumping)
    assert not refused(*RULES, given=loading)
    assert held(valkey.url, f"{namespace}-there") == held(valkey.url, namespace)
    valkey.ask("ACL", "DELUSER", user)


# -- while spiders run -----------------------------------------------------------------------------


def test_while_a_fleet_crawls(world: World) -> None:
    """What was confirmed before is in the dump, and what runs store during both is not lost."""
    there, posts = f"{world.namespace}-there", {str(number) for number in range(400)}
    sites = [world.site(pages_of(range(400))) for _ in range(2)]
    for site in sites:
        site.free = 12  # of 20 pages
    fleet = [world.start(sites[0], seed=seed) for seed in range(2)]
    database = str(world.directory / "there.db")
    elsewhere = world.start(sites[1], VALKEY_DEDUP_NAMESPACE=there, database=database)
    wait_until(lambda: len(world.remembered(range(400))) > 100)
    wait_until(lambda: len(stored(elsewhere.job)) == 240)
    before = world.remembered(range(400))
    given = ("--url", world.url, "--spider", "x", "--json")
    for verb in (
        ("dump", "a.dump", "--namespace", world.namespace),
        ("load", "a.dump", "--into", there),
    ):
        ended = dedup(*verb, *given, directory=world.directory)
        assert ended.code == 0, ended.err
    loaded = remembered(world.url, there, range(400))
    assert before <= loaded
    for site in sites:
        site.free = 1000
    for crawl in (*fleet, elsewhere):
        crawl.wait()
    assert world.stored == dict.fromkeys(posts, 1)
    own = stored(elsewhere.job)
    assert max(own.values()) == 1
    assert 240 <= len(own) < 400
    assert set(own) | loaded == posts  # what the dump had, it has not stored again
    assert remembered(world.url, there, range(400)) == posts
    world.assert_settled()
