"""REQUESTS = "stored": a page is not fetched again if all of its posts are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.ledger.keys import namespace_tag
from tests.support.crawls.requests import Run
from tests.support.crawls.timelines import Readings, changed, number, opened
from tests.support.ledgers import in_ledger
from tests.support.patience import wait_until
from tests.support.servers.web import Route, error, flapping, posts, redirect
from tests.support.spiders.feeds import FEEDS
from tests.support.spiders.timelines import HERE, News, OtherNews

LISTS, EACH = 4, 10
LIST_PAGES = {"/list", *(f"/list/{number}" for number in range(LISTS))}
POSTS = [str(post) for post in range(LISTS * EACH)]
POST_PAGES = {f"/post/{post}" for post in POSTS}
STORED = {"VALKEY_DEDUP_REQUESTS": "stored"}


@pytest.fixture
def site(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[Readings]:
    """A site and crawls of it; at the end the ledger has no claim and no heartbeat."""
    yield from opened(valkey.url, namespace, tmp_path)


def archive() -> dict[str, Route]:
    """A list of lists, each of which links to ten pages with a post each."""
    pages: dict[str, Route] = {"/list": posts(links=sorted(LIST_PAGES - {"/list"}))}
    for index in range(LISTS):
        listed = POSTS[index * EACH : (index + 1) * EACH]
        pages[f"/list/{index}"] = posts(links=[f"/post/{post}" for post in listed])
    return pages | {f"/post/{post}": posts(post) for post in POSTS}


def news(*pages: Route) -> dict[str, Route]:
    """A list of pages, by number."""
    made = {f"/{index}": page for index, page in enumerate(pages)}
    return {"/list": posts(links=sorted(made))} | made


def crawl(site: Readings, spider: type[News] = News, **changes: Any) -> set[str]:
    """Runs a crawl to its end; returns the paths of the pages that it fetched, each once."""
    run = site.crawl(spider, "stored", **changes)
    assert set(run.served.values()) == {1}
    return set(run.served)


# -- what is fetched -------------------------------------------------------------------------------


def test_only_what_is_not_stored_is_fetched(site: Readings) -> None:
    """Run 1 stores half, run 2 fetches the pages of the other half, run 3 no page of a post."""
    site.show(archive())
    assert crawl(site, refuse=POSTS[::2]) == LIST_PAGES | POST_PAGES
    assert site.stored == Counter(POSTS[1::2])
    assert crawl(site) == LIST_PAGES | {f"/post/{post}" for post in POSTS[::2]}
    assert site.stored == Counter(POSTS)
    assert crawl(site) == LIST_PAGES
    assert site.stored == Counter(POSTS)


def test_what_is_new_is_fetched(site: Readings) -> None:
    """A page that is new on a list is fetched; the others are not."""
    site.show(news(posts("a"), posts("b")))
    assert crawl(site) == {"/list", "/0", "/1"}
    site.show(news(posts("a"), posts("b"), posts("c")))
    assert crawl(site) == {"/list", "/2"}


FIRST = {
    # The items of a page, and whether the page is remembered.
    "one post": (posts("one"), True),
    "some posts": (posts("x", "y", "z"), True),
    "the same post twice": (posts("twice", "twice"), True),
    "a post that is stored by another page": (posts("one"), True),
    "no post": (posts(), False),
    "a post that is dropped": (posts({"post_id": "d", "fate": "drop"}), False),
    "a post that is dropped early": (posts({"post_id": "e", "fate": "drop_early"}), False),
    "a post that fails": (posts({"post_id": "f", "fate": "refuse"}), False),
    "one of two dropped": (posts("g", {"post_id": "h", "fate": "drop"}), False),
    "one of two fails": (posts("i", {"post_id": "j", "fate": "refuse"}), False),
    "a post without an identity": (posts({"text": "an advertisement"}), True),
    "a callback that fails": (changed(posts("k"), fail=True), False),
    "a redirect": (redirect("/moved"), True),
    "a redirect to a page without posts": (redirect("/empty"), False),
    "a site that flaps": (flapping(1, posts("l")), True),
    "an error": (error(404), False),
}


@pytest.fixture(scope="module")
def second(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The second of two crawls of all these pages."""
    pipelines = {f"{HERE}.DropsEarly": 50, f"{HERE}.Storage": 300}
    directory = tmp_path_factory.mktemp("incremental")
    # Where tests are stolen from another worker, a worker may come here twice.
    for site in opened(valkey.url, directory.name, directory):
        site.show(news(*(page for page, _ in FIRST.values())))
        site.show({"/moved": posts("moved"), "/empty": posts()})
        for _ in range(2):
            run = site.crawl(News, "stored", ITEM_PIPELINES=pipelines)
        yield run


