"""Feeds are storage: a post is remembered when every file that took it is safe."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from scrapy_valkey_dedup.items.line_files import end_of_broken_line
from tests.conftest import SCRAPY_VERSION
from tests.support.crawls.feeds import S3, feed, lines_of, posts_in
from tests.support.crawls.world import World
from tests.support.patience import wait_until
from tests.support.servers.site import pages_of
from tests.support.spiders.feeds import FEEDS
from tests.support.spiders.jobs import Job

POSTS = range(50)
EVERY_POST = {str(post) for post in POSTS}
NO_PIPELINE: dict[str, Any] = {"ITEM_PIPELINES": {}}
LINGERING = {"linger": True, "sync_interval": 0.05}


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    """One S3 for all tests here: it takes seconds to load."""
    made = S3()
    yield made
    made.close()


@pytest.fixture
def s3(server: S3) -> S3:
    """It, empty."""
    server.empty()
    return server


def let_go(world: World) -> None:
    """Has the spider of the newest crawl end."""
    (Path(world.crawls[-1].job.directory) / "go").touch()


@pytest.mark.parametrize("suffix", ["jl", "csv"])
def test_posts_are_remembered_while_the_crawl_runs(either_world: World, suffix: str) -> None:
    """By default a post in a local file of lines is remembered as soon as its line is on disk."""
    world = either_world
    path = world.directory / f"posts.{suffix}"
    format_ = {"jl": "jsonlines", "csv": "csv"}[suffix]
    crawl = world.start(
        world.site(pages_of(POSTS)), FEEDS=feed(path, format_), **LINGERING, **NO_PIPELINE
    )
    wait_until(lambda: world.remembered(POSTS) == EVERY_POST)
    assert set(posts_in(path)) == EVERY_POST
    assert crawl.process.is_alive()
    let_go(world)
    assert crawl.wait()["dedup/items/confirmed"] == 50
    assert "so it is 'exported'" in world.log
    world.assert_settled()


@pytest.mark.parametrize(
    "options",
    [
        {"format": "json"},
        {"format": "xml"},
        {"postprocessing": ["scrapy.extensions.postprocessing.GzipPlugin"]},
        {"format": "own"},
        {"encoding": "utf-16"},
    ],
    ids=["json", "xml", "gzip", "an exporter of the user's own", "utf-16"],
)
def test_other_files_are_waited_for(world: World, options: dict[str, Any]) -> None:
    """A post in any other file is remembered when that file is stored, and not before."""
    path = world.directory / "posts"
    crawl = world.start(
        world.site(pages_of(POSTS)),
        FEEDS=feed(path, **options),
        FEED_EXPORTERS={"own": f"{FEEDS}.PickyExporter"},
        **LINGERING,
        **NO_PIPELINE,
    )
    wait_until(lambda: len(world.claims) == 50)
    assert world.remembered(POSTS) == set()
    let_go(world)
    assert crawl.wait()["dedup/items/confirmed"] == 50
    assert world.remembered(POSTS) == EVERY_POST


def test_two_runs_do_not_wait_for_one_another(world: World) -> None:
    """While a run with a feed goes on for long, another one drops its posts without waiting."""
    site = world.site(pages_of(POSTS))
    first = world.start(site, FEEDS=feed(world.directory / "one.jl"), **LINGERING, **NO_PIPELINE)
    wait_until(lambda: world.remembered(POSTS) == EVERY_POST)
    stats = world.crawl(
        site, FEEDS=feed(world.directory / "two.jl"), VALKEY_DEDUP_WAIT=3600, **NO_PIPELINE
    )
    assert stats["dedup/items/duplicate"] == 50
    assert first.process.is_alive()
    (Path(first.job.directory) / "go").touch()
    first.wait()


def test_a_file_that_fails_gives_back_its_own_posts(world: World) -> None:
    """Of two feeds one cannot be stored: its posts are free, those of the other are remembered."""
    feeds = feed(world.directory / "odd.jl", item_filter=f"{FEEDS}.Odd")
    feeds["broken://even"] = {"format": "jsonlines", "item_filter": f"{FEEDS}.Even"}
    stats = world.crawl(
        world.site(pages_of(POSTS)),
        FEEDS=feeds,
        FEED_STORAGES={"broken": f"{FEEDS}.BrokenStorage"},
        **NO_PIPELINE,
    )
    odd = {post for post in EVERY_POST if int(post) % 2}
    assert (stats["dedup/items/confirmed"], stats["dedup/items/released"]) == (25, 25)
    assert world.remembered(POSTS) == odd == set(posts_in(world.directory / "odd.jl"))
    assert "The feed broken://even was not stored (the bucket is gone)" in world.log
    world.assert_settled()


def test_feeds_that_scrapy_does_not_enable(world: World) -> None:
    """With a feed that Scrapy refuses 200 of 200 posts are stored nowhere, none remembered."""
    stats = world.crawl(
        world.site(pages_of(range(200))),
        FEEDS={"nowhere://at/all": {"format": "jsonlines"}},
        **NO_PIPELINE,
    )
    assert stats["dedup/items/released"] == 200
    assert "dedup/items/confirmed" not in stats
    assert world.log.count("Scrapy has not enabled its feed exporter") == 1
    world.assert_settled()


def test_a_file_that_cannot_be_written(world: World) -> None:
    """With a path that cannot be written 200 of 200 posts are stored nowhere, none remembered."""
    (world.directory / "file").touch()
    stats = world.crawl(
        world.site(pages_of(range(200))),
        FEEDS=feed(world.directory / "file" / "posts.jl"),
        **NO_PIPELINE,
    )
    assert "dedup/items/confirmed" not in stats
    assert world.remembered(range(200)) == set()
    world.assert_settled()


def test_a_disk_that_is_full(world: World) -> None:
    """A local file that cannot be flushed gives its posts back, and says so."""
    stats = world.crawl(world.site(pages_of(POSTS)), FEEDS=feed(Path("/dev/full")), **NO_PIPELINE)
    assert stats["dedup/items/released"] == 50
    assert "The feed /dev/full was not stored" in world.log
    assert world.remembered(POSTS) == set()


def test_standard_output_that_is_full(world: World, tmp_path: Path) -> None:
    """50 posts that standard output does not take are not remembered."""
    site = world.site(pages_of(POSTS))
    settings = {"VALKEY_DEDUP_URL": world.url, "VALKEY_DEDUP_NAMESPACE": world.namespace}
    job = Job(
        site.url,
        sorted(site.pages),
        str(tmp_path),
        {**settings, "FEEDS": {"stdout:": {"format": "jsonlines"}}, **NO_PIPELINE},
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        subprocess.run(
            [sys.executable, "-m", "tests.support.spiders.items", json.dumps(asdict(job))],
            stdout=full,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            env=environment,
        )
    assert "The feed stdout: was not stored" in (tmp_path / "log").read_text()
    assert world.remembered(POSTS) == set()


def test_an_exporter_that_exports_later(world: World) -> None:
    """What an exporter of the user's own keeps for later, and may lose, is not remembered."""
    stats = world.crawl(
        world.site(pages_of(POSTS)),
        FEEDS=feed(world.directory / "posts.jl"),
        EXTENSIONS={"scrapy.extensions.feedexport.FeedExporter": None, f"{FEEDS}.LateFeeds": 0},
        **NO_PIPELINE,
    )
    assert stats["dedup/items/released"] == 50
    assert world.remembered(POSTS) == set()
    assert world.log.count("did not export 10 items when they were scraped") == 1


