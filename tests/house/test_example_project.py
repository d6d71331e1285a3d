"""The example project: the local instances, the spider on them, and the demo."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import asdict
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

import pytest
from scrapy.http import Headers, Response

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "example_project"))

from fediverse.federation import DOMAINS, Fediverse
from fediverse.instances import Answer, Instance, RateLimit
from fediverse.posts import Post, status
from fediverse.server import serving
from posts.middlewares import seconds_to_wait
from posts.spiders.mastodon import MastodonSpider, next_page, read_post, read_text
from verdict import Verdict, judge

from tests.support.patience import PATIENCE
from tests.support.processes.scrapy_command import scrapy

PROJECT = Path(__file__).resolve().parents[2] / "example_project"
TIMELINE = "/api/v1/timelines/public"
# https://docs.joinmastodon.org/entities/Status/, what is neither optional nor bound to a token.
STATUS_FIELDS = {
    "id", "uri", "created_at", "account", "content", "visibility", "sensitive", "spoiler_text",
    "media_attachments", "mentions", "tags", "emojis", "reblogs_count", "favourites_count",
    "replies_count", "url", "in_reply_to_id", "in_reply_to_account_id", "reblog", "poll",
    "card", "language", "edited_at", "quote",
}  # fmt: skip
# https://docs.joinmastodon.org/entities/Account/, as above.
ACCOUNT_FIELDS = {
    "id", "username", "acct", "url", "display_name", "note", "avatar", "avatar_static",
    "header", "header_static", "locked", "fields", "emojis", "bot", "group", "discoverable",
    "created_at", "last_status_at", "statuses_count", "followers_count", "following_count",
}  # fmt: skip
POST = Post(
    uri="https://birch.example/users/ada/statuses/117538672858350771",
    url="https://birch.example/@ada/117538672858350771",
    name="ada",
    domain="birch.example",
    created=1_793_498_400_123,
    language="en",
    content=(
        '<p><span class="h-card"><a href="https://elm.example/@bo" class="u-url mention">@<span>bo'
        "</span></a></span> a &lt; b &amp;&amp; &quot;b&quot; &gt; c<br />second line</p>"
        '<p><a href="https://www.paper.example/long?a=1&amp;b=2"><span class="invisible">'
        'https://www.</span><span class="ellipsis">paper.example/lo</span>'
        '<span class="invisible">ng?a=1&amp;b=2</span></a></p>'
        '<p><a href="https://birch.example/tags/Cats" class="mention hashtag" rel="tag">'
        "#<span>Cats</span></a> 猫</p>"
    ),
    tags=("Cats",),
)


def get(url: str):
    """Return status, headers and decoded body, past any proxy of the environment."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        response = opener.open(url, timeout=10)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, response.headers, json.loads(response.read())


def populated(count: int, *instances: Instance) -> tuple[Instance, ...]:
    """Let posts appear on instances."""
    Fediverse(instances).publish(count)
    return instances


class Crawl:
    """A real ``scrapy crawl mastodon`` without the plugin, and what it left behind."""

    def __init__(self, directory: Path, instance: Instance, *arguments: str, **settings: str):
        directory.mkdir(exist_ok=True)
        feed = directory / "posts.jsonl"
        stats = directory / "stats.json"
        settings = {
            "ADDONS": "{}",
            "POSTS_DATABASE": str(directory / "posts.sqlite"),
            "POSTS_STATS_FILE": str(stats),
            "FEEDS": json.dumps({str(feed): {"format": "jsonlines"}}),
            "DOWNLOAD_DELAY": "0",
            "HTTPPROXY_ENABLED": "False",
            **settings,
        }
        command = ["crawl", "mastodon"]
        command += [f"-ainstance={instance.url}", *(f"-a{argument}" for argument in arguments)]
        command += [f"-s{name}={value}" for name, value in settings.items()]
        environment = {**os.environ, "PYTHONPATH": str(directory)}
        done = scrapy(*command, folder=PROJECT, environment=environment, place=directory)
        self.exit_status, self.log = done.returncode, done.stderr
        self.stats = json.loads(stats.read_text()) if stats.exists() else {}
        lines = feed.read_text(encoding="utf-8").splitlines() if feed.exists() else []
        self.feed = [json.loads(line) for line in lines]
        self.rows = []
        if (directory / "posts.sqlite").exists():
            with closing(sqlite3.connect(directory / "posts.sqlite")) as database:
                database.row_factory = sqlite3.Row
                self.rows = [dict(row) for row in database.execute("SELECT * FROM posts")]