@pytest.mark.parametrize(("index", "case"), list(enumerate(FIRST)), ids=FIRST)
def test_what_is_remembered(second: Run, index: int, case: str) -> None:
    """A page with posts that are all stored is remembered, no other is."""
    _, remembered = FIRST[case]
    assert (f"/{index}" not in second.served) == remembered


def test_what_another_run_stores_is_not_known(site: Readings) -> None:
    """A page whose post another run is storing at the moment is fetched again."""
    site.show({"/a": posts("shared"), "/b": posts("shared", "other")})
    beats_often = {"VALKEY_DEDUP_WAIT": 1}
    holder = site.start(News, "stored", starts=["/a"], hold=["shared"], **beats_often)
    wait_until((Path(holder.job.directory) / "holding").exists)
    run = site.crawl(News, "stored", starts=["/b"], VALKEY_DEDUP_WAIT=0)
    assert number(run, "items/in_flight") == 1
    (Path(holder.job.directory) / "go").touch()
    holder.wait()
    assert crawl(site, starts=["/a", "/b"]) == {"/b"}
    assert not site.crawl(News, "stored", starts=["/a", "/b"]).served
    assert site.stored == Counter(["shared", "other"])


def test_of_two_runs_at_once_one_fetches_a_page(site: Readings) -> None:
    """Runs of one spider share the pages, as workers do."""
    site.show(archive())
    runs = [site.start(News, "stored") for _ in range(2)]
    for run in runs:
        run.wait()
    assert {path: site.web.served[path] for path in POST_PAGES} == dict.fromkeys(POST_PAGES, 1)
    assert site.stored == Counter(POSTS)


