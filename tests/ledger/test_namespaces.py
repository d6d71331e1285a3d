"""Whatever a namespace, a job, a spider or a post is called, keys stay where they belong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

import pytest
import valkey as valkey_py
from hypothesis import example, given, settings
from hypothesis import strategies as st
from valkey.crc import key_slot

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.ledger.keys import PARTITIONS, namespace_tag
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.crawls.world import World
from tests.support.patience import PATIENCE
from tests.support.servers.site import pages_of

KEYS = [bytes([number]) * 16 for number in range(0, 250, 3)]
SHELVES = ("", "pages", "timelines")
PATTERNS = re.findall(
    r"~\S+posts\S*",
    (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8").split("```text")[2],
)
"""What the manual tells to allow a user of the namespace ``posts``."""

LONG = "n" * 10_000
NASTY = [
    "a}b{c", "}", "{", "{}", "{a}", "two words", "*", "?", "[a-z]", "a*", "\\", "\n", "a\nb",
    "\0", "\udc80", LONG, LONG + "x", "a+pages", "+pages", "+", "a:00", ":00", "a:run:b",
    "a}:layout", "vd1:{a", "%", "%" + "0" * 32, "Ä", "\uff21", "a", "A", "a.b", "-", "_", ".",
    "x" * 64, "x" * 65, "~*", "allkeys", "%R~*", "a ~* +@all", "e\u0301", "é", "\U0001f40d",
]  # fmt: skip
TEXTS = st.sampled_from(NASTY) | st.text(
    st.characters(categories=["L", "N", "P", "Z", "S", "C"]), min_size=1, max_size=70
)
PLACE = re.compile(
    r"vd1:\{([A-Za-z0-9._%-]+)(\+[a-z]+)?(:[0246][0-3])?\}(:[0-9A-Za-z:_-]+)?", re.ASCII
)
"""The only form that a key has: tag, shelf, partition, and what is the plugin's own."""


@pytest.fixture(scope="module")
def bare() -> Iterator[ValkeyServer]:
    """A server with nothing on it but what the test at hand has written."""
    with ValkeyServer(port=free_port()) as server:
        yield server


def write_all(server: ValkeyServer, namespace: str) -> set[str]:
    """Has a run use a namespace in every way; returns the keys that it wrote."""

    async def use() -> None:
        door = Client(server.url, server.url, {}, timeout=PATIENCE)
        try:
            for shelf in SHELVES:
                for record in (True, False):
                    run = f"{record:d}-{shelf}"[:9]
                    ledger = Ledger(
                        door, namespace, run, retention=60.0, record=record, shelf=shelf
                    )
                    await ledger.open()
                    await ledger.probe.check_partitions()
                    await ledger.runs.write_heartbeat(1, 60)
                    await ledger.claim_many(KEYS[record::2], [b"a dead one\0\0"])
                    await ledger.confirm_many(KEYS[record::3])
        finally:
            await door.close()

    server.ask("FLUSHALL")
    asyncio.run(use())
    return all_keys(server)


def all_keys(server: ValkeyServer) -> set[str]:
    """All that is on a server."""
    with valkey_py.Valkey.from_url(server.url) as client:
        return {name.decode() for name in client.scan_iter(count=10_000)}


def allowed(server: ValkeyServer, namespace: str, keys: set[str]) -> set[str]:
    """The keys among these that the manual grants to the user of a namespace."""
    patterns = [pattern.replace("posts", namespace_tag(namespace)) for pattern in PATTERNS]
    listed = sorted(keys)
    with valkey_py.Valkey.from_url(server.url) as client, client.pipeline(transaction=False) as ask:
        client.execute_command("ACL SETUSER", "spider", "reset")
        client.execute_command("ACL SETUSER", "spider", "on", "nopass", *patterns, "+set")
        for key in listed:
            ask.execute_command("ACL DRYRUN", "spider", "SET", key, "1")
        return {key for key, reply in zip(listed, ask.execute(), strict=True) if reply == b"OK"}


