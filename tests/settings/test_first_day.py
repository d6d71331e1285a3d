"""A new user's first day: `scrapy ...` in a fresh project, and what each mistake says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import scrapy

from bench.servers import ValkeyServer, free_port
from tests.support.crawls.world import World
from tests.support.patience import PATIENCE, wait_until
from tests.support.processes.scrapy_command import Command
from tests.support.servers.site import Site, pages_of

SECRET = "hunter2"
FAILED = int(scrapy.version_info >= (2, 15))  # 2.14 ends with 0 whatever cannot start
SETTINGS = """
ADDONS = {"scrapy_valkey_dedup.Addon": 500}
ITEM_PIPELINES = {"project.pipelines.Storage": 300}
SPIDER_MODULES = ["project.spiders"]
BOT_NAME = "project"
VALKEY_DEDUP_FIELDS = ["post_id"]
VALKEY_DEDUP_TIMEOUT = 0.5
TELNETCONSOLE_ENABLED = False
"""
PIPELINES = """
import json

class Storage:
    def open_spider(self):
        self.file = open("stored.jl", "a")

    def process_item(self, item):
        self.file.write(json.dumps(item) + "\\n")
        return item

    def close_spider(self):
        self.file.close()
"""
SPIDER = """
import scrapy

class Posts(scrapy.Spider):
    name = "posts"

    async def start(self):
        yield scrapy.Request("data:,")

    def parse(self, response):
        for number in (1, 2, 3, 1):
            yield {"post_id": number}
"""


@dataclass
class Ran:
    """What a command has said."""

    returncode: int
    log: str

    def lines(self, level: str) -> list[str]:
        """What it has logged at a level."""
        return re.findall(rf"^\S+ \S+ \[\S+\] {level}: (.*)$", self.log, re.MULTILINE)

    @property
    def trouble(self) -> list[str]:
        """All that it has logged above INFO; nothing may be printed besides."""
        assert "Traceback" not in self.log
        return self.lines("WARNING") + self.lines("ERROR") + self.lines("CRITICAL")


class Project:
    """A project as `scrapy startproject` makes it, with one spider and one storage."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "scrapy.cfg").write_text("[settings]\ndefault = project.settings\n")
        (directory / "project" / "spiders").mkdir(parents=True)
        for name, content in {
            "__init__.py": "",
            "settings.py": SETTINGS,
            "pipelines.py": PIPELINES,
            "spiders/__init__.py": "",
            "spiders/posts.py": SPIDER,
        }.items():
            (directory / "project" / name).write_text(content)

    @property
    def data_dir(self) -> Path:
        """Where its embedded server lives."""
        return self.directory / ".scrapy" / "valkey-dedup"

    def scrapy(self, *arguments: str, **settings: Any) -> Ran:
        """Runs `scrapy ...` to its end."""
        given = [part for name in settings for part in ("-s", f"{name}={settings[name]}")]
        said = self.directory / "said.txt"
        said.unlink(missing_ok=True)
        command = Command(
            *arguments, *given, folder=self.directory, environment=self._environment, out=said
        )
        status = command.wait()
        text = said.read_text()
        assert SECRET not in text
        return Ran(status, text)

    def run(self, *arguments: str) -> Ran:
        """Runs `python ...` in the project's folder, to its end."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert SECRET not in done.stdout
        return Ran(done.returncode, done.stdout)

    @property
    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("SCRAPY")}

    def crawl(self, **settings: Any) -> Ran:
        """Runs `scrapy crawl posts`."""
        return self.scrapy("crawl", "posts", **settings)

    @property
    def stored(self) -> list[int]:
        """The posts that its storage has."""
        file = self.directory / "stored.jl"
        return [json.loads(line)["post_id"] for line in file.read_text().splitlines()]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project."""
    return Project(tmp_path)


@pytest.fixture(scope="module")
def locked() -> Iterator[ValkeyServer]:
    """A server with a password."""
    with ValkeyServer("--requirepass", SECRET, port=free_port()) as server:
        yield server


@pytest.fixture
def page() -> Iterator[str]:
    """A page to look at."""
    site = Site(pages_of([1]))
    yield f"{site.url}/0"
    site.close()