def test_a_killed_run_remembers_what_it_has_stored(
    site: Readings, valkey: ValkeyServer, namespace: str
) -> None:
    """After SIGKILL the next run fetches the rest, and stores what is not stored."""

    def pages() -> int:
        found = in_ledger(valkey.url, namespace, lambda ledger: ledger.count_posts(), shelf="pages")
        return int(found)

    site.show(archive())
    run = site.start(
        News, "stored", VALKEY_DEDUP_LEASE=1, DOWNLOAD_DELAY=0.01, RANDOMIZE_DOWNLOAD_DELAY=False
    )
    wait_until(lambda: pages() > len(POSTS) // 3)
    site.kill(run)
    assert len(crawl(site, VALKEY_DEDUP_LEASE=1)) < len(LIST_PAGES | POST_PAGES) - len(POSTS) // 3
    assert set(site.stored) == set(POSTS)
    assert crawl(site) == LIST_PAGES


# -- which pages are meant -------------------------------------------------------------------------


def test_another_spider_fetches_for_itself(site: Readings) -> None:
    """Another spider fetches the page for its own items, and stores no post twice."""
    site.show(archive())
    crawl(site)
    assert crawl(site, OtherNews) == LIST_PAGES | POST_PAGES
    assert crawl(site, OtherNews) == LIST_PAGES
    assert site.stored == Counter(POSTS)


@pytest.mark.parametrize("match", [[r"/post/\d$", "nowhere"], '["/post/[0-9]$"]'])
def test_only_pages_that_match_are_remembered(site: Readings, match: Any) -> None:
    """REQUESTS_MATCH names the pages that may be skipped."""
    site.show(archive())
    crawl(site)
    few = {f"/post/{post}" for post in range(10)}
    assert crawl(site, VALKEY_DEDUP_REQUESTS_MATCH=match) == LIST_PAGES | POST_PAGES - few


def test_an_exempt_request_is_sent(site: Readings) -> None:
    """With meta={"dedup": False} a page is fetched in each run, and not remembered."""
    site.show(archive())
    exempt = ["/post/1", "/post/2"]
    crawl(site, exempt=exempt)
    assert crawl(site, exempt=exempt) == LIST_PAGES | set(exempt)
    assert crawl(site) == LIST_PAGES | set(exempt)
    assert crawl(site, exempt=exempt) == LIST_PAGES | set(exempt)


def test_a_page_of_posts_and_links_is_remembered(site: Readings) -> None:
    """A page with posts and links is not fetched again once its posts are stored."""
    site.show({"/list": posts("a", links=["/1"]), "/1": posts("b")})
    assert crawl(site) == {"/list", "/1"}
    run = site.crawl(News, "stored")
    assert not run.served
    assert run.stats["dupefilter/filtered"] == 1
    assert run.stats["finish_reason"] == "finished"


# -- how long --------------------------------------------------------------------------------------


def test_pages_are_forgotten_after_their_retention(
    site: Readings, valkey: ValkeyServer, namespace: str
) -> None:
    """After REQUEST_RETENTION, pages are fetched once more; posts are remembered for longer."""
    site.show(archive())
    run = site.crawl(News, "stored", VALKEY_DEDUP_REQUEST_RETENTION=1)
    assert run.stats["dedup/requests/confirmed"] == len(POST_PAGES)
    with valkey.client() as raw:
        pattern = f"vd1:{{{namespace_tag(namespace)}+pages:*"
        wait_until(lambda: not list(raw.scan_iter(pattern, count=100_000)))
    assert crawl(site, VALKEY_DEDUP_REQUEST_RETENTION="1w") == LIST_PAGES | POST_PAGES
    assert crawl(site) == LIST_PAGES
    assert site.stored == Counter(POSTS)


def test_pages_may_be_remembered_forever(
    site: Readings, valkey: ValkeyServer, namespace: str
) -> None:
    """With REQUEST_RETENTION = None, pages are remembered forever."""
    site.show(archive())
    crawl(site, VALKEY_DEDUP_REQUEST_RETENTION=None, VALKEY_DEDUP_RETENTION="1h")
    with valkey.client() as raw:
        pages = list(raw.scan_iter(f"vd1:{{{namespace_tag(namespace)}+pages:*", count=100_000))
        held = list(raw.scan_iter(f"vd1:{{{namespace_tag(namespace)}:??}}*", count=100_000))
        assert {raw.ttl(key) for key in pages} == {-1}
        assert all(0 < raw.ttl(key) <= 2 * 3600 for key in held)


# -- what counts as stored -------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["well", "badly"])
def test_with_exported_the_feed_decides(site: Readings, tmp_path: Path, outcome: str) -> None:
    """With CONFIRM = "exported", pages are remembered if the feed was stored."""
    exporter = "scrapy.exporters.JsonLinesItemExporter"
    if outcome == "badly":
        exporter = f"{FEEDS}.UnfinishedExporter"
    feed = {
        "VALKEY_DEDUP_CONFIRM": "exported",
        "FEEDS": {str(tmp_path / "feed.jl"): {"format": "any"}},
        "FEED_EXPORTERS": {"any": exporter},
    }
    site.show(archive())
    crawl(site, **feed)
    assert crawl(site, **feed) == LIST_PAGES | (POST_PAGES if outcome == "badly" else set())


@pytest.mark.parametrize("confirm", ["exported", "manual"])
def test_a_twin_is_stored_when_the_first_is(site: Readings, tmp_path: Path, confirm: str) -> None:
    """A page whose post another page has, too, is not remembered before the post is stored."""
    changes: dict[str, Any] = {
        "VALKEY_DEDUP_CONFIRM": confirm,
        "VALKEY_DEDUP_WAIT": 0.1,
        "ITEM_PIPELINES": {f"{HERE}.{'ManualStorage' if confirm == 'manual' else 'Storage'}": 300},
        "FEEDS": {str(tmp_path / "feed.jl"): {"format": "any"}},
    }
    exporter = {"FEED_EXPORTERS": {"any": "scrapy.exporters.JsonLinesItemExporter"}}
    broken = {"FEED_EXPORTERS": {"any": f"{FEEDS}.UnfinishedExporter"}, "refuse": ["a", "b"]}
    site.show(news(posts("a"), posts("a"), posts("b", "b")))
    pages = {"/list", "/0", "/1", "/2"}
    assert crawl(site, **changes, **broken) == pages
    assert crawl(site, **changes, **exporter) == pages
    if confirm == "exported":  # instead, a twin that was waited for until the deadline is in flight
        assert crawl(site, **changes, **exporter) == {"/list"}


def test_with_manual_the_storage_decides(site: Readings) -> None:
    """With CONFIRM = "manual" a page is remembered if its posts were confirmed, however late."""
    manual = {
        "VALKEY_DEDUP_CONFIRM": "manual",
        "ITEM_PIPELINES": {f"{HERE}.ManualStorage": 300},
    }
    site.show(archive())
    assert crawl(site, refuse=POSTS[:10], **manual) == LIST_PAGES | POST_PAGES
    assert crawl(site, **manual) == LIST_PAGES | {f"/post/{post}" for post in POSTS[:10]}
    assert crawl(site, **manual) == LIST_PAGES
    assert site.stored == Counter(POSTS)


def test_with_claimed_all_counts_as_stored(site: Readings) -> None:
    """With CONFIRM = "claimed" a post is remembered before it is stored, but a page is not."""
    site.show(archive())
    crawl(site, VALKEY_DEDUP_CONFIRM="claimed", refuse=POSTS[:10])
    fetched = crawl(site, VALKEY_DEDUP_CONFIRM="claimed")
    assert fetched == LIST_PAGES | {f"/post/{post}" for post in POSTS[:10]}
    assert crawl(site) == LIST_PAGES


def test_marked_duplicates_are_stored(site: Readings) -> None:
    """With ON_DUPLICATE = "mark" a page of duplicates is remembered."""
    site.show(archive())
    crawl(site, OtherNews)
    assert crawl(site, VALKEY_DEDUP_ON_DUPLICATE="mark") == LIST_PAGES | POST_PAGES
    assert crawl(site) == LIST_PAGES


def test_without_valkey_all_is_fetched(site: Readings) -> None:
    """During an outage every page is fetched, and the crawl ends."""
    site.show(archive())
    crawl(site)
    away = {"VALKEY_DEDUP_URL": f"valkey://127.0.0.1:{free_port()}", "VALKEY_DEDUP_TIMEOUT": 0.2}
    assert crawl(site, **away) == LIST_PAGES | POST_PAGES
    assert crawl(site) == LIST_PAGES


def test_the_stats_tell(site: Readings) -> None:
    """Pages that were skipped are counted, and logged at the end."""
    site.show(archive())
    site.crawl(News, "stored", refuse=POSTS[::2])
    run = site.crawl(News, "stored")
    found = {name: number(run, f"requests/{name}") for name in ("new", "duplicate", "confirmed")}
    pages = len(LIST_PAGES) + len(POSTS) // 2
    assert found == {"new": pages, "duplicate": len(POSTS) // 2, "confirmed": len(POSTS) // 2}
    assert number(run, "requests/released") == len(LIST_PAGES)
    assert run.stats["dupefilter/filtered"] == len(POSTS) // 2
    assert f"{len(POSTS) // 2} known and not fetched" in run.log.splitlines()[-1]
