"""README and requests.md: examples run, commands and names exist, figures are those of the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scrapy.settings import Settings

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.addon import PIPELINE_PRIORITY, Addon
from scrapy_valkey_dedup.identity.identifier import Identifier
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import REQUESTS
from tests.support.processes.scrapy_command import Command
from tests.support.servers.web import Reply, Web

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "requests.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.long
def test_the_first_try_works(tmp_path: Path) -> None:
    """The first screen, typed as it stands, with nothing else: what it says is what it prints."""
    (tmp_path / "posts.py").write_text(BLOCKS[1])
    first_screen = README[: README.index("## Share it")]
    commands = re.findall(r"^ {4}scrapy (runspider .*)$", first_screen, re.MULTILINE)
    printed = re.findall(r"^ {4}(Deduplication of .*)$", first_screen, re.MULTILINE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for command, line in zip(commands, printed, strict=True):
        scrapy = [sys.executable, "-m", "scrapy", *command.split()]
        ended = subprocess.run(
            scrapy, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.rstrip().endswith(line), ended.stderr
    assert "has three lines" in first_screen
    assert len((tmp_path / "posts.jl").read_text().splitlines()) == 3


def test_the_two_lines_are_those_of_the_spider() -> None:
    """The first settings are two, they need no server, and the spider to try has the same."""
    settings: dict[str, object] = {}
    exec(BLOCKS[0], settings)
    spider: dict[str, object] = {}
    exec(BLOCKS[1], spider)
    del settings["__builtins__"]
    assert len(settings) == 2
    assert getattr(spider["Posts"], "custom_settings") == settings  # noqa: B009 (a class of exec)
    assert DedupSettings.parse(Settings(settings), "posts").url is None


def test_the_settings_of_a_fleet_are_valid() -> None:
    """The settings that a fleet shares are accepted as they stand."""
    settings: dict[str, object] = {}
    exec(BLOCKS[2], settings)
    del settings["__builtins__"]
    assert len(settings) == 4
    parsed = DedupSettings.parse(Settings(settings), "spider")
    assert parsed.url == settings["VALKEY_DEDUP_URL"]


def test_the_example_of_an_identity_holds() -> None:
    """The README's posts are the same or not, as it says."""
    scope: dict[str, object] = {}
    exec(BLOCKS[3], scope)
    fields = {"VALKEY_DEDUP_FIELDS": scope["VALKEY_DEDUP_FIELDS"]}
    DedupSettings.parse(Settings(fields), "spider")
    exec(BLOCKS[4], scope)
    identifier = Identifier(DedupSettings.parse(Settings(), "spider"))
    one, same, other = (identifier.key(scope[name], None) for name in ("one", "same", "other"))
    assert one == same
    assert one != other


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", README))))
def test_every_make_command_exists(target: str) -> None:
    """A ``make`` command of the README is a target of the Makefile, and CI runs it."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.search(rf"^(make|aside) {target}$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_the_figures_are_those_of_the_code() -> None:
    """The pipeline's place and the version's oldest Scrapy and Python are as README says."""
    assert f"places the pipeline at {PIPELINE_PRIORITY}," in README
    project = (ROOT / "pyproject.toml").read_text()
    assert "Needs Scrapy 2.14 or newer" in README
    assert '"scrapy>=2.14"' in project
    assert "Python 3.10 or newer" in README.replace("\n", " ")
    assert 'requires-python = ">=3.10"' in project


def test_the_lines_of_the_ways_are_valid() -> None:
    """Each setting in the table of ways is accepted as it stands, and has Valkey asked."""
    table = README[README.index("| way | line |") :].split("\n\n", maxsplit=1)[0]
    lines = re.findall(r'`(VALKEY_DEDUP_\w+) = "([^"]+)"`', table)
    assert len(lines) == 2
    for name, value in lines:
        assert DedupSettings.parse(Settings({name: value}), "spider").pages_are_shared
    assert '`meta={"dedup": "if_new", "dedup_timeline": "its name"}`' in table


def path_of(component: object) -> str:
    """The import path that users write for a class of the package."""
    assert isinstance(component, type)
    return f"scrapy_valkey_dedup.{component.__name__}"


def test_what_is_placed_by_hand_is_what_the_add_on_places() -> None:
    """The settings at the end of requests.md are those that the add-on makes."""
    by_hand: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[-2:]:
        exec(block, by_hand)
    settings = Settings()
    Addon("spider").update_settings(settings)
    assert by_hand["ITEM_PROCESSOR"] == path_of(settings["ITEM_PROCESSOR"])
    assert by_hand["DUPEFILTER_CLASS"] == path_of(settings["DUPEFILTER_CLASS"])
    for name in ("ITEM_PIPELINES", "DOWNLOADER_MIDDLEWARES", "SPIDER_MIDDLEWARES"):
        assert by_hand[name] == {path_of(found): at for found, at in settings[name].items()}


def test_the_table_of_stats() -> None:
    """requests.md explains each stat of pages, and no other."""
    table = GUIDE[GUIDE.index("All under `dedup/requests/`") :].split("\n\n")[1]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    explained = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert explained == set(vars(REQUESTS)) - {"unkeyed", "not_remembered"}


def html(*links: str, post: str = "") -> Reply:
    """A page with a post and links."""
    article = f"<article id='{post}'><p>Post {post}.</p></article>" if post else ""
    anchors = "".join(f"<a href='{link}'>more</a>" for link in links)
    return Reply(
        f"<html><body>{article}{anchors}</body></html>".encode(),
        headers={"Content-Type": "text/html"},
        delay=0.02,
    )


class Guide:
    """The spiders of requests.md, run as the page says, on a site of the test's."""

    def __init__(self, url: str, namespace: str, directory: Path, web: Web) -> None:
        self._directory = directory
        self._web = web
        self._settings = {
            "ADDONS": json.dumps({"scrapy_valkey_dedup.Addon": 500}),
            "VALKEY_DEDUP_URL": url,
            "VALKEY_DEDUP_NAMESPACE": namespace,
            "VALKEY_DEDUP_FIELDS": '["post_id"]',
            "HTTPPROXY_ENABLED": "False",
        }
        for block in re.findall(r"```python\n(# \w+\.py\n.*?)```", GUIDE, re.DOTALL):
            name = block.splitlines()[0].removeprefix("# ")
            code = re.sub(r"https://\w+\.example", web.url, block)
            code = re.sub(r'"\w+\.example"', '"127.0.0.1"', code)
            (directory / name).write_text(code)

    def run(self, spider: str, workers: int = 1, **settings: str) -> tuple[dict[str, int], int]:
        """Runs workers at once; returns what they fetched by path, and how many posts they kept."""
        before = self._web.served.copy()
        feeds = [self._directory / f"{spider}-{worker}.jsonl" for worker in range(workers)]
        kept_before = sum(len(feed.read_text().splitlines()) for feed in feeds if feed.exists())
        commands = []
        for feed in feeds:
            given = [f"-s{name}={value}" for name, value in {**self._settings, **settings}.items()]
            log = feed.with_suffix(".log")
            log.unlink(missing_ok=True)
            command = "runspider", f"{spider}.py", "-o", str(feed), *given
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            commands.append(
                Command(*command, folder=self._directory, environment=environment, out=log)
            )
        for command in commands:
            assert command.wait() == 0
        logs = [feed.with_suffix(".log").read_text() for feed in feeds]
        for log in logs:
            at = re.search("ERROR|Traceback", log)
            assert at is None, log[at.start() - 200 :]
        kept = sum(len(feed.read_text().splitlines()) for feed in feeds)
        return dict(self._web.served - before), kept - kept_before