def test_a_server_that_is_not_there(project: Project) -> None:
    """Nothing listens: one ERROR that says what to check, a WARNING at the end, all 3 stored."""
    ran = project.crawl(VALKEY_DEDUP_URL=f"valkey://127.0.0.1:{free_port()}")
    assert ran.returncode == 0
    at_the_end, error = ran.trouble
    assert "check host, port and TLS in VALKEY_DEDUP_URL" in error
    assert "Until it answers, posts are stored unchecked." in error
    assert re.search(r"was never reached \((at least )?\d+ seconds?\); 3 posts passed", at_the_end)
    assert "A later run may store them again." in at_the_end
    assert project.stored == [1, 2, 3]


def test_a_socket_that_is_not_there(project: Project) -> None:
    """The ERROR says to check the path, as a socket has neither host nor port."""
    ran = project.crawl(VALKEY_DEDUP_URL=f"unix://{project.directory}/nothing.sock")
    assert ran.returncode == 0
    _, error = ran.trouble
    assert "check the path of the socket in VALKEY_DEDUP_URL" in error
    assert project.stored == [1, 2, 3]


@pytest.mark.parametrize("settings", [{}, {"VALKEY_DEDUP_JOB": "today"}], ids=["posts", "pages"])
def test_a_wrong_password(project: Project, locked: ValkeyServer, settings: dict[str, str]) -> None:
    """One ERROR and nothing else, for posts and for pages; the command fails, nothing is stored."""
    url = locked.url.replace("://", "://:wrong@")
    ran = project.crawl(VALKEY_DEDUP_URL=url, **settings)
    assert ran.returncode == FAILED
    (error,) = ran.trouble
    assert "refuses: invalid username-password pair" in error
    assert "Check user, password and permissions in VALKEY_DEDUP_URL" in error
    assert project.stored == []


SCRIPT = """
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.utils.project import get_project_settings

settings = get_project_settings()
settings.set("VALKEY_DEDUP_URL", {url!r})
process = AsyncCrawlerProcess(settings)
crawl = process.crawl("posts")
process.start()
print("raised", type(crawl.exception()).__name__)
"""


def test_a_script_gets_the_error(project: Project, locked: ValkeyServer) -> None:
    """Who runs a crawl from a script gets what has ended it as an exception, as ever."""
    script = SCRIPT.format(url=locked.url.replace("://", "://:wrong@"))
    ran = project.run("-c", script)
    assert ran.log.endswith("raised LedgerRefusedError\n")
    assert len(ran.trouble) == 1


def test_a_refused_crawl_leaves_its_feed_alone(project: Project, locked: ValkeyServer) -> None:
    """A crawl that cannot start does not overwrite what an earlier one has stored."""
    feed = project.directory / "posts.jl"
    feed.write_text("what the last run stored")
    url = locked.url.replace("://", "://:wrong@")
    ran = project.scrapy("crawl", "posts", "-O", str(feed), VALKEY_DEDUP_URL=url)
    assert "invalid username-password pair" in ran.trouble[0]
    assert feed.read_text() == "what the last run stored"


def test_an_embedded_server_that_cannot_start(project: Project) -> None:
    """One ERROR with the cure."""
    (project.directory / "file").touch()
    ran = project.crawl(VALKEY_DEDUP_DATA_DIR="file")
    assert ran.returncode == FAILED
    (error,) = ran.trouble
    assert error.startswith(f"VALKEY_DEDUP_DATA_DIR={project.directory}/file cannot be used")


def test_wrong_settings(project: Project) -> None:
    """One ERROR that lists all faults: no traceback, by the add-on or by hand."""
    by_hand = {"ADDONS": "{}", "ITEM_PIPELINES": '{"scrapy_valkey_dedup.DedupPipeline": 1}'}
    for enabled in ({}, by_hand):
        ran = project.crawl(VALKEY_DEDUP_WAITT=1, VALKEY_DEDUP_LEASE="soon", **enabled)
        assert ran.returncode == FAILED
        assert ran.trouble == ["2 faults in the settings of scrapy-valkey-dedup:"]
        assert "did you mean VALKEY_DEDUP_WAIT?" in ran.log
        assert "VALKEY_DEDUP_LEASE = 'soon': write seconds" in ran.log


