"""Timelines are read back to where nothing is new, and no post below is lost.

Most crawls here read many timelines at once, each in two kinds: ``plain-...`` with "if_new" alone,
``named-...`` with a name as well.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, TypeAlias

import pytest

from bench.servers import ValkeyServer, free_port
from tests.support.crawls.requests import MODES, Run
from tests.support.crawls.timelines import (
    Readings,
    changed,
    names,
    number,
    opened,
    page_of,
    pages_read,
    timeline,
)
from tests.support.patience import wait_until
from tests.support.servers.web import RESET, Reply, Route, error, flapping, posts, redirect
from tests.support.spiders.feeds import FEEDS
from tests.support.spiders.timelines import (
    HERE,
    Details,
    FromStart,
    NextFirst,
    OtherTimelines,
    Rounds,
    Timelines,
)

Pages: TypeAlias = dict[str, Route]

KINDS = ["plain", "named"]
BUSY = Reply(b"busy", headers={"Content-Type": "text/plain"})
BY_HAND = {
    "ADDONS": {},
    "DUPEFILTER_CLASS": "scrapy_valkey_dedup.DupeFilter",
    "DOWNLOADER_MIDDLEWARES": {"scrapy_valkey_dedup.RequestDedupMiddleware": 10},
    "SPIDER_MIDDLEWARES": {"scrapy_valkey_dedup.RequestDedupMiddleware": 10},
}
"""The middleware without the item pipeline."""


@pytest.fixture
def site(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[Readings]:
    """A site and crawls of it; at the end the ledger has no claim and no heartbeat."""
    yield from opened(valkey.url, namespace, tmp_path)


def small(name: str, count: int = 30) -> Pages:
    """A timeline with pages of five posts; six pages by default."""
    return timeline(name, names(name, count), 5)


def both(read: int) -> dict[str, int]:
    """The number of pages that were read of the plain timeline, and of the named one."""
    return dict.fromkeys(KINDS, read)


def read(site: Readings, mode: str = "alone", **changes: Any) -> Run:
    """Reads the timelines "plain" and "named" to their ends."""
    return site.crawl(Timelines, mode, **{"timelines": ["/plain", "/named"], **changes})


def once(*shown: list[str]) -> Counter[str]:
    """Each of the posts once."""
    return Counter(itertools.chain(*shown))


# -- how far a reading goes ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["alone", "job"])
def test_only_what_is_new_is_read(site: Readings, mode: str) -> None:
    """After a full reading, 30 new posts cost two or three of 40 pages; no news cost one."""
    site.show(*(timeline(kind, names(kind, 1000)) for kind in KINDS))
    assert pages_read(read(site, mode)) == both(40)
    site.show(*(timeline(kind, names(kind, 1030)) for kind in KINDS))
    run = read(site, mode)
    assert all(pages in (2, 3) for pages in pages_read(run).values())
    assert number(run, "requests/not_new") == 2
    assert site.stored == once(*(names(kind, 1030) for kind in KINDS))
    run = read(site, mode, looks=False)
    assert pages_read(run) == both(1)


@dataclass
class Case:
    """One timeline in three readings, plain and named."""

    name: str
    sites: tuple[Callable[[Pages], Pages], ...]
    """The pages that it shows, reading by reading. Made of a timeline of six pages."""
    plain: tuple[int, int, int]
    named: tuple[int, int, int]
    """How many pages are read, run by run."""
    loses: bool = False
    """Whether the plain one loses posts; a named one never does."""

    def timelines(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Both of its timelines, with how many of their pages are read."""
        path = self.name.replace(" ", "-").replace(",", "")
        return [(f"plain-{path}", self.plain), (f"named-{path}", self.named)]


def whole(pages: Pages) -> Pages:
    return pages


def instead(position: int, *replies: Route) -> Callable[[Pages], Pages]:
    """Shows something else instead of a page (0 is the newest), and then the page."""

    def shown(pages: Pages) -> Pages:
        path = list(pages)[position]
        then = pages[path]
        return pages | {path: replies[0] if len(replies) == 1 else [*replies, then]}

    return shown


def at(position: int, **changes: Any) -> Callable[[Pages], Pages]:
    """A page with some values changed."""

    def shown(pages: Pages) -> Pages:
        path = list(pages)[position]
        return pages | {path: changed(pages[path], **changes)}

    return shown