def test_a_csv_that_was_cut_off_within_quotes(world: World) -> None:
    """All 50 posts that are appended to a CSV that ends within quotes can be read."""
    path = world.directory / "posts.csv"
    path.write_text('post_id,text,duplicate\n1000,"a post, cut o')
    world.crawl(world.site(pages_of(POSTS)), FEEDS=feed(path, "csv"), **NO_PIPELINE)
    with path.open(newline="") as file:
        found = {row[0] for row in csv.reader(file)}
    assert found >= EVERY_POST


def test_a_line_that_a_kill_has_cut_off(world: World) -> None:
    """What is appended to a file that ends within a line begins on a new one."""
    path = world.directory / "posts.jl"
    path.write_text('{"post_id": 7}\n{"post_id": 8, "te')
    world.crawl(world.site(pages_of(POSTS)), FEEDS=feed(path), **NO_PIPELINE)
    lines = lines_of(path)
    assert {json.loads(line)["post_id"] for line in lines[2:]} == set(POSTS)
    assert "ends within a record" in world.log


def test_batches_are_remembered_one_by_one(world: World, s3: S3) -> None:
    """With batches to S3 the posts of each are remembered when it is stored."""
    if SCRAPY_VERSION < (2, 15):
        pytest.skip("Scrapy 2.14 stores all batches when the spider closes")
    crawl = world.start(
        world.site(pages_of(POSTS)),
        FEEDS={"s3://posts/%(time)s-%(batch_id)d.jl": {"format": "jsonlines"}},
        FEED_EXPORT_BATCH_ITEM_COUNT=20,
        linger=True,
        **s3.settings,
        **NO_PIPELINE,
    )
    wait_until(lambda: len(world.remembered(POSTS)) == 40)
    assert set(s3.posts) == world.remembered(POSTS)
    let_go(world)
    assert crawl.wait()["dedup/items/confirmed"] == 50
    assert s3.posts == dict.fromkeys(EVERY_POST, 1)