def test_the_scheduler_of_scrapy_redis(project: Project) -> None:
    """It is said what to remove, instead of `AttributeError: from_settings`."""
    ran = project.crawl(SCHEDULER="scrapy_redis.scheduler.Scheduler")
    assert ran.returncode == FAILED
    assert ran.trouble == ["1 fault in the settings of scrapy-valkey-dedup:"]
    assert "SCHEDULER = 'scrapy_redis.scheduler.Scheduler' cannot use this" in ran.log
    assert "Remove it" in ran.log


def test_the_scheduler_of_scrapy_redis_with_its_own_filter(
    project: Project, valkey: ValkeyServer
) -> None:
    """The cure that the message names works: requests are scrapy-redis's, posts are ours."""
    ran = project.crawl(
        SCHEDULER="scrapy_redis.scheduler.Scheduler",
        DUPEFILTER_CLASS="scrapy_redis.dupefilter.RFPDupeFilter",
        REDIS_URL=valkey.url.replace("valkey://", "redis://"),
        VALKEY_DEDUP_URL=valkey.url,
        VALKEY_DEDUP_NAMESPACE="scrapy-redis",
    )
    assert ran.lines("ERROR") == []
    assert project.stored == [1, 2, 3]


def test_what_a_good_run_says(project: Project) -> None:
    """At DEBUG how it is set up, at the end whose line it is; Python's quotes are understood."""
    ran = project.crawl(
        VALKEY_DEDUP_FIELDS="['post_id', 'page']",
        VALKEY_DEDUP_ON_UNKEYED="drop",
        VALKEY_DEDUP_CLIENT_OPTIONS="{'health_check_interval': 10}",
        CLOSESPIDER_TIMEOUT_NO_ITEM=60,
        CLOSESPIDER_PAGECOUNT_NO_ITEM=50,
    )
    (line,) = [line for line in ran.lines("DEBUG") if line.startswith("Spider 'posts' is run")]
    assert f"ledger at {project.data_dir}, namespace 'project'" in line
    assert "Identity: every class by post_id, page." in line
    assert "CONFIRM = 'scraped', REQUESTS = 'job', JOB = None" in line
    last = ran.lines("INFO")[-1]
    assert last.startswith("Deduplication of spider 'posts': 4 posts seen (4 without an identity)")
    advice = [line for line in ran.lines("WARNING") if line.startswith("CLOSESPIDER")]
    assert [line.partition(" counts the items that are stored")[0] for line in advice] == [
        "CLOSESPIDER_TIMEOUT_NO_ITEM = 60",
        "CLOSESPIDER_PAGECOUNT_NO_ITEM = 50",
    ]


@pytest.mark.parametrize("enabled", ["add-on", "by hand"])
def test_scrapy_parse(project: Project, page: str, enabled: str) -> None:
    """`scrapy parse --pipelines` stores all 4 items, as without the plugin, and says so once."""
    by_hand = {
        "ADDONS": "{}",
        "DUPEFILTER_CLASS": "scrapy_valkey_dedup.DupeFilter",
        "ITEM_PIPELINES": json.dumps(
            {"scrapy_valkey_dedup.DedupPipeline": 100, "project.pipelines.Storage": 300}
        ),
    }
    settings = by_hand if enabled == "by hand" else {}
    command = ("parse", "--spider=posts", "-c", "parse", "--pipelines", page)
    ran = project.scrapy(*command, **settings)
    assert ran.returncode == 0
    (line,) = [line for line in ran.trouble if "valkey" in line]
    assert "in `scrapy parse` nothing is deduplicated" in line
    assert project.stored == [1, 2, 3, 1]
    assert not project.data_dir.exists()


def test_scrapy_fetch(project: Project, page: str) -> None:
    """`scrapy fetch` shows its page, and neither starts a server nor says anything."""
    ran = project.scrapy("fetch", page)
    assert '"post_id": 1' in ran.log
    assert ran.trouble == []
    assert not project.data_dir.exists()