def each(change: Callable[[list[Any]], list[Any]], *positions: int) -> Callable[[Pages], Pages]:
    """Some pages, or all, with other posts."""

    def shown(pages: Pages) -> Pages:
        chosen = [list(pages)[position] for position in positions] or list(pages)
        listed = {path: change(page_of(pages[path])["posts"]) for path in chosen}
        return pages | {path: changed(pages[path], posts=listed[path]) for path in chosen}

    return shown


def then(*changes: Callable[[Pages], Pages]) -> Callable[[Pages], Pages]:
    """Several of these, one after the other."""

    def shown(pages: Pages) -> Pages:
        for change in changes:
            pages = change(pages)
        return pages

    return shown


def kind_of(fate: str) -> Callable[[list[Any]], list[Any]]:
    """The first of the posts meets a fate in the pipelines."""
    return lambda listed: [listed[0] | {"fate": fate}, *listed[1:]]


def lists(pages: Pages) -> Pages:
    """Pages without posts, which link to others with two posts each."""
    made: Pages = {}
    for path, page in pages.items():
        links = [f"/of{path}-{link}" for link in range(2)]
        made |= {path: changed(page, posts=[], links=links)} | {link: posts(link) for link in links}
    return made


def moved(pages: Pages) -> Pages:
    """The site flaps, and redirects from its third page."""
    paths = list(pages)
    name = paths[0]
    return pages | {
        paths[1]: flapping(2, pages[paths[1]]),
        paths[2]: redirect(f"{name}?moved"),
        f"{name}?moved": pages[paths[2]],
        paths[3]: flapping(1, pages[paths[3]], RESET),
    }


def without_identity(listed: list[Any]) -> list[Any]:
    return [{"text": "an advertisement"} for _ in listed]


def with_advertisement(listed: list[Any]) -> list[Any]:
    return [{"text": "an advertisement"}, *listed]


def skipped(listed: list[Any]) -> list[Any]:
    return [post | {"fate": "skip"} for post in listed]


def dropped_early(listed: list[Any]) -> list[Any]:
    return [post | {"fate": "drop_early"} for post in listed]


CASES = [
    Case("quiet", (whole,), (6, 1, 1), (6, 1, 1)),
    # What counts as new.
    Case("some without identity", (each(with_advertisement),), (6, 1, 1), (6, 1, 1)),
    Case("none with identity", (each(without_identity, 0),), (6, 2, 2), (6, 2, 2)),
    Case(
        "some dropped early", (each(lambda p: dropped_early(p[:2]) + p[2:]),), (6, 1, 1), (6, 1, 1)
    ),
    Case("all dropped early", (each(dropped_early, 0),), (6, 2, 2), (6, 2, 2)),
    Case("a post dropped by choice", (each(kind_of("drop"), 0),), (6, 2, 2), (6, 1, 1)),
    Case("all dropped by choice", (each(kind_of("drop")),), (6, 6, 6), (6, 1, 1)),
    Case("a post that never can be stored", (each(kind_of("refuse"), 0),), (6, 2, 2), (6, 6, 6)),
    # What says nothing about the pages below.
    Case("an empty page", (at(1, posts=[]),), (6, 1, 1), (6, 1, 1)),
    Case("an empty start", (at(0, posts=[]), whole), (6, 2, 1), (6, 2, 1)),
    Case("a page of which the spider skips all", (each(skipped, 1),), (6, 1, 1), (6, 1, 1)),
    Case("lists", (lists,), (6, 6, 6), (6, 6, 6)),
    Case("a callback fails later", (whole, at(0, fail=True), whole), (6, 2, 1), (6, 2, 1)),
    # What leaves a reading incomplete, so that the next one reads it all.
    Case("an error", (instead(2, error(404)), whole), (3, 1, 1), (3, 6, 1), loses=True),
    Case("an error at the start", (instead(0, error(404)), whole), (1, 6, 1), (1, 6, 1)),
    Case("a callback fails", (at(2, fail=True), whole), (6, 1, 1), (6, 6, 1)),
    Case("a storage fails", (each(kind_of("refuse"), 4), whole), (6, 1, 1), (6, 6, 1), loses=True),
    Case("busy for good", (instead(2, BUSY), whole), (5, 1, 1), (5, 6, 1), loses=True),
    Case(
        "busy, then an error",
        (then(instead(2, BUSY), instead(4, error(404))), whole),
        (5, 1, 1),
        (5, 6, 1),
        loses=True,
    ),
    # What does not.
    Case("flaps and redirects", (moved, whole), (10, 1, 1), (10, 1, 1)),
    Case("busy start", (instead(0, BUSY, BUSY), whole), (8, 1, 1), (8, 1, 1)),
    Case("busy page", (instead(3, BUSY, BUSY), whole), (8, 1, 1), (8, 1, 1)),
    Case("busy end", (instead(5, BUSY, BUSY), whole), (8, 1, 1), (8, 1, 1)),
]


