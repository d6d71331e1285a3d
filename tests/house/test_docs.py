"""The pages in ``docs/`` say what the code does: their tables, examples, names and links."""

from __future__ import annotations

import ast
import inspect
import re
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from scrapy.settings import Settings
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.aws import ElastiCacheIAM
from scrapy_valkey_dedup.identity.encoding import _DEPTH, _DIGITS, _SIZE
from scrapy_valkey_dedup.identity.identifier import _WARNINGS, Identifier
from scrapy_valkey_dedup.identity.normalise import NORMALISERS
from scrapy_valkey_dedup.items.current_item import begin_item
from scrapy_valkey_dedup.items.marking import MARK_REFUSED
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.handshake import REFUSED
from scrapy_valkey_dedup.session.outage import CLOSED
from scrapy_valkey_dedup.settings import PREFIX, DedupSettings
from scrapy_valkey_dedup.stats import ITEMS, REQUESTS, Stats
from scrapy_valkey_dedup.valkey.urls import parsed
from tests.support.item_forms import key

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "scrapy_valkey_dedup"
PAGES = sorted((ROOT / "docs").glob("*.md"))
ALL_PAGES = [
    *sorted(ROOT.glob("*.md")),
    *PAGES,
    ROOT / "example_project" / "README.md",
    ROOT / "terraform" / "README.md",
]
SETTINGS = (ROOT / "docs" / "settings.md").read_text("utf-8")
IDENTITY = (ROOT / "docs" / "identity.md").read_text("utf-8")
DEFAULTS = {
    PREFIX + setting.name.upper(): setting.metadata["default"] for setting in fields(DedupSettings)
}


def rows_after(text: str, heading: str) -> list[list[str]]:
    """The cells of the table that begins with this heading."""
    table = text[text.index(heading) :].split("\n\n", maxsplit=1)[0]
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def code_blocks(text: str) -> list[str]:
    """The Python examples of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(block: str) -> dict[str, Any]:
    """What an example defines."""
    scope: dict[str, Any] = {"__name__": "example"}
    exec(compile(block, "example", "exec", dont_inherit=True), scope)
    return scope


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_settings() -> None:
    """The table has every setting, in the order of the code, with its default."""
    rows = rows_after(SETTINGS, "| setting | default |")
    found = [(name.strip("`"), ast.literal_eval(value.strip("`"))) for name, value, _ in rows]
    assert found == list(DEFAULTS.items())


def test_the_table_of_stats() -> None:
    """stats.md explains every stat of the package, and no other."""
    page = (ROOT / "docs" / "stats.md").read_text("utf-8")
    rows = [name.strip("`") for name, _ in rows_after(page, "| stat | counts |")]
    counted = {*vars(ITEMS).values(), *vars(REQUESTS).values()}
    # There is no such thing:
    counted -= {ITEMS.not_new, ITEMS.after_empty, REQUESTS.unkeyed, REQUESTS.not_remembered}
    counted |= {name for name in vars(Stats).values() if str(name).startswith("dedup/")}
    assert len(rows) == len(set(rows))
    assert set(rows) == counted


def test_every_stat_has_its_name_in_one_place() -> None:
    """No module but stats.py writes a name of a stat."""
    modules = PACKAGE.rglob("*.py")
    assert [path.name for path in modules if '"dedup/' in path.read_text("utf-8")] == ["stats.py"]


def test_the_table_of_reasons() -> None:
    """stats.md explains every reason with which the plugin closes a spider."""
    page = (ROOT / "docs" / "stats.md").read_text("utf-8")
    rows = [name.strip("`") for name, _ in rows_after(page, "| reason | why |")]
    assert set(rows) == {CLOSED, REFUSED, MARK_REFUSED, "dupefilter_not_opened"}


def test_the_table_of_modes() -> None:
    """The table of CONFIRM has every mode that the setting accepts, and no other."""
    for mode, *_ in rows_after(SETTINGS, "| mode |"):
        given = {"VALKEY_DEDUP_CONFIRM": ast.literal_eval(mode.strip("`")), "FEEDS": {"x.json": {}}}
        assert DedupSettings.parse(Settings(given), "spider").confirm in mode
    assert len(rows_after(SETTINGS, "| mode |")) == 4
    found = {mode.strip('`"') for _, mode, _ in rows_after(SETTINGS, "| your posts go to |")}
    assert found == {"exported", "scraped", "none"}


def test_the_table_of_normalisers() -> None:
    """The table has every normaliser."""
    rows = rows_after(IDENTITY, "| normaliser |")
    assert [row[0].strip("`") for row in rows] == list(NORMALISERS)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"VALKEY_DEDUP_\w+", SETTINGS))))
def test_defaults_are_accepted(name: str) -> None:
    """Every default can be written into the settings as it stands in the table."""
    DedupSettings.parse(Settings({name: DEFAULTS[name]}), "spider")


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_names_exist(page: Path) -> None:
    """Every setting that a page mentions exists."""
    names = set(re.findall(r"VALKEY_DEDUP_\w+", page.read_text("utf-8")))
    assert names <= set(DEFAULTS)


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file, a heading, a picture or a test of ours leads there."""
    text = page.read_text("utf-8")
    links = re.findall(r"\[([^\]]+)\]\(([^)\s]+)\)", text)
    links += [("a picture", path) for path in re.findall(r'\bsrc(?:set)?="([^"]+)"', text)]
    for label, link in [each for each in links if "://" not in each[1]]:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link
        if label.startswith("`test_"):
            defined = re.findall(r"^(?:async )?def (\w+)", target.read_text("utf-8"), re.MULTILINE)
            assert label.strip("`") in defined, f"{label} in {link}"