@pytest.mark.parametrize("spider", [(), ("--spider=posts",)], ids=["no spider", "a spider"])
def test_scrapy_shell(project: Project, page: str, spider: tuple[str, ...]) -> None:
    """`scrapy shell` shows its page; it starts no server, claims no page and says nothing."""
    code = "print(response.status, sorted(crawler.settings.getdict('ITEM_PIPELINES')))"
    settings = {"VALKEY_DEDUP_JOB": "one", "ITEM_PIPELINES": "{}"}
    ran = project.scrapy("shell", page, *spider, "-c", code, **settings)
    assert "200 []" in ran.log
    assert ran.trouble == []
    assert not project.data_dir.exists()


@pytest.mark.parametrize("hand", ["LOGSTATS_INTERVAL", "DUPEFILTER_CLASS"])
def test_scrapy_shell_by_hand(project: Project, page: str, hand: str) -> None:
    """Nor with a pipeline that was placed by hand, and one of the shell's own settings changed."""
    value = {"LOGSTATS_INTERVAL": "5", "DUPEFILTER_CLASS": "scrapy_valkey_dedup.DupeFilter"}
    pipelines = json.dumps({"scrapy_valkey_dedup.DedupPipeline": 100})
    ran = project.scrapy(
        "shell", page, "-c", "print(response.status)",
        **{"ADDONS": "{}", "ITEM_PIPELINES": pipelines, hand: value[hand]},
    )  # fmt: skip
    assert "\n200\n" in ran.log
    assert ran.trouble == []
    assert not project.data_dir.exists()


@pytest.mark.long
@pytest.mark.parametrize(("job", "what"), [(None, "8 posts"), ("today", "4 pages")])
def test_waiting_for_a_dead_run(world: World, job: str | None, what: str) -> None:
    """A run that waits for what a killed one holds says so once, with how many and how long."""
    site = world.site(pages_of(range(8), size=2))
    lease = {"VALKEY_DEDUP_LEASE": 6, "VALKEY_DEDUP_JOB": job}
    holder = world.start(site, delay=60, **lease)
    wait_until(lambda: len(world.claims) == 8 + (4 if job else 0))
    holder.kill()
    world.crawl(site, VALKEY_DEDUP_WAIT=1, **lease)
    (line,) = re.findall(r"Waiting for .*", world.log)
    assert line.startswith(
        f"Waiting for {what} that a run which seems to have ended holds, up to 6 s "
        "(VALKEY_DEDUP_LEASE)"
    )
    assert world.stored == {str(post): 1 for post in range(8)}


def test_mark_on_a_class_without_the_field(world: World) -> None:
    """ON_DUPLICATE = "mark" is refused at the first item, once; what is new is stored."""
    site = world.site(pages_of([1, 2, 3, 1, 2, 3]))
    stats = world.crawl(site, VALKEY_DEDUP_ON_DUPLICATE="mark", VALKEY_DEDUP_MARK_FIELD="again")
    assert stats["finish_reason"] == "dedup_mark_field"
    assert stats["log_count/ERROR"] == 1
    assert "VALKEY_DEDUP_MARK_FIELD = 'again': Post has no such field that can be set" in world.log
    assert world.stored == {"1": 1, "2": 1, "3": 1}
    assert world.remembered([1, 2, 3]) == {"1", "2", "3"}


def test_scrapys_settings_that_surprise(world: World) -> None:
    """A run of duplicates overwrites a feed with 0 bytes and is closed, as settings.md says.

    With the cures that it names the feed keeps its 3 posts, and the run goes to its end.
    """
    site = world.site(pages_of([1, 2, 3], size=1))
    file = world.directory / "posts.jl"
    feeds = {"FEEDS": {str(file): {"format": "jsonlines", "overwrite": True}}}
    world.crawl(site, **feeds)
    whole = file.read_text()
    assert whole.count("\n") == 3

    stats = world.crawl(site, FEED_STORE_EMPTY=False, **feeds)
    assert stats["finish_reason"] == "finished"
    assert file.read_text() == whole

    stats = world.crawl(site, CLOSESPIDER_PAGECOUNT_NO_ITEM=2, **feeds)
    assert stats["finish_reason"] == "closespider_pagecount_no_item"
    assert file.read_text() == ""
    assert (
        world.log.count("CLOSESPIDER_PAGECOUNT_NO_ITEM = 2 counts the items that are stored") == 1
    )
