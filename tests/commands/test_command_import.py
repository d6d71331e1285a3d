"""`scrapy dedup import`: what is stored already is remembered, and no spider stores it again."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Any

import pytest
import scrapy
from scrapy import exporters
from scrapy.settings import Settings

from bench.servers import FaultyProxy, ValkeyServer, free_port
from scrapy_valkey_dedup.commands.shared.imports.importing import Import
from scrapy_valkey_dedup.commands.shared.project import project_of
from scrapy_valkey_dedup.commands.shared.records.identification import (
    IdentifiedBlock,
    RecordIdentifier,
)
from scrapy_valkey_dedup.commands.shared.records.item_builder import ItemBuilder
from scrapy_valkey_dedup.commands.shared.records.record import UnreadableRecord
from scrapy_valkey_dedup.commands.shared.records.sources import Block, source_for
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import LedgerRefusedError
from tests.support import patience
from tests.support.crawls.world import World
from tests.support.ledgers import in_ledger
from tests.support.patience import wait_until
from tests.support.processes.dedup_command import (
    Command,
    dedup,
    environment,
    key_of_post,
    on_terminal,
    project,
    words,
)
from tests.support.servers.embedded import is_free
from tests.support.servers.site import pages_of
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("they make users, and look at all keys")

POST = ("--spider", "forum", "--item", "posts.items.Post")
FIELDS = '{"*": {"fields": ["post_id"], "kind": "Post"}}'
"""As the crawls of the tests have it."""
MANY = 100_000


@contextmanager
def slow_line(url: str) -> Iterator[str]:
    """The server's address with a delay: an import of ``MANY`` takes seconds, on any machine."""
    with FaultyProxy(int(url.rpartition(":")[2])) as proxy:
        proxy.delay = 0.02
        yield f"valkey://127.0.0.1:{proxy.port}"


class Post(scrapy.Item):
    """An item as spiders send it."""

    url = scrapy.Field()
    author = scrapy.Field()
    tags = scrapy.Field()


@dataclass
class Dated:
    """An item whose identity a feed writes as text."""

    url: str
    author: dict[str, Any] = field(default_factory=dict)
    seen: datetime | None = None


ITEMS: list[Any] = [
    *(
        Post(url=f"https://x.example/{n}", author={"name": "Zoë, \u2028", "id": n}, tags=["a", "b"])
        for n in range(5000)
    ),
    *(
        Dated(f"https://x.example/{n}", {"id": n}, datetime(2026, 1, 1, n % 24))  # noqa: DTZ001
        for n in range(50)
    ),
]
RULES = {
    f"{__name__}.Post": ["url:url", "author.id"],
    f"{__name__}.Dated": ["url", "seen"],
}
FLAT = {f"{__name__}.Post": ["url:url"], f"{__name__}.Dated": ["url", "seen"]}
"""CSV has no nested fields."""
FEEDS: dict[str, tuple[str, Callable[[Any], Any], Any]] = {
    "JSON Lines": ("x.jl", exporters.JsonLinesItemExporter, RULES),
    "JSON": ("x.json", exporters.JsonItemExporter, RULES),
    "JSON, indented": ("x.json", lambda file: exporters.JsonItemExporter(file, indent=2), RULES),
    "JSON, lines": ("x.json", lambda file: exporters.JsonItemExporter(file, indent=0), RULES),
    "CSV": ("x.csv", exporters.CsvItemExporter, FLAT),
    "XML": ("x.xml", exporters.XmlItemExporter, RULES),
    "XML, indented": ("x.xml", lambda file: exporters.XmlItemExporter(file, indent=2), RULES),
}
OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def identifier_for(cls: type, fields: Any = RULES) -> RecordIdentifier:
    """Identifies the items of a class."""
    settings = Settings({"VALKEY_DEDUP_FIELDS": fields, "VALKEY_DEDUP_SCOPE": "project"})
    return RecordIdentifier(project_of(settings), ItemBuilder(cls))


def read(path: Path, identifier: RecordIdentifier, **options: Any) -> IdentifiedBlock:
    """All that a file holds."""
    found = IdentifiedBlock()
    for block in source_for(str(path), **options).blocks():
        made = identifier.identify_block(block)
        found.keys += made.keys
        found.records += made.records
        found.bad.join(made.bad)
        found.unkeyed.join(made.unkeyed)
    return found


