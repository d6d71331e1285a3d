"""docs/architecture.md names calls and files that exist, and its ways go down only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "scrapy_valkey_dedup"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
WAYS = {
    section.splitlines()[0]: section for section in PAGE.split("\n## ") if section.startswith("The")
}
STEP = re.compile(r"^(\d+)\. `(\w+)\.(\w+)` \(`([\w/]+\.py)`\)", re.MULTILINE)


def methods(path: Path) -> set[tuple[str, str]]:
    """The classes of a module with their functions."""
    return {
        (cls.name, function.name)
        for cls in ast.parse(path.read_text("utf-8")).body
        if isinstance(cls, ast.ClassDef)
        for function in cls.body
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def drawn_floors() -> dict[str, int]:
    """The floor of each room in the drawing, the highest has the greatest number."""
    lines = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()
    return {
        room: number
        for number, line in enumerate(reversed(lines))
        for room in line.partition("|")[0].split()
    }


@pytest.mark.parametrize("way", WAYS)
def test_the_calls_exist(way: str) -> None:
    """Each step names a function of a class, and the file that has it."""
    steps = STEP.findall(WAYS[way])
    assert [int(number) for number, *_ in steps] == list(range(1, len(steps) + 1))
    assert len(steps) == len(re.findall(r"^\d+\.", WAYS[way], re.MULTILINE))
    for _, cls, function, path in steps:
        assert (cls, function) in methods(PACKAGE / path), f"{cls}.{function} in {path}"


@pytest.mark.parametrize("way", WAYS)
def test_a_way_is_short_and_goes_down(way: str) -> None:
    """At most eight calls, in two descents, of which each begins at its highest floor."""
    floors = drawn_floors()
    descents = [
        [floors[path.partition("/")[0] + "/"] for *_, path in STEP.findall(part)]
        for part in re.split(r"\n\n(?=\w[^\n]*:\n)", WAYS[way])[1:]
    ]
    assert len(descents) == 2
    assert sum(map(len, descents)) <= 8
    assert all(descent and max(descent) == descent[0] for descent in descents)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`Session\.(\w+)`", PAGE))))
def test_the_hooks_of_the_session_exist(name: str) -> None:
    """What the page says of the session in its text is there, too."""
    assert ("Session", name) in methods(PACKAGE / "session" / "session.py")


def test_the_folders_exist() -> None:
    """Every folder that the page names is one of the package or of the repository."""
    named = set(re.findall(r"`(\w+(?:/\w+)*)/`", PAGE))
    assert named
    assert all((PACKAGE / name).is_dir() or (ROOT / name).is_dir() for name in named)
