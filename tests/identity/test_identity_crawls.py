"""Real crawls of posts that are hard to tell apart: no two different ones become one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.support import odd_items
from tests.support.crawls.items import Crawl
from tests.support.crawls.world import World

STORE = {"ITEM_PIPELINES": {f"{odd_items.__name__}.TextStore": 300}, "kind": "dict"}
INVISIBLE = (
    "\u200b\u200c\u200d\u2060\ufeff\xad\u200e\u200f\u061c\u2068\u2069\u202a\u202c\ufe0f\ufe0e"
)
INVISIBLE += "\u034f\u180e\u2063\u3164\U000e0020"


def lines(crawl: Crawl, word: str) -> list[str]:
    """The lines of a log with a word."""
    return [line for line in crawl.log.splitlines() if word in line]


def each_once(*texts: str) -> Counter[str]:
    """Every text stored once."""
    return Counter(dict.fromkeys(texts, 1))


def test_users_are_no_posts(world: World) -> None:
    """20 posts known by post_id and 20 users by user_id, plain dicts: 40 of 40 are stored."""
    posts = [{"post_id": number, "text": f"post {number}"} for number in range(20)]
    users = [{"user_id": number, "text": f"user {number}"} for number in range(20)]
    site = world.site({0: posts, 1: users})
    for page, name, field in ((0, "forum", "post_id"), (1, "members", "user_id")) * 2:
        fields = {"VALKEY_DEDUP_FIELDS": [field], "VALKEY_DEDUP_SCOPE": "project"}
        world.crawl(site, pages=[page], name=name, **fields, **STORE)
    assert world.stored == each_once(*(post["text"] for post in [*posts, *users]))


def test_ids_of_two_sites(world: World) -> None:
    """25 posts of one site and 25 of another, 10 ids of both: 50 of 50 are stored, each once."""
    pages = {
        number: [{"id": at, "text": f"{site} {at}"} for at in range(first, first + 25)]
        for number, (site, first) in enumerate([("oak", 0), ("elm", 15)])
    }
    site = world.site(pages)
    for page, name in enumerate(["oak", "elm"] * 2):
        world.crawl(site, pages=[page % 2], name=name, VALKEY_DEDUP_FIELDS=["id"], **STORE)
    assert world.stored == each_once(*(post["text"] for page in pages.values() for post in page))
    for crawl in world.crawls:
        (line,) = lines(crawl, "VALKEY_DEDUP_SCOPE")
        assert "INFO" in line
        assert 'set it to "project"' in line
        assert not lines(crawl, " WARNING: ")


def test_whole_ids_in_a_project(world: World) -> None:
    """With ids that are whole, a second spider of the project stores none of the same 20 posts."""
    posts = [{"site": "oak", "id": at, "text": f"post {at}"} for at in range(20)]
    whole = {"VALKEY_DEDUP_FIELDS": ["site", "id"], "VALKEY_DEDUP_SCOPE": "project"}
    for name in ("oak", "aggregator"):
        stats = world.crawl(world.site({0: posts}), name=name, **whole, **STORE)
        assert not lines(world.crawls[-1], "VALKEY_DEDUP_SCOPE")
    assert stats["dedup/items/duplicate"] == 20
    assert world.stored == each_once(*(post["text"] for post in posts))


def test_values_that_are_nearly_alike(world: World) -> None:
    """All of 80 tweets, 10 moments, 20 Persian numbers, 20 of 40 notices: 20 are copies."""
    tweets = [
        {"class": "Tweet", "id": float(1823034723867713700 + 5 * n), "text": f"tweet {n}"}
        for n in range(80)
    ]
    samples = [
        {"class": "Sample", "at": f"2026-01-02T03:04:05.67890123{n}", "text": f"sample {n}"}
        for n in range(10)
    ]
    replies = [
        {"class": "Reply", "number": f"#7-{persian(n)}", "text": f"reply {n}"}
        for n in range(101, 121)
    ]
    notices = [
        {"class": "Notice", "notice": text, "text": f"notice {n}"}
        for n, mark in enumerate(INVISIBLE)
        for text in (f"Sale of {n} today", f"Sale of{mark} {mark}{n} today")
    ]
    site = world.site({0: tweets, 1: samples, 2: replies, 3: notices})
    changes = STORE | {"kind": f"{odd_items.__name__}.item", "VALKEY_DEDUP_FIELDS": odd_items.RULES}
    expected = each_once(*(post["text"] for post in [*tweets, *samples, *replies, *notices]))
    world.crawl(site, **changes)
    assert world.stored == expected
    (line,) = lines(world.crawls[-1], " WARNING: ")
    assert "class Tweet has no identity: its field 'id': a float of 2**53 or more" in line
    assert "stored unchecked, again in every run (VALKEY_DEDUP_ON_UNKEYED = 'pass')" in line
    world.crawl(site, **changes)
    assert world.stored == expected + each_once(*(tweet["text"] for tweet in tweets))


def persian(number: int) -> str:
    """A number as it is written in Persian."""
    return "".join(chr(0x6F0 + int(digit)) for digit in str(number))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            ["pots_id"],
            ["Post has no field 'pots_id'; did you mean 'post_id'?", "Nothing was deduplicated"],
        ),
        (None, ["Items of class Post are identified by all their fields"]),
    ],
    ids=["misspelt", "no rule"],
)
def test_rules_that_identify_nothing_are_told(world: World, fields: Any, words: list[str]) -> None:
    """No rule, or one whose field is misspelt, stores 20 of 20; each is told once, and the sum."""
    posts = [{"post_id": number, "text": "the same"} for number in range(20)]
    world.crawl(world.site({0: posts}), VALKEY_DEDUP_FIELDS=fields)
    assert world.stored == each_once(*map(str, range(20)))
    told = lines(world.crawls[-1], " WARNING: ")
    assert [said in line for said, line in zip(words, told, strict=True)] == [True] * len(words)


def test_lists_of_one(world: World) -> None:
    """20 posts whose ids are lists of one text: the same 20 with texts are duplicates."""
    lists = [{"post_id": [f"p{number}"], "text": f"post {number}"} for number in range(20)]
    texts = [{"post_id": f"p{number}", "text": f"post {number}"} for number in range(20)]
    world.crawl(world.site({0: lists, 1: texts}), **STORE)
    assert world.stored == each_once(*(post["text"] for post in lists))
