"""`scrapy dedup doctor`: each fault is found, with its cure; where there is none it says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bench.servers import ValkeyServer, free_port, wait_for
from scrapy_valkey_dedup.commands.shared.doctor.findings import ADVICE, FINE, WRONG
from scrapy_valkey_dedup.commands.shared.doctor.server_checks import _replicas
from scrapy_valkey_dedup.commands.shared.status.server import Node, nodes
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.ledgers import in_ledger
from tests.support.patience import PATIENCE
from tests.support.processes.dedup_command import (
    ROOT,
    Ended,
    dedup,
    on_terminal,
    project,
)
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("they make users, and servers with faults")

STORED = {"posts-%(batch_time)s-%(batch_id)d.jl": {"format": "jsonlines"}}
SPIDERS = """
import scrapy

from posts.items import Post, Thread
from posts.spiders import others


class Base(scrapy.Spider):
    custom_settings = {
        "VALKEY_DEDUP_FIELDS": {"*": ["post_id"], "posts.items.Thread": ["thread_id"]},
    }


def settings(**more):
    return {**Base.custom_settings, **more}


class Fine(Base):
    name = "fine"


class Media(Base):
    name = "media"
    custom_settings = settings(ITEM_PIPELINES={"scrapy.pipelines.images.ImagesPipeline": 1})


class Overwriting(Base):
    name = "overwriting"
    custom_settings = settings(FEEDS={"all.jl": {"format": "jsonlines", "overwrite": True}})


class Scraped(Base):
    name = "scraped"
    custom_settings = settings(VALKEY_DEDUP_CONFIRM="scraped")


class Nowhere(Base):
    name = "nowhere"
    custom_settings = settings(FEEDS={})


class AllFields(scrapy.Spider):
    name = "allfields"


class One(Base):
    name = "one"
    custom_settings = settings(VALKEY_DEDUP_SCOPE="project")


class Other(Base):
    name = "other"
    custom_settings = settings(
        VALKEY_DEDUP_SCOPE="project",
        VALKEY_DEDUP_FIELDS={"*": ["site", "post_id"], "posts.items.Thread": ["thread_id"]},
    )


class Kinds(Base):
    name = "kinds"

    def parse(self, response):
        yield {"post_id": 1, "title": "a post"}
        yield {"post_id": 2, "author": "of a comment", "text": "and its text"}


class Weekly(Base):
    name = "weekly"
    custom_settings = settings(
        VALKEY_DEDUP_REQUESTS="stored", VALKEY_DEDUP_REQUEST_RETENTION="1d"
    )


class Wrong(Base):
    name = "wrong"
    custom_settings = settings(VALKEY_DEDUP_WAIT="soon")


class Gone(Base):
    name = "gone"
    custom_settings = settings(ITEM_PIPELINES={"posts.pipelines.Gone": 300})


class Trying(Base):
    name = "trying"
    custom_settings = settings(VALKEY_DEDUP_TRIAL="first", VALKEY_DEDUP_RESET=True)


class Closing(Base):
    name = "closing"
    custom_settings = settings(CLOSESPIDER_TIMEOUT_NO_ITEM=60)