def test_the_spider_of_a_fleet(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> None:
    """Workers of a job fetch each page once, but for the start page; another job fetches all.

    Each worker fetches the start page, and one of them once more because of the links back to it.
    """
    paths = [f"/{number}" for number in range(1, 31)]
    routes = {path: html("/", *paths[::7], post=path[1:]) for path in paths}
    with Web({"/": html(*paths, post="0"), **routes}) as web:
        guide = Guide(valkey.url, namespace, tmp_path, web)
        fetched, kept = guide.run("forum", workers=2, VALKEY_DEDUP_JOB="one")
        assert fetched == {"/": 3} | dict.fromkeys(paths, 1)
        assert kept == 31
        assert guide.run("forum", VALKEY_DEDUP_JOB="one") == ({"/": 1}, 0)
        assert guide.run("forum", VALKEY_DEDUP_JOB="two") == ({"/": 2} | dict.fromkeys(paths, 1), 0)


def test_the_incremental_spider(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> None:
    """A later run fetches the list, and the articles that are not stored."""
    paths = [f"/article/{number}" for number in range(1, 6)]
    routes = {path: html(post=path[1:]) for path in paths}
    with Web({"/latest": html(*paths), **routes}) as web:
        guide = Guide(valkey.url, namespace, tmp_path, web)
        assert guide.run("news") == ({"/latest": 1} | dict.fromkeys(paths, 1), 5)
        assert guide.run("news") == ({"/latest": 1}, 0)
        web.routes |= {"/latest": html("/article/6", *paths), "/article/6": html(post="6")}
        assert guide.run("news") == ({"/latest": 1, "/article/6": 1}, 1)


def test_the_spider_of_a_timeline(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> None:
    """A later run fetches the pages with something new, and one more."""

    def timeline(newest: int) -> dict[str, Reply]:
        """Pages of ten posts, by the number of their newest post."""
        path = "/public?limit=40"
        starts = range(newest, 0, -10)
        links = [path, *(f"{path}&max_id={start + 1}" for start in starts[1:]), None]
        return {
            link: Reply(
                json.dumps(
                    {
                        "posts": [
                            {"id": number, "text": "hello"}
                            for number in range(start, max(start - 10, 0), -1)
                        ],
                        "older": older,
                    }
                ).encode(),
                headers={"Content-Type": "application/json"},
            )
            for start, link, older in zip(starts, links, links[1:], strict=False)
        }

    with Web(timeline(100)) as web:
        guide = Guide(valkey.url, namespace, tmp_path, web)
        fetched, kept = guide.run("timeline")
        assert (sum(fetched.values()), kept) == (10, 100)
        fetched, kept = guide.run("timeline")
        assert (sum(fetched.values()), kept) == (1, 0)
        web.routes |= timeline(115)
        fetched, kept = guide.run("timeline")
        assert (sum(fetched.values()), kept) == (3, 15)
