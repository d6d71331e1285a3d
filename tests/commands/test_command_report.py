"""`scrapy dedup report`: the numbers are those of the crawls, wherever they come from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from math import inf
from pathlib import Path
from time import time
from typing import Any

import pytest

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.commands.shared.reports.charts import sections
from scrapy_valkey_dedup.commands.shared.reports.gathering import Point, Report, forecast
from scrapy_valkey_dedup.commands.shared.reports.page import inert
from scrapy_valkey_dedup.commands.shared.reports.periods import DAY, HOUR, arranged, joined, starts
from scrapy_valkey_dedup.commands.shared.reports.stats_files import read_stats
from scrapy_valkey_dedup.commands.shared.reports.words import (
    duration,
    headline,
    number,
    percent,
    size,
)
from scrapy_valkey_dedup.commands.shared.status.buckets import Contents, Generation
from scrapy_valkey_dedup.commands.shared.status.state import LedgerState
from scrapy_valkey_dedup.ledger.history import COUNTERS, OTHERS, Record
from scrapy_valkey_dedup.ledger.ledger import Ledger
from tests.support.crawls.world import World
from tests.support.ledgers import in_ledger
from tests.support.processes.dedup_command import PATIENCE, Ended, dedup, environment, project
from tests.support.servers.site import pages_of
from tests.support.servers.standin import not_on_serverless

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "security.md"
OPERATIONS = (DOCS / "operations.md").read_text("utf-8")


@pytest.fixture
def here(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Path:
    """A project on the session's server."""
    return project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)


def report(here: Path, *given: str) -> tuple[Ended, str]:
    """How the command ended, and the page."""
    ended = dedup("report", "a.html", "--json", *given, directory=here)
    page = here / "a.html"
    return ended, page.read_text("utf-8") if page.exists() else ""


def data_of(page: str) -> Any:
    """The data of its charts."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(found)


def text_of(page: str) -> str:
    """What it says."""
    text = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", text))


def test_a_report_of_crawls(world: World, tmp_path: Path) -> None:
    """New, duplicate and stored posts, and pages, are the sums of the crawls' stats."""
    site = world.site(pages_of(range(50)))
    runs = [world.crawl(site) for _ in range(2)]
    here = project(
        tmp_path / "project", VALKEY_DEDUP_URL=world.url, VALKEY_DEDUP_NAMESPACE=world.namespace
    )
    ended, page = report(here)
    assert ended.code == 0, ended.err
    for counter, stat in (
        ("new", "dedup/items/new"),
        ("duplicate", "dedup/items/duplicate"),
        ("stored", "dedup/items/confirmed"),
        ("pages", "response_received_count"),
    ):
        assert ended.json[counter] == sum(run.get(stat, 0) for run in runs)
    data = data_of(page)
    assert data["new"]["unit"] == "hour"  # all that is known is of the last hours
    assert [sum(each["values"]) for each in data["dropped"]["series"]] == [50]
    assert "Posts remembered50 now." in text_of(page)
    assert "1 spider stored 50 posts and dropped 50 duplicates (50 %)." in text_of(page)
    assert "no outage in this time" in text_of(page).lower()