def test_the_timeline_has_the_documented_fields():
    """Each status and account has exactly the fields that Mastodon documents."""
    (instance,) = populated(100, Instance("alder.example"))
    with serving([instance]):
        code, headers, page = get(f"{instance.url}{TIMELINE}")
    assert code == 200
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert len(page) == 20
    for shown in page:
        assert set(shown) == STATUS_FIELDS
        assert set(shown["account"]) == ACCOUNT_FIELDS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown["created_at"])
        assert re.fullmatch(r"\d{18}", shown["id"])
    assert {type(shown["url"]) for shown in page} == {str, type(None)}


def test_the_links_lead_through_the_whole_timeline():
    """Following rel=next from the newest post visits each post once and ends with an empty page."""
    (instance,) = populated(150, Instance("alder.example"))
    numbers = []
    with serving([instance]):
        url = f"{instance.url}{TIMELINE}?limit=400"
        while url:
            _, headers, page = get(url)
            assert len(page) <= 40
            numbers += [int(shown["id"]) for shown in page]
            links = dict(re.findall(r'<([^>]*)>; rel="(\w+)"', headers["Link"] or ""))
            url = {rel: link for link, rel in links.items()}.get("next")
        _, headers, newer = get(f"{instance.url}{TIMELINE}?min_id={numbers[45]}&limit=5")
        _, _, newest = get(f"{instance.url}{TIMELINE}?since_id={numbers[45]}&limit=5")
        _, _, local = get(f"{instance.url}{TIMELINE}?local=true")
        _, _, remote = get(f"{instance.url}{TIMELINE}?remote=true")
    assert page == []
    assert len(numbers) == instance.sightings - 50 == len(instance.uris)
    assert numbers == sorted(set(numbers), reverse=True)
    assert [int(shown["id"]) for shown in newer] == numbers[40:45]
    assert f'min_id={numbers[40]}>; rel="prev"' in headers["Link"]
    assert [int(shown["id"]) for shown in newest] == numbers[:5]
    assert all("@" not in shown["account"]["acct"] for shown in local)
    assert all("@" in shown["account"]["acct"] for shown in remote)


def test_the_rate_limit_is_announced_and_kept():
    """The headers count down to a 429 that names the moment of the reset."""
    instance = Instance("alder.example", RateLimit(limit=2, period=1_000_000_000))
    with serving([instance]):
        answers = [get(f"{instance.url}{TIMELINE}") for _ in range(3)]
    assert [code for code, _, _ in answers] == [200, 200, 429]
    assert [headers["X-RateLimit-Remaining"] for _, headers, _ in answers] == ["1", "0", "0"]
    _, headers, body = answers[-1]
    assert body == {"error": "Too many requests"}
    assert headers["X-RateLimit-Limit"] == "2"
    assert re.fullmatch(r"[-\d]{10}T[:\d]{8}\.\d{6}Z", headers["X-RateLimit-Reset"])
    assert instance.sightings == 0


def test_instances_show_the_same_posts_under_numbers_of_their_own():
    """Most posts are on all instances, none of them with one id on two, the same for one seed."""
    instances = [Instance(domain) for domain in DOMAINS]
    again = [Instance(domain) for domain in DOMAINS]
    for group in (instances, again):
        fediverse = Fediverse(group, seed=7)
        fediverse.publish(400)
        fediverse.publish(100)
    timelines = [{shown.uri: shown for shown in instance.timeline} for instance in instances]
    assert timelines == [{shown.uri: shown for shown in instance.timeline} for instance in again]
    everywhere = set.intersection(*(set(timeline) for timeline in timelines))
    anywhere = set.union(*(set(timeline) for timeline in timelines))
    assert 0.7 < len(everywhere) / len(anywhere) < 0.95
    assert all(len({timeline[uri].number for timeline in timelines}) == 3 for uri in everywhere)