def feed(items: list[Any], exporter: Callable[[Any], Any]) -> bytes:
    """What Scrapy writes."""
    file = BytesIO()
    made = exporter(file)
    made.start_exporting()
    for item in items:
        made.export_item(item)
    made.finish_exporting()
    return bytes(file.getvalue())


@pytest.mark.parametrize("name", FEEDS)
@pytest.mark.parametrize("cls", [Post, Dated])
def test_feeds_as_scrapy_writes_them(tmp_path: Path, name: str, cls: type) -> None:
    """Of what a feed holds the keys are those of the items that the spider has sent."""
    file, exporter, rules = FEEDS[name]
    items = [item for item in ITEMS if type(item) is cls]
    identifier = identifier_for(cls, rules)
    wanted = [identifier._identifier.identify(item, identifier._spider) for item in items]
    (tmp_path / file).write_bytes(feed(items, exporter))
    found = read(tmp_path / file, identifier)
    assert not found.bad.counts
    assert found.keys == wanted
    assert len(set(wanted)) == len(items)


def test_reasons_are_counted_in_little_memory(tmp_path: Path) -> None:
    """However many different reasons a file has, few are told apart, and all are counted."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "".join("," * number + "\n" for number in range(2, 3000)))
    found = read(path, identifier_for(dict, ["a"]))
    assert found.bad.total == 2998
    assert len(found.bad.counts) <= 51


@pytest.mark.parametrize("end", OPENERS)
def test_compressed_feeds(tmp_path: Path, end: str) -> None:
    """A compressed file is read by what it begins with; one that is cut off is told."""
    path, identifier = tmp_path / f"x.jl{end}", identifier_for(Post)
    content = feed(ITEMS[:5000], exporters.JsonLinesItemExporter)
    with OPENERS[end](path, "wb") as file:
        file.write(content)
    assert len(read(path, identifier).keys) == 5000
    path.write_bytes(path.read_bytes()[:-100])
    with (
        pytest.raises(ValueError, match=r"cannot be read")
        if False
        else pytest.raises(Exception, match=r"cannot be read")
    ):
        read(path, identifier)


def test_feeds_of_crawls_that_were_cut_off_or_go_on(tmp_path: Path) -> None:
    """What is whole is read, the rest is told; a JSON that Scrapy has appended to is read."""
    path, identifier = tmp_path / "x.json", identifier_for(Post)
    content = feed(ITEMS[:100], lambda file: exporters.JsonItemExporter(file, indent=0))
    path.write_bytes(content + content)
    found = read(path, identifier)
    assert (len(found.keys), found.bad.total) == (200, 0)
    path.write_bytes(content[:-20])
    found = read(path, identifier)
    assert (len(found.keys), found.bad.total) == (99, 1)
    path.write_bytes(content[: content.rindex(b"\n")])
    found = read(path, identifier)
    assert (len(found.keys), found.bad.total) == (100, 1)
    path.write_bytes(content.replace(b'{"url"', b'{"url', 1))
    found = read(path, identifier)
    assert (len(found.keys), found.bad.lines) == (99, [2])
    path.write_bytes(b"[]")
    assert read(path, identifier).records == 0

    path = tmp_path / "x.xml"
    path.write_bytes(feed(ITEMS[:100], exporters.XmlItemExporter)[:-100])
    found = read(path, identifier)
    assert (len(found.keys), found.bad.total) == (99, 1)


def test_an_xml_feed_reads_no_other_file(tmp_path: Path) -> None:
    """An entity makes a record bad: no file of the machine becomes part of a post."""
    (tmp_path / "secret").write_text("secret")
    entity = f'<!DOCTYPE items [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
    path = tmp_path / "x.xml"
    path.write_text(f"{entity}<items><item><url>a&e;</url></item></items>")
    ((_, record),) = source_for(str(path)).blocks().__next__().content
    assert record == UnreadableRecord("it has an entity, which is not read")


def posts(numbers: Iterator[int] | range) -> str:
    """The spider forum's posts, as lines."""
    return "".join(f'{{"site": "x", "post_id": {number}}}\n' for number in numbers)


