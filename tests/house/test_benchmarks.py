"""The benchmarks: what the docs show is what results.json holds, and a run survives its rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.publish.blocks import filled, names
from bench.publish.pages import CONTENTS, PAGES, SPEED, written
from bench.publish.plots import DARK, LIGHT, PLOTS
from bench.publish.tables import server_time
from bench.suite import __main__ as suite
from bench.suite.measures import ledger
from bench.suite.results import Results, Row
from bench.suite.rows import ON_DEMAND, PEERS, ROWS
from bench.suite.sizes import QUICK
from bench.suite.targets import TARGETS, judge, server_growth
from bench.suite.ways import OURS

ROOT = Path(__file__).parents[2]
RESULTS = Results.load(suite.RESULTS)
BENCHMARKS, README = (page.read_text("utf-8") for page in PAGES)
pytestmark = pytest.mark.once


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_show_the_results(page: Path) -> None:
    """The tables are those of the results; after `make bench` comes `python -m bench.publish`."""
    assert page.read_text("utf-8") == written(page, RESULTS)


def test_readme_shows_five_figures_at_most() -> None:
    """README has figures of five targets at most, and what is lost."""
    assert names(README) == ["speed", "losses"]
    assert len(SPEED) <= 5
    assert set(SPEED) <= {target.what for target in TARGETS}


def test_every_table_has_its_place() -> None:
    """What can be made of the results is on a page, and each block can be made."""
    assert set(names(README)) | set(names(BENCHMARKS)) == set(CONTENTS)


def test_every_plot_is_there_in_light_and_dark() -> None:
    """docs/benchmarks.md shows each plot to readers of both themes."""
    shown = re.findall(r'(?:src|srcset)="benchmarks/([\w-]+\.svg)"', BENCHMARKS)
    drawn = [f"{name}-{theme.name}.svg" for name in PLOTS for theme in (DARK, LIGHT)]
    assert sorted(shown) == sorted(drawn)
    for name in drawn:
        assert "<svg" in (ROOT / "docs" / "benchmarks" / name).read_text("utf-8")


def test_each_row_says_where_it_is_from() -> None:
    """Every row has its commit, date, command, machine and versions, and names no place."""
    assert set(RESULTS.rows) - set(ON_DEMAND) == {PEERS, *ROWS}
    for row in RESULTS.rows.values():
        assert re.fullmatch(r"[0-9a-f]{10}", row.run["commit"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", row.run["date"])
        assert row.run["command"].startswith("python -m bench.suite")
        assert row.run["machine"]["cores"] >= 1
        assert {"Python", "scrapy"} <= set(row.run["versions"])
    text = suite.RESULTS.read_text("utf-8")
    assert not re.search(r'"[^"]*(/home/|/root/|/tmp/|/work/)', text)


def test_nothing_of_ours_was_lost() -> None:
    """Under every fault the plugin lost no post, and stored none twice in a race."""
    lost = {
        each.case: each.values for each in RESULTS.figures("lost", "lost") if each.way == OURS.name
    }
    assert len(lost) == 4
    assert not any(value for values in lost.values() for value in values)
    (twice,) = (
        each for each in RESULTS.figures("lost", "doubled", "race") if each.way == OURS.name
    )
    assert not any(twice.values)


def test_a_missed_target_says_why() -> None:
    """Each target is met, missed with a link to what explains it, or not measured."""
    for verdict in judge(RESULTS):
        (line,) = (row for row in BENCHMARKS.splitlines() if f"| {verdict.target.what} |" in row)
        word = f"[missed]({verdict.target.why})" if verdict.word == "missed" else verdict.word
        assert line.endswith(f"| {word} |")


def test_a_block_is_filled_and_the_rest_stays() -> None:
    """Only what is between the marks changes, as often as it is filled."""
    page = "before\n<!-- bench:one -->\nold\n<!-- /bench -->\nafter\n"
    once = filled(page, {"one": "new"})
    assert once == "before\n<!-- bench:one -->\n\nnew\n\n<!-- /bench -->\nafter\n"
    assert filled(once, {"one": "new"}) == once


def test_results_come_back_as_they_were_saved(tmp_path: Path) -> None:
    """A row that was saved and loaded has the same figures, notes and origin."""
    row = Row("crawls", run={"commit": "1"})
    for value in (1.0, 3.0, 2.5):
        row.add("posts a second", "new", "ours", 20, value)
    row.note("odd")
    row.note("odd")
    Results([row]).save(tmp_path / "results.json")
    again = Results.load(tmp_path / "results.json")
    assert again.rows["crawls"] == row
    assert row.notes == ["odd"]
    assert again.median("crawls", "posts a second", "new", "ours", 20) == 2.5
    (figure,) = json.loads((tmp_path / "results.json").read_text())["rows"]["crawls"]["figures"]
    assert (figure["least"], figure["median"], figure["most"]) == (1.0, 2.5, 3.0)


def test_a_row_that_fails_is_listed_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends with status 1, the failed row has its error, and goes again the next time."""
    broken = [True]

    def fails(row: Row, *_: Any) -> Iterator[str]:
        row.add("seconds", "", "ours", 0, 1.0)
        yield "half of it"
        if broken:
            raise ValueError("out of order")

    def works(row: Row, *_: Any) -> Iterator[str]:
        row.add("seconds", "", "ours", 0, 2.0)
        yield "all of it"

    path = tmp_path / "results.json"
    monkeypatch.setattr(suite, "ROWS", {"first": fails, "second": works})
    monkeypatch.setattr(suite, "ON_DEMAND", {})
    monkeypatch.setattr(suite, "find", lambda _: iter(()))
    monkeypatch.setattr(suite, "judge", lambda _: [])
    monkeypatch.setattr(
        suite,
        "provenance",
        lambda command, size: {"command": command, "size": size, "commit": "1", "changed": False},
    )
    monkeypatch.setattr("sys.argv", ["suite", "--results", str(path)])
    assert suite.main() == 1
    assert "fault: first failed: ValueError: out of order" in capsys.readouterr().out
    assert Results.load(path).median("second", "seconds", "", "ours") == 2.0

    broken.clear()
    assert suite.main() == 0
    out = capsys.readouterr().out
    assert "[1/2] first" in out
    assert "second" not in out, "what is measured stays"


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Results]:
    """Runs the suite with some words; its two rows give the server's time at some sizes."""
    path = tmp_path / "results.json"

    def row_with(*times: float) -> Callable[..., Iterator[str]]:
        def measure(row: Row, *_: Any) -> Iterator[str]:
            for number, time in enumerate(times):
                row.add(ledger.TIME, ledger.CLAIM, OURS.name, 10 ** (6 + number), time)
            yield "done"

        return measure

    def run(*words: str) -> Results:
        monkeypatch.setattr("sys.argv", ["suite", "--results", str(path), *words])
        assert suite.main() == 0
        return Results.load(path)

    def origin(command: str, size: str) -> dict[str, Any]:
        return {"command": command, "size": size, "commit": "1", "changed": False}

    monkeypatch.setattr(suite, "provenance", origin)
    monkeypatch.setattr(suite, "ROWS", {ledger.ROW: row_with(2, 3)})
    monkeypatch.setattr(suite, "ON_DEMAND", {ledger.LARGE: row_with(2, 3, 5)})
    monkeypatch.setattr(suite, "find", lambda _: iter(()))
    monkeypatch.setattr(suite, "judge", lambda _: [])
    return run


def test_a_large_ledger_is_measured_on_demand_and_stays(measured: Callable[..., Results]) -> None:
    """Only --hundred-million measures it; later runs keep its row, its column and its origin."""
    found = measured()
    assert set(found.rows) == {PEERS, ledger.ROW}
    assert server_growth(found) == 1.5
    found = measured("--hundred-million")
    assert server_growth(found) == 2.5
    large = found.rows[ledger.LARGE]
    assert large.run["command"] == f"python -m bench.suite --only {ledger.LARGE}"
    found = measured("--again")
    assert found.rows[ledger.LARGE] == large
    assert server_growth(found) == 2.5
    assert "| claim | 2.50 | 2 | 3 | 5 |" in server_time(found)


def test_a_small_run_is_small() -> None:
    """`make bench-quick` has every kind of amount, and none that takes minutes."""
    assert QUICK.name == "quick"
    assert max(QUICK.memory) <= 100_000
    assert QUICK.rounds == QUICK.far_rounds == 1