def test_a_status_becomes_a_post(tmp_path: Path):
    """A crawl stores text, full account name, tags and dates as people read them."""
    instance = Instance("alder.example")
    instance.publish([(117538672858399999, POST)])
    with serving([instance]):
        crawl = Crawl(tmp_path, instance)
    address = instance.url.removeprefix("http://")
    expected = {
        "uri": POST.uri,
        "url": POST.url,
        "account": "ada@birch.example",
        "created_at": "2026-11-01T02:00:00.123Z",
        "text": '@bo a < b && "b" > c\nsecond line\n\n'
        "https://www.paper.example/long?a=1&b=2\n\n#Cats 猫",
        "language": "en",
        "tags": ["cats"],
        "instance": address,
    }
    assert crawl.feed == [expected]
    (row,) = crawl.rows
    assert row.pop("spider") == "mastodon"
    assert row.pop("run_started") == crawl.stats["start_time"]
    assert row == {**expected, "tags": '["cats"]'}


def test_a_status_is_read_alike_wherever_it_is_shown():
    """Home, another instance, and a boost give one post but for the instance."""
    home = status(POST, 1, "birch.example")
    away = status(POST, 2, "cedar.example")
    boost = {**away, "uri": "https://cedar.example/boost", "content": "", "reblog": away}
    posts = [asdict(read_post(shown, "x")) for shown in (home, away, boost)]
    assert home["account"]["acct"] == "ada"
    assert away["account"]["acct"] == "ada@birch.example"
    assert posts[0] == posts[1] == posts[2]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("<p>&lt;p&gt; is a tag</p>", "<p> is a tag"),
        ("<p>one<br>two<br/>three</p>", "one\ntwo\nthree"),
        ("<p>list</p><ul><li>a</li><li>b</li></ul><p>end</p>", "list\n\na\nb\n\nend"),
        ("<blockquote><p>said</p></blockquote><p>so</p>", "said\n\nso"),
    ],
)
def test_html_becomes_readable_text(html: str, text: str):
    """Paragraphs are parted by a blank line, lines by a break, and entities are characters."""
    assert read_text(html) == text


@pytest.mark.parametrize(
    ("link", "target"),
    [
        (b'<https://a/?max_id=1>; rel="next", <https://a/?min_id=2>; rel="prev"', "https://a/?max_id=1"),
        (b'<https://a/?min_id=2>; rel="prev", <https://a/?max_id=1>; rel="next"', "https://a/?max_id=1"),
        (b"</t?max_id=1>; title=older; rel=next", "/t?max_id=1"),
        (b'<https://a/?min_id=2>; rel="prev"', None),
        (b"", None),
    ],
)  # fmt: skip
def test_the_next_page_is_read_from_the_link_header(link: bytes, target: str | None):
    """The target of rel=next is found in any order, and only it."""
    assert next_page(Response("https://a/", headers={"Link": link})) == target


def test_all_pages_are_read_and_no_more_than_asked_for(tmp_path: Path):
    """The pages argument bounds the crawl; with ``all`` the timeline is read to its end."""
    (instance,) = populated(150, Instance("alder.example"))
    with serving([instance]):
        bounded = Crawl(tmp_path / "two", instance, "pages=2")
        assert len(bounded.rows) == instance.sightings == 80
        before = instance.pages
        whole = Crawl(tmp_path / "all", instance, "pages=all")
    assert instance.pages - before == instance.pages_in_full() == 5
    assert {row["uri"] for row in whole.rows} == instance.uris
    assert len(whole.rows) == len(whole.feed) == len(instance.timeline)
    assert bounded.stats["finish_reason"] == whole.stats["finish_reason"] == "finished"
    assert whole.stats["mastodon/posts"] == len(whole.rows)


