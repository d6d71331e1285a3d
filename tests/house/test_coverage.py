"""The measurement of ``make test COVERAGE=1``: what it sees, and what it makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.coverage.measure import TOLD
from tests.support.coverage.report import read, report

TOY = """\
def f(number):
    if number > 0:
        number += 1
    for _ in range(number):
        number -= 1
    return number


def never():
    return 0
"""
MEASURED = """
import multiprocessing
import sys
from pathlib import Path

from tests.support.coverage.measure import Measurement

folder = Path(sys.argv[1])
measurement = Measurement(folder / "coverage", "toy")
measurement.begin()
sys.path.insert(0, str(folder))
import toy

toy.f(1)
measurement.tell_in_forks()
process = multiprocessing.get_context("fork").Process(target=toy.f, args=(0,))
process.start()
process.join()
toy.f(2)
measurement.tell()
"""

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="Python has sys.monitoring from 3.12 on"
)


@pytest.fixture
def seen(tmp_path: Path) -> dict[str, set[object]]:
    """What is told of a module that was run in part, here and in a process that was forked."""
    module = tmp_path / "toy" / "__init__.py"
    module.parent.mkdir()
    module.write_text(TOY)
    subprocess.run([sys.executable, "-c", MEASURED, str(tmp_path)], check=True)
    return read(tmp_path / "coverage" / TOLD)


def test_lines_and_branches_of_all_processes_are_seen(
    seen: dict[str, set[object]], tmp_path: Path
) -> None:
    """Both ways of the `if`, one of them taken only in the fork; not what nobody called."""
    lines = {1, 2, 3, 4, 5, 6, 9}
    branches = {(2, 3), (2, 4), (4, 5), (4, 6)}
    assert seen == {str(tmp_path / "toy" / "__init__.py"): lines | branches}


def test_each_is_told_once(seen: dict[str, set[object]], tmp_path: Path) -> None:
    """The fork tells one branch, the `if` that it went by, and after it nothing is new."""
    from slipcover.branch import decode_branch

    before, fork, after = map(json.loads, (tmp_path / "coverage" / TOLD).read_text().splitlines())
    (path,) = before
    assert [decode_branch(line) for line in fork[path]] == [(2, 4)]
    assert after == {}


def test_the_share_counts_lines_and_branches(
    seen: dict[str, set[object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """11 of 12: one line was not run. Modules that nobody imported count, too."""
    assert report(seen, tmp_path / "toy") == pytest.approx(100 * 11 / 12)
    assert " 10\n" in capsys.readouterr().out, "the line that is missing"
    (tmp_path / "toy" / "more.py").write_text("if 1 > 2:\n    A = 1\n")
    assert report(seen, tmp_path / "toy") == pytest.approx(100 * 11 / 16)