def test_pages_that_the_package_names_are_there() -> None:
    """Each page, with its heading, that a message or a comment of the package names."""
    sources = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.lua")]
    text = "".join(path.read_text("utf-8") for path in sources)
    named = set(re.findall(r"\b(?:docs/[\w-]+|README)\.md(?:#[\w-]+)?", text))
    assert len(named) > 15
    for link in named:
        name, _, anchor = link.partition("#")
        assert (ROOT / name).is_file(), link
        assert not anchor or anchor in anchors((ROOT / name).read_text("utf-8")), link


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_that_are_run_exist(page: Path) -> None:
    """Each ``python -m`` on a page names a module that can be run."""
    folders = [ROOT, ROOT / "example_project"]
    for name in re.findall(r"python -m (?!pytest)(\w[\w.]*\w)", page.read_text("utf-8")):
        path = name.replace(".", "/")
        files = [folder / f"{path}{end}" for folder in folders for end in (".py", "/__main__.py")]
        assert any(file.is_file() for file in files), name


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to each page of the folder, once."""
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "README.md").read_text("utf-8"))
    assert sorted(linked) == sorted(page.name for page in PAGES if page.name != "README.md")


@dataclass
class Thread:
    """Stands for an item class of the reader's project."""

    site: str
    thread_id: int


def test_the_texts_that_stand_for_nothing() -> None:
    """The page lists texts that stand for nothing, and values that only look like them."""
    listed = IDENTITY[IDENTITY.index("for nothing: `None`") :].split("are values.")[0]
    nothing, values = listed.split("`NaT`. ")
    named = re.findall(r"`([^`]+)`", nothing)
    assert len(named) == 11
    assert all(key({"id": text}, fields=["id"]) is None for text in [*named, "NaT"])
    assert all(key({"id": text}, fields=["id"]) for text in re.findall(r"`([^`]+)`", values))


def test_the_example_of_an_identity() -> None:
    """The example on identity.md runs, and its claims hold."""
    first, example, kinds, function, links = code_blocks(IDENTITY)
    assert "assert" in example
    run(example)
    for block in (first, links):
        given = {name: value for name, value in run(block).items() if name.startswith(PREFIX)}
        DedupSettings.parse(Settings(given), "spider")
    kinds = kinds.replace("forum.items.Thread", f"{__name__}.Thread")
    fields = run(kinds)["VALKEY_DEDUP_FIELDS"]
    assert key(Thread("x", 7), fields=fields) == key({"host": "x", "id": "7"}, fields=fields)
    found = run(function)["VALKEY_DEDUP_IDENTITY"]
    post = {"platform": "mastodon", "uri": "https://m.example/1"}
    kind = {"*": {"fields": ["uri"], "kind": "post"}}
    assert key(post, identity=found, fields=kind) == key(post, fields=kind)


def test_the_examples_of_settings() -> None:
    """The settings on settings.md are accepted as they stand."""
    for word in ("ADDONS", "socket_keepalive"):
        given = {name: value for name, value in example(word).items() if name.startswith(PREFIX)}
        found = DedupSettings.parse(Settings(given), "spider")
        assert found.url == given["VALKEY_DEDUP_URL"]
        assert found.client_options == given.get("VALKEY_DEDUP_CLIENT_OPTIONS", {})