@pytest.fixture
def here(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Path:
    """A project on the session's server."""
    return project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)


def known(url: str, namespace: str, numbers: range) -> int:
    """How many of them are remembered."""

    async def look(ledger: Ledger) -> list[bool]:
        return await ledger.seen_many([key_of_post(number) for number in numbers])

    return sum(in_ledger(url, namespace, look))


def test_import_a_file(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Posts are remembered, bad records named by line, twice as once; a trial does nothing."""
    lines = posts(range(300)).splitlines()
    lines[100:100] = ["", "not JSON", '{"site": "x"}', "[]"]
    (here / "posts.jl").write_text("\n".join(lines))
    given = ("import", *POST, "posts.jl", "--json")

    ended = dedup(*given, "--dry-run", directory=here)
    assert (ended.code, ended.json["new"], ended.json["known"]) == (1, 300, 0), ended.err
    assert known(valkey.url, namespace, range(300)) == 0
    ended = dedup(*given, "--strict", directory=here)
    assert ended.code == 1
    assert "posts.jl, line 102: not valid JSON" in ended.json["error"]
    for _ in range(2):
        ended = dedup(*given, directory=here)
        assert ended.code == 1, ended.err
        assert (ended.json["records"], ended.json["remembered"]) == (303, 300)
        assert ended.json["lines"] == [102, 103, 104]
        assert ended.json["identity"] == {
            "item_class": "posts.items:Post",
            "decided_by": "VALKEY_DEDUP_FIELDS, for all classes",
            "kind": "spider 'forum', class posts.items:Post, fields site, post_id",
            "fields": ["site:casefold", "post_id"],
        }
        (reason,) = ended.json["without_identity"]
        assert ended.json["without_identity"][reason] == {"count": 1, "first_line": 103}
        assert known(valkey.url, namespace, range(300)) == 300
    ended = dedup("import", "--dry-run", *POST, "--json", "posts.jl", directory=here)
    assert (ended.json["new"], ended.json["known"]) == (0, 300)
    assert not list((here / ".scrapy").rglob("*.json"))


def test_the_first_back_fill_on_one_machine(tmp_path: Path) -> None:
    """On a terminal, with a bar, into a ledger that no crawl has made yet; `check` finds them."""
    here = project(tmp_path)
    (here / "posts.csv").write_text("id,site\n" + "".join(f"{n},x\n" for n in range(100)))
    ended = on_terminal("import", *POST, "posts.csv", "--rename", "id=post_id", directory=here)
    assert ended.code == 0, ended.plain
    assert "import posts.csv" in ended.plain
    assert re.search(r"remembered\s+100", ended.plain)
    by = r"site:casefold, post_id \(VALKEY_DEDUP_FIELDS, for all classes\)"
    assert re.search(rf"identified by\s+{by}", ended.plain), ended.plain
    ended = dedup("check", *POST, "--json", directory=here, stdin=posts(range(99, 101)))
    assert (ended.json["known"], ended.json["new"]) == (1, 1), ended.err


@pytest.mark.parametrize("url", ["posts.db", "sqlite:///posts.db"])
def test_import_a_table(here: Path, valkey: ValkeyServer, namespace: str, url: str) -> None:
    """The rows of a query, of SQLite's own file and by SQLAlchemy."""
    with sqlite3.connect(here / "posts.db") as connection:
        connection.execute("CREATE TABLE posts (place TEXT, post_id INTEGER)")
        connection.executemany("INSERT INTO posts VALUES ('x', ?)", [(n,) for n in range(100)])
    query = "SELECT place AS site, post_id FROM posts"
    ended = dedup("import", *POST, url, "--query", query, "--json", directory=here)
    assert (ended.code, ended.json["remembered"]) == (0, 100), ended.err
    assert known(valkey.url, namespace, range(100)) == 100


def test_import_a_parquet_file(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Its rows are posts; a damaged one is told."""
    import pyarrow.parquet  # slow

    table = pyarrow.table({"site": ["x"] * 100, "post_id": range(100), "other": [{"a": 1}] * 100})
    pyarrow.parquet.write_table(table, here / "posts.parquet")
    ended = dedup("import", *POST, "posts.parquet", "--json", directory=here)
    assert (ended.code, ended.json["remembered"]) == (0, 100), ended.err
    assert known(valkey.url, namespace, range(100)) == 100
    (here / "posts.parquet").write_bytes(b"PAR1, but no more")
    ended = dedup("import", *POST, "posts.parquet", "--json", directory=here)
    assert (ended.code, ended.err.count("\n")) == (2, 1)


QUERY = "SELECT * FROM posts"
WRONG = {
    "a missing column": (["posts.csv"], "they have site, id"),
    "a rename of nothing": (
        ["posts.jl", "--rename", "id=post_id"],
        "none of the first 3 records has the column 'id', as --rename id=... says; they have site",
    ),
    "a missing query": (["posts.db"], "--query"),
    "a wrong query": (["posts.db", "--query", "SELECT * FROM gone"], "no such table: gone"),
    "no rows": (["posts.db", "--query", "PRAGMA wrong"], "must return rows"),
    "not a database": (
        ["posts.csv", "--format", "sqlite", "--query", QUERY],
        "not a database",
    ),
    "no driver": (["nosuch://user:hunter2@x/y", "--query", "SELECT 1"], "nosuch"),
    "a query of a file": (["posts.jl", "--query", QUERY], "--query is for databases"),
    "no XML": (["posts.csv", "--format", "xml"], "is not valid XML"),
    "no source": ([], "required: source"),
    "no ledger": (["--url", "{nobody}", "posts.jl"], "gave no answer"),
}


def test_an_empty_file(here: Path) -> None:
    """It is no fault, but one line says it."""
    (here / "posts.jl").write_text("")
    for verb in (("check",), ("import",)):
        ended = dedup(*verb, *POST, "posts.jl", directory=here)
        assert (ended.code, ended.err) == (
            0,
            "there are no records to read: the source is empty\n",
        )


def test_what_cannot_be_imported_is_one_line(here: Path) -> None:
    """Each has one line, the exit code 2, and remembers nothing."""
    (here / "posts.csv").write_text("site,id\nx,1\n")
    (here / "posts.jl").write_text(posts(range(3)))
    sqlite3.connect(here / "posts.db").close()
    nobody = f"valkey://127.0.0.1:{free_port()}"
    for name, (wrong, said) in WRONG.items():
        given = [nobody if word == "{nobody}" else word for word in wrong]
        options = ["-s", "VALKEY_DEDUP_TIMEOUT=0.5"]
        ended = dedup(*options, "import", *POST, *given, directory=here)
        assert ended.code == 2, (name, ended)
        assert said in ended.err, (name, ended.err)
        assert ended.err.count("\n") == 1, (name, ended.err)
        assert "hunter2" not in ended.err


def test_killed_in_the_middle(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """The next import of the file goes on where a killed one was, and all is remembered."""
    (here / "posts.jl").write_text(posts(iter(range(MANY))))
    folder = here / ".scrapy" / "valkey-dedup" / "import"
    with slow_line(valkey.url) as url:
        at_proxy = ("-s", f"VALKEY_DEDUP_URL={url}")
        command = Command(*at_proxy, "import", *POST, "posts.jl", "--json", directory=here)
        wait_until(lambda: list(folder.glob("*.json")))
        command.signal(signal.SIGKILL)
        assert command.end().code == -signal.SIGKILL
    assert 0 < known(valkey.url, namespace, range(MANY)) < MANY

    ended = dedup("import", *POST, "posts.jl", "--json", directory=here)
    assert ended.code == 0, ended.err
    assert re.search(r"resumes after record [1-9]", ended.err)
    assert (ended.json["records"], ended.json["remembered"]) == (MANY, MANY)
    assert known(valkey.url, namespace, range(MANY)) == MANY
    assert not list(folder.glob("*.json"))


def test_what_was_forgotten_since_is_imported_again(
    here: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """An import that was killed goes on only if what it had imported is still remembered."""
    (here / "posts.jl").write_text(posts(iter(range(MANY))))
    command = Command("import", *POST, "posts.jl", directory=here)
    wait_until(lambda: list((here / ".scrapy" / "valkey-dedup" / "import").glob("*.json")))
    command.signal(signal.SIGKILL)
    command.end()
    assert dedup("forget", "--all", "posts", "--yes", directory=here).code == 0
    assert dedup("import", *POST, "posts.jl", directory=here).code == 0
    assert known(valkey.url, namespace, range(MANY)) == MANY


def test_only_the_first_block_shows_that_nothing_can_be_used(
    here: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """A later block without any post is counted, even while the one before it is on its way."""
    rows = [f"x,{number}" for number in range(2000)] + ["x,"] * 2000
    (here / "posts.csv").write_text("\n".join(["site,post_id", *rows, "x,2000"]))
    ended = dedup("import", *POST, "posts.csv", "--json", directory=here)
    assert ended.code == 1, ended.err
    assert (ended.json["records"], ended.json["remembered"]) == (4001, 2001)
    assert known(valkey.url, namespace, range(2001)) == 2001


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """One line, a note on how far it came, and no embedded server is left behind."""
    here = project(tmp_path)
    (here / "posts.jl").write_text(posts(iter(range(MANY))))
    command = Command("import", *POST, "posts.jl", directory=here)
    folder = here / ".scrapy" / "valkey-dedup"
    wait_until(lambda: list(folder.glob("import/*.json")))
    command.signal(number)
    ended = command.end()
    assert (ended.code, ended.out) == (128 + number, "")
    *progress, last = ended.err.splitlines()
    assert last == "interrupted"
    assert all(line.startswith("import posts.jl: ") for line in progress)  # on a slow machine
    assert is_free(folder / "server.lock")
    ended = dedup("import", *POST, "posts.jl", "--json", directory=here)
    assert "resumes after record" in ended.err
    assert ended.json["remembered"] == MANY


def test_a_pipe_is_read_once(here: Path) -> None:
    """As `<(zstdcat posts.jl.zst)` gives one: nothing is left out, and nothing noted."""
    os.mkfifo(here / "pipe")
    (here / "posts.jl").write_text(posts(iter(range(30_000))))
    writer = subprocess.Popen(["sh", "-c", "cat posts.jl > pipe"], cwd=here)
    given = ("import", *POST, "pipe", "--format", "jsonlines", "--json")
    ended = dedup(*given, directory=here)
    assert ended.json["remembered"] == 30_000, ended.err
    assert writer.wait() == 0
    assert not list((here / ".scrapy").rglob("*.json"))


def test_another_file_or_identity_begins_anew(here: Path, valkey: ValkeyServer) -> None:
    """A note on an import counts for the same file, ledger and identity only."""
    (here / "posts.jl").write_text(posts(iter(range(30_000))) + "not JSON\n")
    given = ("import", *POST, "posts.jl", "--json")
    assert dedup(*given, "--strict", directory=here).code == 1
    ended = dedup(*given, "--strict", directory=here)
    assert "resumes after record" in ended.err
    ended = dedup(*given, "-s", "VALKEY_DEDUP_NAMESPACE=other", directory=here)
    assert "goes on" not in ended.err
    kind = '{"*": {"fields": ["post_id"], "kind": "post"}}'
    news = ("import", "--spider", "news", "posts.jl", "--json", "-s", f"VALKEY_DEDUP_FIELDS={kind}")
    ended = dedup(*news, directory=here)
    assert "goes on" not in ended.err
    assert ended.json["remembered"] == 30_000
    ended = dedup(*given, "--restart", directory=here)
    assert "goes on" not in ended.err


def test_an_import_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    """A server that does not answer for a moment is asked again, and nothing is left out."""
    with ValkeyServer(port=free_port(), persistent=True) as server:
        here = project(tmp_path, VALKEY_DEDUP_TIMEOUT=1)
        (here / "posts.jl").write_text(posts(iter(range(MANY))))
        with slow_line(server.url) as url:
            at_proxy = ("-s", f"VALKEY_DEDUP_URL={url}")
            command = Command(*at_proxy, "import", *POST, "posts.jl", "--json", directory=here)
            wait_until(lambda: list((here / ".scrapy").rglob("import/*.json")))
            server.kill()
            wait_until(lambda: "asking again for 60 s" in command.err)
            server.start()
            ended = command.end()
        assert (ended.code, ended.json["remembered"]) == (0, MANY)
        assert known(server.url, "posts", range(MANY)) == MANY


@pytest.mark.slow
@pytest.mark.long
def test_memory_is_constant(here: Path) -> None:
    """Three times as many posts take no more memory, but for chance."""
    sizes = []
    for count in (50_000, 150_000):
        (here / "posts.jl").write_text(posts(iter(range(count))))
        process = subprocess.Popen(
            words("import", *POST, "posts.jl", "--json"), cwd=here, env=environment(),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        sizes.append(usage.ru_maxrss)
    assert sizes[1] < 1.15 * sizes[0]


def test_while_a_crawl_goes_on(world: World) -> None:
    """What was imported before the crawl met it is not stored again, and nothing else is lost."""
    site = world.site(pages_of(range(200)))

    def bring(numbers: range) -> None:
        lines = "".join(f'{{"post_id": {number}}}\n' for number in numbers)
        ended = dedup(
            "import", "--url", world.url, "--namespace", world.namespace, "-", "--spider", "x",
            "-s", f"VALKEY_DEDUP_FIELDS={FIELDS}", directory=world.directory, stdin=lines,
        )  # fmt: skip
        assert ended.code == 0, ended.err

    bring(range(50))
    site.free = 4  # pages of twenty posts
    crawl = world.start(site, CONCURRENT_REQUESTS=1)
    wait_until(lambda: sum(site.served.values()) == 4 and len(world.stored) == 30)
    bring(range(60, 120))  # some are stored by the crawl, the others it has not met
    site.free = 100
    crawl.wait()
    assert world.stored == {str(number): 1 for number in (*range(50, 80), *range(120, 200))}
    world.assert_settled()


class RefusedImport(Import):
    """One whose ledger refuses to remember anything."""

    async def remember(self, *_: object) -> None:
        raise LedgerRefusedError("no permission")


class BrokenSource:
    """A source that cannot be read beyond its first block."""

    name, total, unit, can_resume = "broken", None, "records", False

    def blocks(self, start: int = 0, number: int = 1) -> Iterator[Block]:
        yield Block(1, 1, 1, [])
        raise CommandError("cannot be read")


def test_an_error_beside_another_is_not_lost(open_ledger: Callable[..., Any]) -> None:
    """The source fails while the server refuses the block before: asyncio has nothing to log."""

    async def work() -> None:
        async with open_ledger("run-a") as ledger:
            refused = RefusedImport(ledger, identifier_for(Post), BrokenSource())
            with pytest.raises(CommandError, match="cannot be read"):
                await refused.run()

    patience.run(work)


def test_while_a_fleet_crawls(world: World) -> None:
    """What comes from both sides at once is stored once, or was imported first; none is lost.

    None that was imported before the fleet began is stored at all.
    """
    site = world.site(pages_of(range(600)))
    lines = "".join(f'{{"post_id": {number}}}\n' for number in range(400))
    given = (
        "import", "--url", world.url, "--namespace", world.namespace, "-", "--spider", "x",
        "-s", f"VALKEY_DEDUP_FIELDS={FIELDS}",
    )  # fmt: skip
    before = "".join(lines.splitlines(keepends=True)[:100])
    assert dedup(*given, directory=world.directory, stdin=before).code == 0
    site.free = 3  # all are at work when the import begins
    crawls = [world.start(site, CONCURRENT_REQUESTS=2) for _ in range(2)]
    wait_until(lambda: site.kept_waiting)
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(dedup, *given, directory=world.directory, stdin=lines)
        site.free = inf
        assert task.result().code == 0
    for crawl in crawls:
        crawl.wait()
    assert set(world.stored.values()) == {1}
    stored = {int(post) for post in world.stored}
    assert set(range(400, 600)) <= stored
    assert stored.isdisjoint(range(100))
    assert world.remembered(range(600)) == {str(post) for post in range(600)}
    world.assert_settled()