"""
FAULTS = {
    "media": "seems to store or to fetch: scrapy.pipelines.images.ImagesPipeline",
    "overwriting": "overwrites in every run",
    "scraped": "does not wait for the feeds",
    "allfields": "Post are identified by all their fields",
    "kinds": "dicts of different kinds have one identity (post_id)",
    "weekly": "REQUEST_RETENTION is 1 days, and the crawl runs every 7 days",
    "wrong": "VALKEY_DEDUP_WAIT = 'soon'",
    "gone": "cannot be loaded: ModuleNotFoundError",
    "closing": "CLOSESPIDER_TIMEOUT_NO_ITEM = 60",
}


def findings(ended: Ended, level: str = WRONG) -> dict[str, Any]:
    """What was found of a level, by what it is about."""
    return {each["what"]: each for each in ended.json["findings"] if each["level"] == level}


def test_each_fault_of_a_project(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Each spider's fault is told with its name and its docs; one without has none."""
    here = project(
        tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace, FEEDS=STORED
    )
    (here / "posts" / "spiders" / "others.py").write_text("")
    (here / "posts" / "spiders" / "all.py").write_text(SPIDERS)
    (here / "posts" / "spiders" / "__init__.py").write_text("")
    ended = dedup("doctor", "--json", "--every", "7d", directory=here)
    assert ended.code == 1, ended.err
    told = [each for each in ended.json["findings"] if each["level"] == WRONG]
    by_spider = [(each["spider"] or "").split(", ") for each in told]
    for spider, words in FAULTS.items():
        found = [each for each in told if words in each["said"]]
        assert [each["spider"] for each in found] == [spider], (spider, found, told)
        assert (ROOT / found[0]["docs"].partition("#")[0]).is_file()
    assert not any("fine" in names for names in by_spider), told
    two = [each for each in told if "two spiders identify the same kind" in each["said"]]
    assert [("posts.items:Post" in each["said"], each["spider"]) for each in two] == [(True, None)]
    assert "one by post_id; other by site, post_id" in two[0]["said"]
    advice = {each["said"]: each for each in ended.json["findings"] if each["level"] == ADVICE}
    (found,) = [each for said, each in advice.items() if said.startswith("Nothing that can be")]
    assert found["spider"] == "nowhere"
    assert "if you store with -o" in found["cure"]
    for setting in ("VALKEY_DEDUP_TRIAL = 'first': ", "VALKEY_DEDUP_RESET = True: "):
        (found,) = [each for said, each in advice.items() if said.startswith(setting)]
        assert (found["spider"], found["cure"]) == ("trying", "remove it after this run")

    ended = dedup("doctor", "--spider", "nowhere", "--every", "often", directory=here)
    assert ended.code == 2
    assert "--every often" in ended.err
    ended = dedup("doctor", "--spider", "nowhere", directory=here)
    assert "advice: storing: Nothing that can be seen stores" in ended.out
    assert "see docs/settings.md#confirm" in ended.out
    feed = """FEEDS={"posts-%(batch_time)s.jl": {"format": "jsonlines"}}"""
    ended = dedup("doctor", "--spider", "fine", "-s", feed, "--json", directory=here)
    assert "storing" not in {**findings(ended), **findings(ended, ADVICE)}, ended.out