def test_a_batch_that_fails_gives_back_its_own_posts(world: World, s3: S3) -> None:
    """Of three batches one cannot be stored: its posts are free, the others are not."""
    uploads = iter([False, True, False])
    s3.refuses = lambda: next(uploads)
    stats = world.crawl(
        world.site(pages_of(POSTS)),
        FEEDS={"s3://posts/%(time)s-%(batch_id)d.jl": {"format": "jsonlines"}},
        FEED_EXPORT_BATCH_ITEM_COUNT=20,
        **s3.settings,
        **NO_PIPELINE,
    )
    assert stats["dedup/items/confirmed"] + stats["dedup/items/released"] == 50
    assert stats["dedup/items/released"] in (10, 20)
    assert world.remembered(POSTS) == set(s3.posts)
    world.assert_settled()


def test_what_is_said_explicitly_wins(world: World) -> None:
    """With "scraped" no feed is waited for; one line says what a kill may lose."""
    stats = world.crawl(
        world.site(pages_of(POSTS)),
        FEEDS={"broken://all": {"format": "jsonlines"}},
        FEED_STORAGES={"broken": f"{FEEDS}.BrokenStorage"},
        VALKEY_DEDUP_CONFIRM="scraped",
        **NO_PIPELINE,
    )
    assert stats["dedup/items/confirmed"] == 50
    assert world.log.count("does not wait for the feeds") == 1


def test_no_secret_of_a_feed_is_logged(world: World) -> None:
    """User and password in a feed's URI are not in the plugin's lines."""
    world.crawl(
        world.site(pages_of(POSTS)),
        FEEDS={"broken://user:hidden@all": {"format": "jsonlines", "overwrite": True}},
        FEED_STORAGES={"broken": f"{FEEDS}.BrokenStorage"},
        **NO_PIPELINE,
    )
    ours = [line for line in world.log.splitlines() if "scrapy_valkey_dedup" in line]
    assert any("broken://all" in line for line in ours)
    assert not any("hidden" in line for line in ours if "Overridden" not in line)


@pytest.mark.parametrize("is_csv", [True, False])
def test_a_pipe_has_no_broken_line(tmp_path: Path, *, is_csv: bool) -> None:
    """It is not read, so no writer is waited for."""
    os.mkfifo(tmp_path / "pipe")
    assert end_of_broken_line(str(tmp_path / "pipe"), is_csv=is_csv) == b""
