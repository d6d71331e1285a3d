"""What `scrapy dedup watch` makes of a run's notes: rates, trends, and whether it is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from scrapy_valkey_dedup.commands.shared.watching.columns import fitted
from scrapy_valkey_dedup.commands.shared.watching.figures import (
    duration,
    percent,
    short,
    sparkline,
)
from scrapy_valkey_dedup.commands.shared.watching.fleet import KEPT, Fleet, total_trend
from scrapy_valkey_dedup.commands.shared.watching.watched_run import Rates, State, WatchedRun
from scrapy_valkey_dedup.stats import RunInfo

BEAT, IDLE = b"7", b"8 idle"


def note(age: float, new: int, duplicate: int = 0, ended: str = "") -> RunInfo:
    """What a run has written of itself."""
    return RunInfo("posts", "here", 1e9, new=new, duplicate=duplicate, age=age, ended=ended)


def run_of(*notes: RunInfo, every: float = 10.0) -> WatchedRun:
    """A run whose notes were seen at 1000, 1010, ..."""
    run = WatchedRun("a", 1000.0)
    for number, each in enumerate(notes):
        run.saw(BEAT, each, 1000.0 + every * number)
    return run


def test_a_rate_is_that_between_two_notes() -> None:
    """By the run's clock; the same note again changes nothing, and an old one tells no rate."""
    run = run_of(note(50, 100, 10), note(60, 160, 15))
    run.saw(BEAT, note(60, 160, 15), 1015)
    assert run.rates(1015) == Rates(6.0, 0.5)
    assert run.rates(1049) == Rates(6.0, 0.5)
    assert run.rates(1051) is None
    assert run_of(note(50, 100)).rates(1001) is None
    assert run.age(1015) == 65
    # A server that went back, or another run of the name: what was known before counts no more.
    run.saw(BEAT, note(5, 3), 1020)
    assert run.rates(1020) is None
    run.saw(BEAT, note(15, 0), 1030)
    assert run.rates(1030) == Rates(0.0, 0.0)


def test_a_run_is_lost_when_two_looks_find_no_heartbeat() -> None:
    """It may come back. One that has signed off has ended, and one that only waits is waiting."""
    run = run_of(note(50, 100))
    run.saw(None, note(50, 100), 1010)
    assert run.state is State.AT_WORK
    run.saw(None, None, 1020)
    assert (run.state, run.since) == (State.LOST, 1020)
    assert (run.rates(1020), run.age(1030)) == (None, 50)
    run.saw(IDLE, note(80, 100), 1030)
    assert (run.state, run.since) == (State.WAITING, 1030)
    run.saw(None, note(85, 101, ended="finished"), 1040)
    assert (run.state, run.age(2000)) == (State.ENDED, 85)
    found_dead = WatchedRun("b", 1000)
    found_dead.saw(None, note(50, 100), 1000)
    assert found_dead.state is State.LOST
    just_begun = WatchedRun("c", 1000)
    just_begun.saw(BEAT, None, 1000)
    assert (just_begun.state, just_begun.age(1001)) == (State.STARTING, None)


def test_a_trend_is_what_came_in_each_cell() -> None:
    """Five minutes in ten cells of 30 s: 2 a second, then 4, then none; before, it is not known."""
    notes = [note(10.0 * number, 20 * min(number, 8) + 40 * min(max(number - 8, 0), 6))
             for number in range(19)]  # fmt: skip
    run = run_of(*notes)
    found = [None if each is None else each.new for each in total_trend([run], 10, 1180)]
    # The cells end at 930, 960, ..., 1200; its first note is of 1000.
    assert found == [None, None, None, 2.0, 2.0, 2.0, 4.0, 4.0, 0.0, 0.0]
    twice = total_trend([run, run], 10, 1180)
    assert [None if each is None else each.new / 2 for each in twice] == found
    assert total_trend([], 3, 1180) == [None] * 3


def test_runs_that_are_over_are_shown_for_a_while() -> None:
    """Then they are forgotten, even if their keys are still found; an ended one is not asked."""
    fleet = Fleet()
    ended = note(85, 101, ended="finished")
    fleet.update({"a": (None, ended), "b": (BEAT, None), "c": (None, None)}, 1000)
    assert sorted(run.name for run in fleet.runs) == ["a", "b"]
    assert (fleet.names, fleet.unknown(["a", "b", "d"])) == (["b"], ["d"])
    fleet.update({"b": (BEAT, None)}, 1000 + KEPT)
    assert fleet.states == {State.ENDED: 1, State.STARTING: 1}
    fleet.update({"b": (BEAT, None)}, 1001 + KEPT)
    assert [run.name for run in fleet.runs] == ["b"]
    assert fleet.unknown(["a"]) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0"), (0.01, "<0.1"), (0.44, "0.4"), (3, "3"), (9.96, "10"), (12.4, "12"),
     (999.4, "999"), (999.6, "1k"), (1234, "1.2k"), (56_789, "57k"), (2.5e6, "2.5M")],
)  # fmt: skip
def test_short_numbers(number: float | None, text: str) -> None:
    """Two digits that matter, at least."""
    assert short(number) == text


@given(st.floats(0, 2**53))
def test_numbers_fit_their_columns(number: float) -> None:
    """In the columns of the table, whatever a note says."""
    assert len(short(number)) <= 5
    assert len(short(int(number))) <= 5
    assert len(duration(min(number, 1e8))) <= 6
    assert len(percent(number, number + 1)) <= 4


def test_shares_and_durations() -> None:
    """Only all is all, and only nothing is nothing."""
    assert [percent(*pair) for pair in ((0, 9), (1, 999), (999, 1000), (9, 9), (0, 0))] == [
        "0%", "<1%", "99%", "100%", "-",
    ]  # fmt: skip
    assert [duration(each) for each in (None, 0, 59, 60, 3661, 86400 + 7200, 86400 * 200)] == [
        "-", "0s", "59s", "1m", "1h01m", "1d02h", "200d",
    ]  # fmt: skip


@given(st.lists(st.none() | st.floats(0, 1e15), max_size=40), st.booleans())
def test_a_sparkline_has_a_character_for_each_value(
    values: list[float | None],
    plain: bool,  # noqa: FBT001 (given)
) -> None:
    """The largest is the highest; a larger one is never lower; what is not known is a space."""
    line = sparkline(values, plain=plain)
    bars = "_.-:=+*#" if plain else "▁▂▃▄▅▆▇█"
    assert len(line) == len(values)
    known = sorted((value, bars.index(bar)) for value, bar in zip(values, line, strict=True)
                   if value is not None)  # fmt: skip
    assert [bar == " " for bar in line] == [value is None for value in values]
    assert [bar for _, bar in known] == sorted(bar for _, bar in known)
    if known and known[-1][0]:
        assert known[-1][1] == len(bars) - 1


@given(st.text(max_size=20), st.integers(0, 30))
def test_a_text_fits_its_column(text: str, width: int) -> None:
    """In cells of a terminal, of which some characters take two, and some none."""
    assert cell_len(fitted(text, width)) == width
    assert cell_len(fitted(text, width, is_left=False)) == width