@dataclass
class Story:
    """Three readings of all cases."""

    runs: list[Run]
    site: Readings


@pytest.fixture(scope="module", params=MODES)
def story(
    request: pytest.FixtureRequest, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """All cases, read three times in one mode."""
    mode = request.param
    directory = tmp_path_factory.mktemp("stories")
    pipelines = {f"{HERE}.DropsEarly": 50, f"{HERE}.Storage": 300}
    starts = [f"/{name}" for case in CASES for name, _ in case.timelines()]
    changes = {"timelines": starts, "ITEM_PIPELINES": pipelines, "RETRY_TIMES": 2}
    # Where tests are stolen from another worker, a worker may come to a mode twice.
    for site in opened(valkey.url, f"{directory.name}-{mode}", directory):
        runs = []
        for turn in range(3):
            for case in CASES:
                for name, _ in case.timelines():
                    site.show(case.sites[min(turn, len(case.sites) - 1)](small(name)))
            runs.append(site.crawl(Timelines, mode, **changes))
        yield Story(runs, site)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_how_far_readings_go(story: Story, case: Case) -> None:
    """Each timeline is read as far as needed, run by run."""
    for name, expected in case.timelines():
        found = tuple(pages_read(run).get(name, 0) for run in story.runs)
        assert (name, found) == (name, expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_readings_store(story: Story, case: Case) -> None:
    """Every post of a timeline is stored once; a plain one loses posts where the case says so."""
    (plain, _), (named, _) = case.timelines()
    stored = story.site.stored
    assert {post: stored[post] for post in shown(story.site, named)} == dict.fromkeys(
        shown(story.site, named), 1
    )
    assert (set(stored) >= shown(story.site, plain)) == (not case.loses)


def shown(site: Readings, name: str) -> set[str]:
    """The posts of a timeline that can be stored, down to a page that is marked as the end."""
    found: set[str] = set()
    path = f"/{name}"
    while path:
        route = site.web.routes[path]
        reply = route[-1] if isinstance(route, list) else route
        assert isinstance(reply, Reply)
        if reply.status == 302:
            path = reply.headers["Location"]
            continue
        page = page_of(reply)
        listed = [post for post in page["posts"] if "fate" not in post]
        found |= {post["post_id"] for post in listed if "post_id" in post} | set(page["links"])
        path = page.get("older")
    return found


def test_marked_duplicates_are_not_new(site: Readings) -> None:
    """With ON_DUPLICATE = "mark" a duplicate goes to the storage, but no next page is sent."""
    mark = {"VALKEY_DEDUP_ON_DUPLICATE": "mark"}
    site.show(small("plain"), small("named"))
    assert pages_read(read(site, **mark)) == both(6)
    run = read(site, **mark)
    assert pages_read(run) == both(1)
    assert run.posts == once(*(names(kind, 30)[:5] for kind in KINDS))


def test_posts_in_flight_at_another_run_are_new(site: Readings) -> None:
    """It is unknown whether another run stores its posts, so reading goes on."""
    site.show(small("plain"), small("named"))
    read(site)
    site.show(small("plain", 31), small("named", 31))
    held = {"hold": ["plain-30", "named-30"], "VALKEY_DEDUP_WAIT": 1}  # so it beats often
    holder = site.start(Timelines, timelines=["/plain", "/named"], **held)
    wait_until((Path(holder.job.directory) / "holding").exists)
    run = read(site, VALKEY_DEDUP_WAIT=0)
    assert number(run, "items/in_flight") == 2
    assert pages_read(run) == both(2)
    (Path(holder.job.directory) / "go").touch()
    holder.wait()
    assert site.stored == once(names("plain", 31), names("named", 31))


def test_without_valkey_timelines_are_read_to_the_end(site: Readings) -> None:
    """During an outage everything is new, and nothing was met."""
    site.show(small("plain"), small("named"))
    away = {"VALKEY_DEDUP_URL": f"valkey://127.0.0.1:{free_port()}", "VALKEY_DEDUP_TIMEOUT": 0.2}
    assert pages_read(read(site)) == both(6)
    assert pages_read(read(site, **away)) == both(6)
    assert pages_read(read(site)) == both(1)


def test_without_the_item_pipeline_timelines_are_read_to_the_end(site: Readings) -> None:
    """Without the item pipeline it is unknown whether a post is new, so all pages are read."""
    site.show(small("plain"), small("named"))
    for _ in range(2):
        assert pages_read(read(site, "job", **BY_HAND)) == both(6)


def test_from_start_pages_are_sent(site: Readings) -> None:
    """A request that comes from no page is sent, whatever its options are."""
    pages = small("plain") | small("named")
    site.show(pages)
    for _ in range(2):
        assert pages_read(site.crawl(FromStart, timelines=list(pages))) == both(6)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["new", ["if_new"]])
def test_an_unknown_value_is_named_and_ignored(site: Readings, value: Any) -> None:
    """An unknown value of ``dedup`` is ignored; one warning names it."""
    site.show(each_page(small("plain"), options={"dedup": value}))
    for _ in range(2):
        run = read(site, timelines=["/plain"])
        assert pages_read(run) == {"plain": 6}
        assert run.log.count("is ignored") == 1
        request = f"<GET {site.web.url}/plain?below=plain-25>"
        assert f"meta['dedup'] = {value!r} of {request} is ignored" in run.log
        assert "set it to True, False or 'if_new'" in run.log


def each_page(pages: Pages, **changes: Any) -> Pages:
    """All pages with some values changed."""
    return {path: changed(page, **changes) for path, page in pages.items()}


def test_a_timeline_needs_a_text_for_a_name(site: Readings) -> None:
    """A name that is not a text is ignored; one warning says so."""
    names_of_none = [7, "", ["a"], {"a": 1}]
    starts = [f"/options-{index}" for index in range(len(names_of_none))]
    for start, name in zip(starts, names_of_none, strict=True):
        options = {"dedup": "if_new", "dedup_timeline": name}
        site.show(each_page(small(start[1:]), options=options))
    for pages in (6, 1):
        run = read(site, timelines=starts)
        assert pages_read(run) == {start[1:]: pages for start in starts}
        assert run.log.count("is ignored") == 1
    run = read(site, timelines=starts[:1])
    assert "meta['dedup_timeline'] = 7 of <GET" in run.log
    assert "set it to a text that names the timeline" in run.log


OPTIONS = [
    # The options, and how many pages the second run reads.
    ({"dedup": True}, 6),
    ({"dedup": None}, 6),
    ({"dedup": False}, 6),
    ({"dedup_timeline": "x"}, 6),  # a name alone is no option
    ({"dedup": True, "dedup_timeline": "x"}, 6),
    ({"dedup": "if_new", "dedup_timeline": None}, 1),
    *(
        ({"dedup": "if_new", "dedup_timeline": name}, 1)
        for name in ("}:{b", "\udc80", "\0", "n" * 10_000, " ", "a\nb", "Ünï")
    ),
]


def test_known_values(site: Readings) -> None:
    """Only "if_new" reads less; any text can name a timeline. There is no warning."""
    starts = []
    for index, (options, _) in enumerate(OPTIONS):
        starts.append(f"/options-{index}")
        site.show(each_page(small(f"options-{index}"), options=options))
    for run_number in range(2):
        run = read(site, "job", timelines=starts)  # where all options mean something
        expected = [pages if run_number else 6 for _, pages in OPTIONS]
        assert [pages_read(run)[start[1:]] for start in starts] == expected
        assert "WARNING" not in run.log


# -- named timelines: nothing is lost --------------------------------------------------------------

QUICK = {"VALKEY_DEDUP_LEASE": 1}
"""A dead run's posts are free after a second."""


def held(pages: Pages, position: int, go: Event) -> Pages:
    """No reading comes by this page before the test says so."""
    path = list(pages)[position]
    return pages | {path: replace(pages[path], until=go)}


def read_named(site: Readings, mode: str = "alone", **changes: Any) -> int:
    """Reads the timeline "named" to its end; returns how many of its pages."""
    return pages_read(read(site, mode, **{"timelines": ["/named"], **changes}))["named"]


def test_after_a_killed_reading_all_is_read(site: Readings) -> None:
    """After SIGKILL at page 10 the next reading goes to the end, and the one after does not."""
    go = Event()
    site.show(held(timeline("named", names("named", 1000), delay=0.01), 15, go))
    killed = site.start(Timelines, timelines=["/named"], **QUICK)
    wait_until(lambda: site.web.served.total() >= 10)
    killed.kill()
    go.set()
    assert site.web.served.total() < 20
    assert read_named(site, **QUICK) == 40
    assert set(site.stored) == set(names("named", 1000))
    site.show(timeline("named", names("named", 1030)))
    assert read_named(site, **QUICK) in (2, 3)
    assert set(site.stored) == set(names("named", 1030))


def test_a_gap_that_a_killed_reading_left_is_closed(site: Readings) -> None:
    """After a kill among the news, the next run reads to where the last complete one began."""
    site.show(timeline("named", names("named", 500)))
    read_named(site)
    go = Event()
    site.show(held(timeline("named", names("named", 800), delay=0.02), 8, go))
    killed = site.start(Timelines, timelines=["/named"], **QUICK)
    wait_until(lambda: site.web.served.total() >= 20 + 4)
    killed.kill()
    go.set()
    assert read_named(site, **QUICK) == 13
    assert set(site.stored) == set(names("named", 800))


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_overlapping_timelines_lose_nothing(site: Readings, mode: str) -> None:
    """Three timelines that share posts are read by three runs at once, and again after news."""
    starts = ["/named-0", "/named-1", "/named-2"]
    for count in (12, 15):
        for index, start in enumerate(starts):
            # In turn: ten posts of its own, and twice ten that it shares with one of the others.
            blocks = [(index, turn % 3, (turn + 1) % 3) for turn in range(count)]
            listed = [
                f"{start[1:] if own not in shared else 'shared'}-{turn}-{post}"
                for turn, (own, *shared) in reversed(list(enumerate(blocks)))
                for post in range(10)
            ]
            site.show(timeline(start[1:], listed, 10))
        job = {"VALKEY_DEDUP_JOB": f"job-{count}"} if mode == "job" else {}
        runs = [site.start(Timelines, mode, timelines=[start], **job) for start in starts]
        for run in runs:
            run.wait()
        assert site.stored == once(sorted(shown_by(site, starts)))


def shown_by(site: Readings, starts: list[str]) -> set[str]:
    """The posts of some timelines."""
    return set().union(*(shown(site, start[1:]) for start in starts))


def test_what_others_have_stored_ends_no_reading(site: Readings) -> None:
    """Posts that were met in another timeline were not met here."""
    listed = names("named", 30)
    site.show(timeline("named-b", listed[5:10], 5), small("named"))
    assert pages_read(read(site, timelines=["/named-b"])) == {"named-b": 1}
    assert read_named(site) == 6
    assert site.stored == once(listed)


@pytest.mark.parametrize("confirm", ["manual", "exported"])
def test_a_reading_counts_when_its_posts_are_stored(
    site: Readings, tmp_path: Path, confirm: str
) -> None:
    """A post that is not stored makes the reading incomplete, however late that is known."""
    storage = "ManualStorage" if confirm == "manual" else "Storage"
    changes: dict[str, Any] = {
        "VALKEY_DEDUP_CONFIRM": confirm,
        "ITEM_PIPELINES": {f"{HERE}.{storage}": 300},
        "FEEDS": {str(tmp_path / "feed.jl"): {"format": "any"}},
        "FEED_EXPORTERS": {"any": "scrapy.exporters.JsonLinesItemExporter"},
    }
    fault: dict[str, Any] = {"refuse": names("named", 30)[22:23]}
    if confirm == "exported":
        fault = {"FEED_EXPORTERS": {"any": f"{FEEDS}.UnfinishedExporter"}}
    site.show(small("named"))
    assert read_named(site, **changes | fault) == 6
    assert read_named(site, **changes) == 6
    assert read_named(site, **changes) == 1


def test_the_order_of_a_callbacks_output_does_not_matter(site: Readings) -> None:
    """A coroutine that yields the next page before the posts reads as far as any other."""
    changes = {"timelines": ["/named", "/plain"]}
    site.show(small("plain"), small("named"))
    for pages in (6, 1):
        assert pages_read(site.crawl(NextFirst, "job", **changes)) == both(pages)


@pytest.mark.parametrize("mode", ["alone", "job"])
def test_a_copied_meta_makes_no_page_of_a_timeline(site: Readings, mode: str) -> None:
    """Other requests with a copy of a page's meta are not part of the reading, and may fail."""
    pages = small("named")
    site.show(pages, {f"/details?{post}": posts() for post in names("named", 29)})
    run = site.crawl(Details, mode, timelines=["/named"], looks=False)
    assert pages_read(run) == {"named": 6, "details": 30}  # of which one is missing
    again = site.crawl(Details, mode, timelines=["/named"], looks=False)
    assert pages_read(again)["named"] == 1


def test_a_timeline_that_links_back_ends(site: Readings) -> None:
    """Scrapy's filter drops a next page that was read already; no post is lost."""
    for kind in KINDS:
        pages = small(kind)
        first, *_, last = pages
        site.show(pages | {last: changed(pages[last], older=f"{first}?below={kind}-25")})
    for _ in range(2):
        assert max(pages_read(read(site)).values()) <= 6
    assert site.stored == once(names("plain", 30), names("named", 30))


@pytest.mark.parametrize("mode", ["alone", "job"])
def test_a_reading_of_a_closed_spider_is_not_complete(site: Readings, mode: str) -> None:
    """After CloseSpider on page 3 the next reading reads all pages."""
    pages = small("named")
    third = list(pages)[2]
    site.show(pages | {third: changed(pages[third], close=True)})
    assert read_named(site, mode) in (3, 4)
    assert site.crawls[0].stats["finish_reason"] == "enough"
    site.show(pages)
    assert read_named(site, mode) == 6
    assert site.stored == once(names("named", 30))


@pytest.mark.parametrize("mode", ["alone", "job"])
def test_a_stopped_reading_is_resumed(site: Readings, tmp_path: Path, mode: str) -> None:
    """Stopped by SIGINT and resumed from its JOBDIR, it is read to its end."""
    changes = {"JOBDIR": str(tmp_path / "job"), "timelines": ["/plain", "/named"]}
    if mode == "job":
        changes["VALKEY_DEDUP_JOB"] = "one"
    site.show(*(timeline(kind, names(kind, 200), 5, delay=0.01) for kind in KINDS))
    for seen in (15, 30):
        run = site.start(Timelines, mode, **changes)
        wait_until(lambda seen=seen: site.web.served.total() >= seen)
        run.signal(signal.SIGINT)
        run.wait()
        assert set(site.stored) < set(names("plain", 200) + names("named", 200))
    site.crawl(Timelines, mode, **changes)
    assert site.stored == once(names("plain", 200), names("named", 200))


def test_each_spider_has_its_own_timelines(site: Readings) -> None:
    """Posts that one spider has met were not met by a spider with another name."""
    site.show(small("plain"), small("named"))
    read(site)
    run = site.crawl(OtherTimelines, timelines=["/plain", "/named"])
    assert pages_read(run) == {"plain": 1, "named": 6}


def test_large_pages_are_recognised(site: Readings) -> None:
    """With pages of 1,500 posts, only the first page is read again."""
    for count, pages in ((7500, 5), (7510, 2), (7510, 1)):
        site.show(timeline("named", names("named", count), 1500))
        assert read_named(site) == pages


def test_a_timeline_is_read_again_within_one_run(site: Readings) -> None:
    """A spider that reads in rounds reads no further than needed, each time."""
    run = site.start(Rounds, timelines=["/plain", "/named"], rounds=4)
    fetched = []
    for turn in range(4):
        count = 30 + 7 * turn
        site.show(*(small(kind, count) for kind in KINDS))
        before = site.web.served.total()
        (Path(run.job.directory) / f"go-{turn}").touch()
        wait_until(lambda count=count: len(run.posts) == 2 * count)
        wait_until(quiet(site))
        fetched.append(site.web.served.total() - before)
    run.wait()
    assert fetched[0] == 12
    assert max(fetched[1:]) <= 6
    assert site.stored == once(names("plain", 51), names("named", 51))


def quiet(site: Readings) -> Callable[[], bool]:
    """Whether nothing was requested for a while."""
    last = [site.web.served.total(), time.monotonic()]

    def look() -> bool:
        if site.web.served.total() != last[0]:
            last[:] = site.web.served.total(), time.monotonic()
        return time.monotonic() - last[1] > 0.3

    return look