def test_a_crawl_waits_out_the_rate_limit(tmp_path: Path):
    """After a 429 the spider comes back when it is allowed to, and misses no post."""
    (instance,) = populated(60, Instance("alder.example", RateLimit(limit=1, period=1)))
    with serving([instance]):
        crawl = Crawl(tmp_path, instance, "pages=all")
    assert crawl.stats["finish_reason"] == "finished"
    assert crawl.stats["downloader/response_status_count/429"] >= 1
    assert "retry/max_reached" not in crawl.stats
    assert {row["uri"] for row in crawl.rows} == instance.uris


def test_the_wait_is_what_the_instance_says():
    """Retry-After, then X-RateLimit-Reset by the instance's own clock, then a minute."""
    date = formatdate(1_793_498_400, usegmt=True)
    reset = "2026-11-01T02:05:00.250000Z"
    assert seconds_to_wait(Headers({"Retry-After": "7", "X-RateLimit-Reset": reset})) == 7
    assert seconds_to_wait(Headers({"Date": date, "X-RateLimit-Reset": reset})) == 301
    assert seconds_to_wait(Headers({"Date": reset, "X-RateLimit-Reset": reset})) == 1
    began = time.time()
    soon = Headers({"Retry-After": formatdate(began + 30, usegmt=True)})
    assert 29 - (time.time() - began) <= seconds_to_wait(soon) <= 30
    assert seconds_to_wait(Headers({"Retry-After": "later"})) == 60


@pytest.mark.parametrize("code", [401, 403, 422])
def test_a_closed_timeline_is_named(tmp_path: Path, code: int):
    """An instance that wants a token ends the crawl with a message that says so."""
    instance = Instance("alder.example", closed=HTTPStatus(code))
    with serving([instance]):
        crawl = Crawl(tmp_path, instance)
    assert crawl.stats["finish_reason"] == "timeline_closed"
    (line,) = (line for line in crawl.log.splitlines() if "] ERROR: " in line)
    assert f"instance={instance.url} shows its public timeline only to users" in line
    assert f"HTTP {code}: This method requires an authenticated user" in line
    assert "name an instance that shows it to everyone" in line


class Homepage(Instance):
    """A web server that is no Mastodon instance."""

    def answer(self, path: str, query: str, host: str) -> Answer:
        """Answer everything with a page for people."""
        return Answer(HTTPStatus.OK, b"<html>Welcome</html>", {"Content-Type": "text/html"})


def test_what_is_no_instance_is_named(tmp_path: Path):
    """A page for people instead of a timeline ends the crawl with a message that says so."""
    instance = Homepage("alder.example")
    with serving([instance]):
        crawl = Crawl(tmp_path, instance)
    assert crawl.stats["finish_reason"] == "timeline_unreadable"
    assert "is not a list of posts" in crawl.log
    assert "check that a Mastodon instance answers at this address" in crawl.log


@pytest.mark.parametrize(
    "value", ["", "mastodon.example", "ftp://a.example", "https://a.example/@ada", "http://a:x"]
)
def test_a_wrong_instance_is_refused(value: str):
    """The message names the argument, the value and the cure."""
    with pytest.raises(ValueError, match="instance=") as error:
        MastodonSpider(instance=value)
    assert repr(value) in str(error.value)
    assert "-a instance=https://mastodon.example" in str(error.value)


def test_a_password_in_the_address_is_not_shown():
    """An address with a password is refused without repeating it."""
    with pytest.raises(ValueError, match="instance=") as error:
        MastodonSpider(instance="https://ada:secret@mastodon.example")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", ""])
def test_a_wrong_number_of_pages_is_refused(value: str):
    """The message names the argument, the value and the cure."""
    with pytest.raises(ValueError, match=re.escape(f"pages={value!r}")) as error:
        MastodonSpider(instance="https://mastodon.example", pages=value)
    assert "-a pages=25" in str(error.value)