def test_an_empty_history(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """The page says what to do, and what is remembered all the same; no command is written to."""

    async def store(ledger: Ledger) -> None:
        await ledger.confirm_many([bytes([n]) * 16 for n in range(9)])

    in_ledger(valkey.url, namespace, store)
    ended, page = report(here)
    assert ended.code == 0, ended.err
    assert "run a spider" in ended.err
    assert "No history yet." in text_of(page)
    assert "--stats FILE" in text_of(page)
    assert "9 now." in text_of(page)
    assert valkey.ask("KEYS", f"vd1:{{{namespace}}}:history:*") == []


def stats_of(days_ago: float, **more: Any) -> dict[str, Any]:
    """Scrapy's stats of a run."""
    end = datetime.now(timezone.utc) - timedelta(days=days_ago)
    return {
        "start_time": str(end - timedelta(minutes=5)),
        "finish_time": end.isoformat().replace("+00:00", "Z"),
        "dedup/items/new": 5,
        "dedup/items/duplicate": 20,
        "dedup/items/confirmed": 4,
        "finish_reason": "finished",
        **more,
    }


def test_stats_from_files(tmp_path: Path) -> None:
    """Objects, lists and lines of them, with the spider beside or inside; without any ledger."""
    here = project(tmp_path)
    files = {
        "forum.json": json.dumps(stats_of(0.5)),
        "some.json": json.dumps([{"spider": "news", "stats": stats_of(n)} for n in (3, 8, 99)]),
        "more.jsonl": "\n".join(json.dumps(stats_of(n, spider="jobs")) for n in (2, 9)) + "\n\n",
    }
    for name, text in files.items():
        (here / name).write_text(text)
    ended, page = report(here, "--days", "20", "--stats", *files)
    assert ended.code == 0, ended.err
    assert "no ledger yet" in ended.err
    assert (ended.json["runs"], ended.json["stored"], ended.json["duplicate"]) == (5, 20, 100)
    series = {each["name"]: sum(each["values"]) for each in data_of(page)["new"]["series"]}
    assert series == {"forum": 5, "news": 10, "jobs": 10}
    assert "3 spiders stored 20 posts and dropped 100 duplicates (80 %)" in text_of(page)
    assert "The ledger was not asked" in text_of(page)


def test_the_extension_of_the_page(tmp_path: Path) -> None:
    """The one in docs/operations.md writes what `--stats` reads, with the run's last numbers."""
    (code,) = re.findall(r"```python\n(import json\n\nfrom scrapy.*?)```", OPERATIONS, re.DOTALL)
    (tmp_path / "posts.py").write_text(
        f"{code}\n\nimport scrapy\n\n\nclass Posts(scrapy.Spider):\n    name = 'posts'\n"
        "    custom_settings = {'EXTENSIONS': {'posts.StatsFile': 0}}\n\n"
        "    async def start(self):\n        yield {'post_id': 1}\n"
    )
    subprocess.run(
        [sys.executable, "-m", "scrapy", "runspider", "posts.py", "-s", "TELNETCONSOLE_ENABLED=0"],
        cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path)), check=True, timeout=PATIENCE,
    )  # fmt: skip
    (run,) = read_stats([str(tmp_path / "runs.jsonl")])
    assert run.spider == "posts"
    assert time() - 60 < run.end <= time()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "write a JSON object"),
        ("[1]", "run 1"),
        ('{"dedup/items/new": 1}', "'start_time' is missing"),
        ('{"start_time": "yesterday"}', "yesterday"),
        (None, "No such file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str | None, said: str) -> None:
    """With the name of the file, what is wrong and what is expected; no page is written."""
    here = project(tmp_path)
    if text is not None:
        (here / "runs.json").write_text(text)
    ended, page = report(here, "--stats", "runs.json")
    assert (ended.code, page) == (2, "")
    assert "--stats runs.json" in ended.err
    assert said in ended.err


def test_without_a_ledger(tmp_path: Path) -> None:
    """A server that does not answer is told, and an earlier page stays; so for a wrong use."""
    url = f"valkey://127.0.0.1:{free_port()}"
    here = project(tmp_path, VALKEY_DEDUP_URL=url, VALKEY_DEDUP_TIMEOUT=0.5)
    (here / "a.html").write_text("before")
    ended, page = report(here)
    assert (ended.code, page) == (2, "before")
    assert url in ended.err
    for given in (["--days", "0"], ["--days", "x"], ["--days", "401"]):
        assert "1 to 400" in report(here, *given)[0].err
    (here / "runs.json").write_text(json.dumps(stats_of(1)))
    ended = dedup("report", "no/such.html", "--stats", "runs.json", directory=here)
    assert ended.code == 2
    assert "cannot be written" in ended.err
    assert not list(here.glob(".*html*"))


@not_on_serverless("it makes users")
def test_what_a_reader_needs(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """A user who may only read, or a spider's: what they may not ask is left out."""
    text = PAGE.read_text("utf-8")
    for block in re.findall(r"```text\nACL SETUSER (?:reader|spider)(.*?)```", text, re.DOTALL):
        user = f"user-{namespace}-{len(block)}"
        rules = [each for each in block.split() if each not in ("on", ">PASSWORD")]
        valkey.ask("ACL", "SETUSER", user, "on", ">secret", *rules)
        url = valkey.url.replace("://", f"://{user}:secret@")
        in_ledger(valkey.url, namespace, add)
        ended, page = report(here, "--url", url)
        assert ended.code == 0, ended.err
        assert "secret" not in page + ended.err
        assert data_of(page)["new"]["series"][0]["values"][-1] >= 1


async def add(ledger: Ledger) -> None:
    """What a run writes."""
    await ledger.confirm_many([bytes([n]) * 16 for n in range(9)])
    await ledger.history.add("posts", [1] * len(COUNTERS), [0] * len(COUNTERS), time())


def test_a_trial_has_its_own(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """`--trial` shows what the runs of the trial have counted, and no others."""
    in_ledger(valkey.url, f"{namespace}+trial-x", add)
    assert report(here)[0].json["runs"] == 0
    assert report(here, "--trial", "x")[0].json["runs"] == 1


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (number(8200), "8,200"), (number(1_234_567), "1.23 million"), (number(0), "0"),
        (number(2.5e9), "2.5 billion"), (size(9_800_000), "9.8 MB"), (size(12), "12 B"),
        (size(262e6), "262 MB"),
        (duration(59), "59 seconds"), (duration(200), "3 minutes"), (duration(90_000), "25 hours"),
        (duration(4 * DAY), "4 days"), (percent(3, 4), "75 %"), (percent(0, 0), "0 %"),
        (percent(1, 1000), "less than 1 %"), (percent(999, 1000), "more than 99 %"),
    ],
)  # fmt: skip
def test_numbers_in_words(made: str, words: str) -> None:
    """As people read them; a part is never shown as nothing or as all."""
    assert made == words


def test_periods_are_whole_days_or_hours() -> None:
    """The last one is not over yet, and they follow one another without gaps."""
    now = 1_795_693_357.4
    for length, days in ((DAY, 30), (HOUR, 2)):
        found = starts(length, days, now)
        assert len(found) == days * DAY // length
        assert {later - one for one, later in pairwise(found)} == {length}
        assert found[-1] <= now < found[-1] + length


def test_the_forecast_lets_generations_end() -> None:
    """Posts come as before, and a generation's posts are gone when it ends; one day is needed."""
    now = 1_795_651_200.0  # midnight

    def known(days: int) -> Report:
        begin = int(now) - days * DAY
        counted = [(begin + n * DAY, "posts", {"runs": 1, "stored": 100}) for n in range(days + 1)]
        found = joined(counted[:-1])
        found[int(now)] = Record()
        periods = arranged(DAY, [each for each, *_ in counted], found)
        state = LedgerState("here", "posts")
        ends = [Generation(now + 5.1 * DAY, 600), Generation(inf, 400)]
        state.contents = {"posts": Contents(ends)}
        return Report("posts", now, periods, 30, state=state)

    def at(points: list[Point], day: float) -> int:
        return min(points, key=lambda point: abs(point.at - now - day * DAY)).posts

    points = forecast(known(12), Point(now, 1000), 90 * DAY)
    assert [at(points, day) for day in (0, 5, 6, 12)] == [1000, 1500, 1000, 1600]
    assert forecast(known(12), Point(now, 1000), 4 * DAY)[-1].at == now + 4 * DAY
    assert forecast(known(0), Point(now, 1000), None) == []


def test_spiders_without_a_line_of_their_own() -> None:
    """They come last, and are told as more; a spider has one colour in all charts."""
    names = {f"s{n}": {"runs": 1, "new": n, "duplicate": 99 - n} for n in range(9)}
    record = Record(None, {OTHERS: {"runs": 5, "new": 1000}, **names})
    report = Report("posts", DAY * 1.5, arranged(DAY, [DAY], {DAY: record}), 30)
    assert list(report.periods.by_spider)[-1] == OTHERS
    assert "more than 9 spiders" in "".join(text for text, _ in headline(report))
    _, data = sections(report)
    new, gone = ([each["name"] for each in data[name]["series"]] for name in ("new", "dropped"))
    assert new == gone
    assert new[-1] == "all others"
    assert data["new"]["series"][-1]["values"] == [1000 + sum(range(6, 9))]


def test_the_table_of_spiders_is_bounded() -> None:
    """Names that change daily: a hundred rows for the most active, one for the sum of the rest."""
    names = {f"posts-{n}": {"runs": 1, "new": n} for n in range(400)}
    record = Record(None, names)
    report = Report("posts", DAY * 1.5, arranged(DAY, [DAY], {DAY: record}), 30)
    (table,) = (each for each in sections(report)[0] if each.name == "spiders")
    assert [row[0] for row in table.rows[:2]] == ["posts-399", "posts-398"]
    assert len(table.rows) == 101
    assert table.rows[-1][:3] == ["further spiders", "300", f"{sum(range(300)):,}"]
    assert len(report.periods.most_active(400)) == 400


def test_data_cannot_end_its_element() -> None:
    """Whatever a name has in it, the data hold no sign of HTML and are the same when read."""
    names = ["</script><script>alert(1)", "<!--", "]]>", "&lt;", "\u2028", "\ud800", "{{script}}"]
    made = inert(names)
    assert not set(made) & set("<>&\u2028")
    assert json.loads(made) == names
