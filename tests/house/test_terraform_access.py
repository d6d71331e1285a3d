"""Who may do what, said in one place: the module, its user and its settings fit the plugin."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scrapy.settings import Settings

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command
from tests.support.crawls.world import World
from tests.support.servers.site import pages_of

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "terraform" / "tests" / "golden"
POSTS = range(60)

NEEDED = ["on", *RULES]


def of_the_module() -> list[str]:
    """The words of the access string in access.tf."""
    text = (ROOT / "terraform" / "access.tf").read_text("utf-8")
    (words,) = re.findall(r'access_string = join\(" ", \[(.*?)\]\)', text, re.DOTALL)
    return re.findall(r'"([^"]+)"', words)


def test_the_access_string_is_the_documented_line() -> None:
    """The user on AWS may do what the plugin needs, and docs/security.md says, word for word."""
    assert of_the_module() == NEEDED
    # `terraform test` compares this file with the user that is planned.
    assert (GOLDEN / "access_string.txt").read_text().split() == NEEDED


def test_a_namespace_s_user_has_the_documented_patterns() -> None:
    """The user of a namespace may touch what docs/security.md says, and test_acl.py tries."""
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    (line,) = re.findall(r"^(~vd1:\{posts\}.*)$", page, re.MULTILINE)
    text = (ROOT / "terraform" / "access.tf").read_text("utf-8")
    (ends,) = re.findall(r"for end in \[(.*?)\] : \"~vd1:\{\$\{.*\}\$\{end\}\"", text)
    assert [f"~vd1:{{posts{end}" for end in re.findall(r'"([^"]+)"', ends)] == line.split()


def test_the_compose_file_has_the_documented_line() -> None:
    """So may the user of docker-compose.yml."""
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    (line,) = re.findall(r"^ +user spider (.*)$", compose, re.MULTILINE)
    assert [word for word in line.split() if word != "#$$hash"] == NEEDED


@pytest.fixture
def restricted(tmp_path: Path) -> Iterator[World]:
    """Crawls as a user with exactly the module's access string; the test looks on as another."""
    user = ["--user", "spider", ">a-secret", *of_the_module()]
    with ValkeyServer(*user, port=free_port()) as server:
        world = World(server.url, "restricted", tmp_path)
        world.as_spider = server.url.replace("://", "://spider:a-secret@")
        yield world
        world.close()


def refused(url: str) -> set[str]:
    """The commands and keys that the server has refused to anybody."""

    async def ask() -> list[Any]:
        server = Client(url, url, {}, 5)
        try:
            return await server.ask(command("ACL", "LOG"))
        finally:
            await server.close()

    entries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in asyncio.run(ask())[0]]
    return {entry[b"object"].decode() for entry in entries}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"VALKEY_DEDUP_JOB": "nightly"},
        {"VALKEY_DEDUP_REQUESTS": "stored"},
        {"VALKEY_DEDUP_CONFIRM": "claimed"},
    ],
    ids=["posts", "job", "stored", "claimed"],
)
def test_a_crawl_under_the_access_string(restricted: World, settings: dict[str, str]) -> None:
    """A fleet with the module's access string stores each post once, and is refused nothing."""
    site = restricted.site(pages_of(POSTS))
    given = {"VALKEY_DEDUP_URL": restricted.as_spider, **settings}
    crawls = [restricted.start(site, seed=seed, **given) for seed in (1, 2)]
    for crawl in crawls:
        assert "dedup/valkey/outages" not in crawl.wait()
    # A longer retention moves the posts that are met again: that takes further commands.
    restricted.crawl(site, **given, VALKEY_DEDUP_RETENTION="None")
    assert restricted.stored == {str(post): 1 for post in POSTS}
    assert restricted.remembered(POSTS) == {str(post) for post in POSTS}
    restricted.assert_settled()
    # valkey-py may introduce itself when it connects, and does not mind a refusal.
    assert refused(restricted.url) <= {"client|setinfo"}


def test_the_user_may_do_nothing_else(restricted: World) -> None:
    """Keys of others, and commands that read or ruin the whole server, are refused."""

    async def ask(*words: str) -> None:
        server = Client(restricted.as_spider, "it", {}, 5)
        try:
            await server.ask(command(*words))
        finally:
            await server.close()

    for words in (
        ("GET", "others"), ("SET", "vd2:x", "1"), ("FLUSHALL",), ("KEYS", "*"), ("SCAN", "0"),
        ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("SCRIPT", "FLUSH"),
        ("SCRIPT", "LOAD", "return 1"),
    ):  # fmt: skip
        with pytest.raises(Exception, match="permissions"):
            asyncio.run(ask(*words))


def test_the_settings_are_accepted() -> None:
    """The lines of the output scrapy_settings are settings that the plugin's parser accepts."""
    # `terraform test` compares this file with the output.
    lines: dict[str, Any] = {}
    exec((GOLDEN / "scrapy_settings.txt").read_text(), lines)
    del lines["__builtins__"]
    found = DedupSettings.parse(Settings(lines), "spider")
    assert found.url == lines["VALKEY_DEDUP_URL"]
    assert found.url.startswith("valkeys://")