@pytest.mark.parametrize("value", ["", "true", "1", "Yes"])
def test_a_wrong_full_is_refused(value: str):
    """The message names the argument, the value and the cure."""
    with pytest.raises(ValueError, match=re.escape(f"full={value!r}")) as error:
        MastodonSpider(instance="https://mastodon.example", full=value)
    assert "-a full=yes" in str(error.value)


def test_a_wrong_argument_fails_the_command(tmp_path: Path):
    """``scrapy crawl`` shows the message and exits with a status other than 0."""
    crawl = Crawl(tmp_path, Instance("alder.example"))
    assert crawl.exit_status != 0
    assert "instance='' is not the address of an instance" in crawl.log.splitlines()[-1]


def test_a_post_that_left_the_pipeline_is_stored(tmp_path: Path):
    """The next pipeline finds each post in the database, through another connection."""
    (tmp_path / "look.py").write_text(
        "import sqlite3\n"
        "class Look:\n"
        "    def __init__(self, crawler):\n"
        "        self.database = sqlite3.connect(crawler.settings['POSTS_DATABASE'])\n"
        "    @classmethod\n"
        "    def from_crawler(cls, crawler):\n"
        "        return cls(crawler)\n"
        "    def process_item(self, item):\n"
        "        query = 'SELECT COUNT(*) FROM posts WHERE uri = ?'\n"
        "        assert self.database.execute(query, [item.uri]).fetchone() == (1,)\n"
        "        return item\n"
    )
    (instance,) = populated(100, Instance("alder.example"))
    pipelines = {"posts.pipelines.SQLitePipeline": 300, "look.Look": 400}
    with serving([instance]):
        crawl = Crawl(tmp_path, instance, ITEM_PIPELINES=json.dumps(pipelines))
    assert crawl.stats["item_scraped_count"] == len(crawl.rows) == len(instance.timeline)
    assert "log_count/ERROR" not in crawl.stats


class Mangled(Instance):
    """An instance whose first post has half a character in it."""

    def answer(self, path: str, query: str, host: str) -> Answer:
        """Put half a surrogate pair before the first content."""
        answer = super().answer(path, query, host)
        answer.body = answer.body.replace(b'"content": "', rb'"content": "\ud800', 1)
        return answer


def test_a_post_that_cannot_be_stored_fails_alone(tmp_path: Path):
    """Posts of the same transaction are stored all the same."""
    (instance,) = populated(30, Mangled("alder.example"))
    with serving([instance]):
        crawl = Crawl(tmp_path, instance)
    assert len(crawl.rows) == crawl.stats["item_scraped_count"] == len(instance.timeline) - 1
    assert crawl.stats["log_count/ERROR"] == 1
    assert "UnicodeEncodeError" in crawl.log