@settings(max_examples=30, deadline=None)
@given(TEXTS, TEXTS)
@example("a", "a+pages")
@example("a", "a:00")
@example("*", "a")
@example("x" * 64, "x" * 65)
@example(namespace_tag("a b"), "a b")
def test_a_namespace_keeps_to_itself(bare: ValkeyServer, one: str, other: str) -> None:
    """Every key begins with the namespace's tag, is plain, and no other namespace may have it."""
    written = write_all(bare, one)
    beginnings = tuple(
        f"vd1:{{{namespace_tag(one)}{rest}" for rest in ("}:", ":", "+pages:", "+timelines:")
    )
    assert len(written) > PARTITIONS
    for name in written:
        found = PLACE.fullmatch(name)
        assert found, name
        assert found[1] == namespace_tag(one)
        assert len(name) < 200
        assert name.startswith(beginnings)
    assert allowed(bare, one, written) == written
    if one != other:
        assert allowed(bare, other, written) == set()


@pytest.fixture(scope="module")
def nasty(bare: ValkeyServer) -> dict[str, set[str]]:
    """What was written in each of the nasty namespaces."""
    return {namespace: write_all(bare, namespace) for namespace in NASTY}


@pytest.mark.parametrize("namespace", NASTY)
def test_a_partition_is_one_slot(nasty: dict[str, set[str]], namespace: str) -> None:
    """All keys of a partition share a slot, and the partitions spread over many."""
    slots: dict[str, set[int]] = {}
    for name in nasty[namespace]:
        slots.setdefault(name.partition("}")[0], set()).add(key_slot(name.encode()))
    assert len(slots) > PARTITIONS
    assert {len(found) for found in slots.values()} == {1}
    assert len(set.union(*slots.values())) > PARTITIONS / 2


def test_namespaces_do_not_meet(nasty: dict[str, set[str]]) -> None:
    """Of all these names no two have a key in common."""
    assert len(set.union(*nasty.values())) == sum(map(len, nasty.values()))


# -- crawls --------------------------------------------------------------------------------------

VALUES = list({normalize("NFC", value): value for value in NASTY if value.strip()}.values())
"""Those that make different identities: NFC is the same one, and white space alone is none."""


@pytest.fixture
def odd(bare: ValkeyServer, tmp_path: Path) -> Iterator[World]:
    """Crawls with the bare server."""
    bare.ask("FLUSHALL")
    made = World(bare.url, "unused", tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    "name", ["a}:layout{*?[b]\\\n\0c", "\udc80", LONG, "%" + "0" * 32, "posts+pages", "posts:00"]
)
def test_crawls_with_odd_names_and_values(odd: World, bare: ValkeyServer, name: str) -> None:
    """Namespace, job and spider of any name, posts of any content: each is stored once."""
    posts = [{"post_id": number, "text": value} for number, value in enumerate(VALUES)]
    pages = pages_of(range(len(posts)))
    site = odd.site({page: [posts[post["post_id"]] for post in pages[page]] for page in pages})
    changes = {
        "VALKEY_DEDUP_NAMESPACE": name + "{spider}",
        "VALKEY_DEDUP_JOB": name,
        "VALKEY_DEDUP_FIELDS": ["text"],
        "name": name.replace("{", ""),
    }
    first = odd.crawl(site, **changes)
    expected = dict.fromkeys(map(str, range(len(posts))), 1)
    assert odd.stored == expected
    again = odd.crawl(site, **{**changes, "VALKEY_DEDUP_JOB": name + "2"})
    assert odd.stored == expected
    assert "dedup/items/unkeyed" not in first
    assert again["dedup/items/duplicate"] == len(posts)
    whose = namespace_tag(name + changes["name"])
    for key in all_keys(bare):
        found = PLACE.fullmatch(key)
        assert found, key
        assert found[1] == whose
    for crawl in odd.crawls:
        assert "Traceback" not in crawl.log


def test_jobs_of_odd_names_are_different_ones(odd: World) -> None:
    """A page that one job has done is another job's to do, however alike their names are."""
    site = odd.site(pages_of(range(20)))
    names = ["a", "a ", "a\0", "\udc80", "\udc81", LONG]
    for name in names:
        odd.crawl(site, VALKEY_DEDUP_NAMESPACE="jobs", VALKEY_DEDUP_JOB=name)
    assert site.served[0] == len({name.strip() for name in names})