def test_outside_a_project(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> None:
    """It says that there is no project, and finds no fault of one: only the server is checked."""
    where = ("--url", valkey.url, "--namespace", namespace)
    ended = dedup("doctor", *where, "--spider", "posts", "--json", directory=tmp_path)
    assert "there is no project here" in findings(ended, ADVICE)["project"]["said"]
    names = {each["what"] for each in ended.json["findings"]}
    assert "permissions" in names
    assert not names & {"identity", "pipelines", "storing"}, ended.out


def test_nothing_is_wrong(tmp_path: Path, namespace: str) -> None:
    """A server that keeps what it has, and a project that stores: 0, and nothing is left there."""
    with ValkeyServer(persistent=True) as server:
        here = project(
            tmp_path, VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_NAMESPACE=namespace, FEEDS=STORED
        )
        ended = dedup("doctor", "--json", directory=here)
        assert ended.code == 0, ended.out
        fine = findings(ended, FINE)
        names = {"latency", "permissions", "layout", "evictions", "persistence", "buckets"}
        assert names | {"project"} == set(fine)
        assert "median" in fine["latency"]["said"]
        assert server.ask("DBSIZE") == 0
        shown = on_terminal("doctor", directory=here)
        assert shown.code == 0, shown.out
        assert "append-only file" in shown.plain


def test_each_fault_of_a_server(tmp_path: Path, namespace: str) -> None:
    """Evictions, memory, persistence, wasteful buckets, claims of dead runs, pages forgotten."""
    options = ("--set-max-intset-entries", "16", "--maxmemory-policy", "allkeys-lru")
    with ValkeyServer(*options) as server:
        here = project(
            tmp_path, VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_NAMESPACE=namespace, FEEDS=STORED,
            VALKEY_DEDUP_REQUESTS="stored", VALKEY_DEDUP_REQUEST_RETENTION="1d",
        )  # fmt: skip

        async def fill(ledger: Ledger) -> None:
            await ledger.confirm_many([digest([], [number]) for number in range(100_000)])
            await ledger.claim_many([digest([], [-1])])

        in_ledger(server.url, namespace, fill)
        ended = dedup("doctor", "--json", directory=here)
        assert ended.code == 1, ended.err
        wrong = findings(ended)
        assert set(wrong) == {"persistence", "buckets", "pages"}, wrong
        assert "set-max-intset-entries" in wrong["buckets"]["cure"]
        advice = findings(ended, "advice")
        assert "allkeys-lru" in advice["evictions"]["said"]
        assert (
            advice["claims"]["said"]
            == "1 open claim of 1 dead run: ignored, as their lease is over"
        )

        used = int(server.ask("INFO", "memory")["used_memory"])
        server.ask("CONFIG", "SET", "maxmemory", used)
        for number in range(1000):
            server.ask("SET", f"other-{number}", "x" * 1000)
        wrong = findings(dedup("doctor", "--json", directory=here))
        assert "keys were evicted" in wrong["evictions"]["said"]
        assert "of maxmemory is in use" in wrong["memory"]["said"]


def test_what_is_not_permitted(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> None:
    """A word that is missing is named; what the user may not ask is unknown, and no fault."""
    here = project(
        tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace, FEEDS=STORED
    )
    for user, words in {"all": [*RULES], "less": [*RULES, "-scard"]}.items():
        valkey.ask("ACL", "SETUSER", f"{user}-{namespace}", "on", ">secret", *words)
        url = valkey.url.replace("://", f"://{user}-{namespace}:secret@")
        ended = dedup("doctor", "--url", url, "--json", directory=here)
        assert "secret" not in ended.out
        assert {"server", "claims"} <= set(findings(ended, "unknown"))
        if user == "all":
            assert ended.code == 0, ended.out
        else:
            assert ended.code == 1
            assert "scard" in findings(ended)["permissions"]["said"]
            assert findings(ended)["permissions"]["docs"] == "docs/security.md#the-user"


def test_another_layout(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> None:
    """A ledger that another version wrote is told."""
    here = project(
        tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace, FEEDS=STORED
    )
    valkey.ask("SET", f"vd1:{{{namespace}}}:layout", "99")
    ended = dedup("doctor", "--json", directory=here)
    assert ended.code == 1
    assert "has layout b'99'" in findings(ended)["layout"]["said"]


def test_doctor_in_an_outage(tmp_path: Path, namespace: str) -> None:
    """The project is looked at all the same; the exit code is 2."""
    here = project(
        tmp_path, VALKEY_DEDUP_URL=f"valkey://127.0.0.1:{free_port()}",
        VALKEY_DEDUP_NAMESPACE=namespace, VALKEY_DEDUP_TIMEOUT=0.5,
    )  # fmt: skip
    ended = dedup("doctor", "--json", directory=here)
    assert ended.code == 2
    assert {"server"} == set(findings(ended))
    assert findings(ended)["server"]["cure"].startswith("start the server")
    assert {"storing"} == set(findings(ended, ADVICE))


def test_doctor_of_an_embedded_ledger(tmp_path: Path) -> None:
    """The embedded server is started as a spider would, and stopped."""
    here = project(tmp_path, FEEDS=STORED)
    ended = dedup("doctor", "--json", directory=here)
    assert ended.code == 0, ended.out
    assert "all 2" in findings(ended, FINE)["permissions"]["said"]


def test_replicas_that_lag(namespace: str) -> None:
    """A replica that follows is fine; one that is far behind is told, with what it costs."""
    with ValkeyServer(port=free_port()) as primary, ValkeyServer(port=free_port()) as replica:
        replica.ask("REPLICAOF", "127.0.0.1", primary.port or 0)

        async def look() -> Node:
            server = Client(primary.url, "", {}, 5)
            (node,) = await nodes(server, namespace)
            await server.close()
            return node

        def online() -> Node | None:
            node = asyncio.run(look())
            return node if "state=online" in node.facts.get("slave0", "") else None

        node = wait_for(online, PATIENCE, "the replica")
    assert [each.level for each in _replicas(node)] == [FINE]
    text = node.facts["slave0"]
    for late in (text.replace("state=online", "state=send_bulk"), text.replace("lag=", "lag=9")):
        behind = Node(node.key, {**node.facts, "slave0": late.replace("lag=9", "lag=99")})
        (found,) = _replicas(behind)
        assert found.level == WRONG
        assert found.cure