class Remembering:
    """Crawls of one directory that share the plugin's memory."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._memory = {
            "ADDONS": json.dumps({"scrapy_valkey_dedup.Addon": 500}),
            "VALKEY_DEDUP_DATA_DIR": str(directory / "valkey"),
            "VALKEY_DEDUP_LEASE": "1",
        }

    def crawl(self, instance: Instance, *arguments: str, **settings: str):
        """Read an instance; return the crawl and how many pages it took."""
        before = instance.pages
        arguments = arguments or ("pages=all",)
        crawl = Crawl(self._directory, instance, *arguments, **self._memory, **settings)
        return crawl, instance.pages - before


def stored_once(crawl: Crawl, *instances: Instance) -> bool:
    """Whether the posts that the instances show, and no others, are stored, each of them once."""
    uris = sorted(row["uri"] for row in crawl.rows)
    return uris == sorted(set().union(*(instance.uris for instance in instances)))


def uris_of_pages(instance: Instance) -> list[set[str]]:
    """Return the posts of each page of 40, the newest page first."""
    newest = [shown.uri for shown in reversed(instance.timeline)]
    return [set(newest[at : at + 40]) for at in range(0, len(newest), 40)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"VALKEY_DEDUP_JOB": "{run}"},
        {"VALKEY_DEDUP_REQUESTS": "stored"},
        {"VALKEY_DEDUP_REQUESTS": "off", "VALKEY_DEDUP_CONFIRM": "exported"},
        {"VALKEY_DEDUP_JOB": "{run}", "VALKEY_DEDUP_CONFIRM": "exported"},
    ],
    ids=["default", "job", "stored", "off, exported", "job, exported"],
)
def test_a_later_run_reads_back_to_where_the_last_one_began(
    tmp_path: Path, settings: dict[str, str]
):
    """A run takes the pages that have something new, and one that has not, in every mode."""
    remembering = Remembering(tmp_path)
    (instance,) = populated(300, Instance("alder.example"))
    everything = instance.timeline

    def crawl(run: int):
        of_run = {name: value.format(run=run) for name, value in settings.items()}
        return remembering.crawl(instance, **of_run)

    with serving([instance]):
        instance.timeline = everything[:-50]
        _, pages = crawl(1)
        assert pages == instance.pages_in_full() > 5
        _, pages = crawl(2)
        assert pages == 1
        instance.timeline = everything
        last, pages = crawl(3)
        assert pages == 3
    assert stored_once(last, instance)


@pytest.mark.parametrize("pages", range(2, 6))
def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path: Path, pages: int):
    """With a JOBDIR the next page is asked for by the run that goes on."""
    remembering = Remembering(tmp_path)
    (instance,) = populated(300, Instance("alder.example"))
    directory = str(tmp_path / "job")
    with serving([instance]):
        stopped, _ = remembering.crawl(instance, JOBDIR=directory, CLOSESPIDER_PAGECOUNT=str(pages))
        assert "Traceback" not in stopped.log
        crawl, fetched = remembering.crawl(instance, JOBDIR=directory)
        assert 1 < fetched <= instance.pages_in_full()
    assert stored_once(crawl, instance)


def populated_twice(*instances: Instance) -> tuple[Instance, ...]:
    """Let posts appear, and then some more, with the late ones of the first."""
    fediverse = Fediverse(instances)
    fediverse.publish(600)
    fediverse.publish(100)
    return instances


def test_posts_below_what_others_have_stored_are_found(tmp_path: Path):
    """That another instance showed every post of a page before does not end the reading."""
    remembering = Remembering(tmp_path)
    alder, birch = populated_twice(Instance("alder.example"), Instance("birch.example"))
    known = [page <= birch.uris for page in uris_of_pages(alder)]
    assert not all(known[known.index(True) :])
    with serving([alder, birch]):
        remembering.crawl(birch)
        crawl, _ = remembering.crawl(alder)
    assert stored_once(crawl, alder, birch)


class Broken(Instance):
    """An instance that answers an error instead of the third page, once."""

    broken = True

    def answer(self, path: str, query: str, host: str) -> Answer:
        """Count the pages."""
        if self.broken and self.pages == 2:
            self.broken = False
            return Answer(HTTPStatus.NOT_IMPLEMENTED, b"{}")
        return super().answer(path, query, host)


HARM = """
import os, signal
class Harm:
    posts = 0
    def process_item(self, item):
        self.posts += 1
        if self.posts == 100:
            self.harm()
        return item
class Kill(Harm):
    def harm(self):
        os.kill(os.getpid(), signal.SIGKILL)
class Fail(Harm):
    def harm(self):
        raise OSError("the disk is full")