def example(word: str) -> dict[str, Any]:
    """What the example on settings.md that has this word defines."""
    (block,) = [block for block in code_blocks(SETTINGS) if word in block]
    return run(block)


def test_the_examples_of_credentials(tmp_path: Path) -> None:
    """The credentials on settings.md are accepted as they stand, and the provider works."""
    given = example("ElastiCacheIAM")
    settings = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    found = DedupSettings.parse(Settings(settings), "spider").credentials
    options = dict(settings["VALKEY_DEDUP_CREDENTIALS"])
    assert repr(found) == repr(load_object(options.pop("provider"))(**options))

    (tmp_path / "password").write_text("pass\n", "utf-8")
    provider = example("FromVault")["FromVault"]
    settings["VALKEY_DEDUP_CREDENTIALS"] = {"provider": provider, "path": tmp_path / "password"}
    found = DedupSettings.parse(Settings(settings), "spider").credentials
    assert found is not None
    assert found.get_credentials() == ("spiders", "pass")


def test_the_options_of_iam() -> None:
    """The table has every option of ElastiCacheIAM, in its order, with its default."""
    found = [(name.strip("`"), default.strip("`")) for name, default, _ in
             rows_after(SETTINGS, "| option | default |")]  # fmt: skip
    parameters = inspect.signature(ElastiCacheIAM).parameters.values()
    shown = [(p.name, "" if p.default is p.empty else repr(p.default)) for p in parameters]
    assert found == shown


@pytest.mark.parametrize("works", [True, False])
def test_the_storage_that_confirms(*, works: bool) -> None:
    """The storage on settings.md confirms each post that it stored, and releases each other."""
    settled: dict[bytes, bool] = {}

    class Storage(example("BatchStorage")["BatchStorage"]):  # type: ignore[misc]
        def insert(self, items: list[int]) -> None:
            if not works and len(items) < 100:
                raise OSError

    def process(number: int) -> None:
        claim = Claim(b"%d" % number, lambda claim, ok: settled.update({claim.key: ok}))
        begin_item().claim = claim
        storage.process_item(number)

    storage = Storage()
    storage.open_spider()
    for number in range(150):
        copy_context().run(process, number)
    with nullcontext() if works else pytest.raises(OSError):  # noqa: PT011 (ours, without a text)
        storage.close_spider()
    assert settled == {b"%d" % number: works or number < 100 for number in range(150)}


def test_the_reserved_options_are_named() -> None:
    """Every option that the page calls refused is refused."""
    sentence = SETTINGS[SETTINGS.index("`decode_responses`") :].split("are refused")[0]
    for name in re.findall(r"`(\w+)`", sentence):
        with pytest.raises(ValueError, match=f"sets {name} itself"):
            DedupSettings.parse(Settings({"VALKEY_DEDUP_CLIENT_OPTIONS": {name: 1}}), "spider")


def test_the_urls_are_understood() -> None:
    """Every URL in the table of places leads to what its row says."""
    kinds = []
    for place, examples in rows_after(SETTINGS, "| where Valkey is |"):
        urls = re.findall(r"`(\w[\w+]*://[^`]+)`", examples)
        (kind,) = {parsed(url).kind for url in urls}
        kinds.append((place, kind))
    assert [kind for _, kind in kinds] == ["server", "server", "cluster", "sentinel"], kinds


def test_the_example_of_certificates() -> None:
    """The settings for TLS on security.md are accepted as they stand."""
    given = run(code_blocks((ROOT / "docs" / "security.md").read_text("utf-8"))[0])
    found = DedupSettings.parse(
        Settings({name: value for name, value in given.items() if name.startswith(PREFIX)}),
        "spider",
    )
    assert found.client_options == given["VALKEY_DEDUP_CLIENT_OPTIONS"]


def test_the_limits_are_named() -> None:
    """The figures on identity.md are those of the code."""
    page = " ".join(IDENTITY.split())
    assert f"more than {_DIGITS} digits" in page
    assert f"more than {_DEPTH} levels" in page
    assert f"more than {_SIZE >> 20} MB" in page
    assert _WARNINGS == 100
    assert "a hundred at most" in page
    assert Identifier(DedupSettings.parse(Settings(), "spider")).key({}, None) is None