"""


def with_pipeline(path: str, place: int) -> dict[str, str]:
    """Settings that place a pipeline before or behind the one that stores at 300."""
    return {"ITEM_PIPELINES": json.dumps({"posts.pipelines.SQLitePipeline": 300, path: place})}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param(Broken, {}, id="a page fails"),
        pytest.param(Instance, {"CLOSESPIDER_PAGECOUNT": "3"}, id="closed"),
        pytest.param(Instance, with_pipeline("harm.Kill", 400), id="killed"),
        pytest.param(Instance, with_pipeline("harm.Fail", 200), id="storing fails"),
    ],
)
def test_what_a_run_leaves_unread_or_unstored_is_found_by_the_next(
    tmp_path: Path, kind: type[Instance], settings: dict[str, str]
):
    """Only a run that has read and stored all there was spares the next one a page."""
    (tmp_path / "harm.py").write_text(HARM)
    remembering = Remembering(tmp_path)
    (instance,) = populated(600, kind("alder.example"))
    with serving([instance]):
        harmed, _ = remembering.crawl(instance, **settings)
        assert 80 <= len(harmed.rows) < len(instance.uris)
        whole, pages = remembering.crawl(instance)
        assert pages == instance.pages_in_full()
        _, pages = remembering.crawl(instance)
        assert pages == 1
    # What was stored and not yet confirmed when the process was killed is stored a second time.
    assert {row["uri"] for row in whole.rows} == instance.uris


def test_a_full_reading_finds_posts_that_came_late(tmp_path: Path):
    """A post that appears far below the newest ones is stored by a run with full=yes."""
    remembering = Remembering(tmp_path)
    (instance,) = populated(400, Instance("alder.example"))
    number = instance.timeline[50].number + 1
    with serving([instance]):
        remembering.crawl(instance)
        instance.publish([(number, POST)])
        _, pages = remembering.crawl(instance)
        assert pages == 1
        crawl, pages = remembering.crawl(instance, "pages=all", "full=yes")
    assert pages == instance.pages_in_full()
    assert stored_once(crawl, instance)


def test_the_verdict_counts_what_is_stored_too_often_or_not_at_all():
    """A row removed is missing, a row doubled is twice, and either spoils the verdict."""
    shown = {f"https://alder.example/{number}" for number in range(5)}
    rows = sorted(shown)
    assert judge(shown, rows) == Verdict(stored=5, twice=0, missing=0)
    assert judge(shown, rows).good
    assert judge(shown, rows[1:]) == Verdict(stored=4, twice=0, missing=1)
    assert judge(shown, [*rows, rows[0], rows[0]]) == Verdict(stored=7, twice=2, missing=0)
    assert not judge(shown, rows[1:]).good
    assert not judge(shown, [*rows, rows[0]]).good


LAST_LINE = re.compile(
    r"demo: 2 runs, 3 spiders, (\d+) posts seen, (\d+) stored, (\d+) twice, (\d+) missing"
)


SAVING = re.compile(r"^second run: (\d+) pages fetched, (\d+) saved$", re.MULTILINE)


def demo(cwd: Path, *arguments: str):
    """Run the demo; return its exit status and the numbers of its last line."""
    command = [sys.executable, str(PROJECT / "demo.py"), *arguments]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    last = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert last, done.stdout + done.stderr
    return done, [int(number) for number in last.groups()]


@pytest.mark.slow
def test_without_the_plugin_the_demo_fails(tmp_path: Path):
    """Three spiders without a common memory store posts several times, and the demo says so."""
    done, (seen, stored, twice, missing) = demo(tmp_path, "--no-dedup", "--posts=90", "--more=20")
    assert done.returncode == 1
    assert seen == stored > 500
    assert twice > stored / 2
    assert missing == 0
    assert f"feeds: {stored} stored, {twice} twice, 0 missing" in done.stdout.splitlines()
    assert SAVING.search(done.stdout)[2] == "0"


@pytest.mark.slow
def test_the_demo_stores_each_post_once(tmp_path: Path):
    """Six crawls store each post that is shown once, and the READMEs say what they print."""
    done, (seen, stored, twice, missing) = demo(tmp_path)
    assert (done.returncode, twice, missing) == (0, 0, 0), done.stdout + done.stderr
    assert seen >= 9_000
    assert stored >= 3_000
    saving = SAVING.search(done.stdout)
    fetched, saved = map(int, saving.groups())
    assert saved > 3 * fetched
    for readme in (PROJECT / "README.md", PROJECT.parent / "README.md"):
        assert f"    {saving[0]}\n" in readme.read_text()
        assert f"    {done.stdout.splitlines()[-1]}\n" in readme.read_text()
    assert f"feeds: {stored} stored, 0 twice, 0 missing" in done.stdout.splitlines()
