"""The house: a room imports only from the floors below its own, and two modules know valkey-py."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "scrapy_valkey_dedup"
PACKAGE = ROOT / NAME
FLOORS = [  # from the bottom to the top: folders, and modules beside them
    {"docs", "model", "parsing", "private", "stats", "tasks"},
    {"identity/", "valkey/"},
    {"ledger/", "settings/"},
    {"session/"},
    {"items/", "requests/"},
    {"addon", "aws/", "fingerprints", "selftest/"},
    {"commands/"},
]
SPEAK_TO_VALKEY = {"valkey/connections", "valkey/errors"}
MODULES = sorted(
    str(path.relative_to(PACKAGE).with_suffix(""))
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)


def room_of(module: str) -> str:
    """The folder of a module, or the module itself if it lies beside the folders."""
    folder, slash, _ = module.partition("/")
    return folder + slash


def floor_of(module: str) -> int:
    """The number of a module's floor."""
    return next(number for number, rooms in enumerate(FLOORS) if room_of(module) in rooms)


def imports_of(module: str) -> set[str]:
    """Every module that it imports, wherever in the file, with dots."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found.update(
                inner if (ROOT / f"{inner.replace('.', '/')}.py").exists() else node.module or ""
                for inner in (f"{node.module}.{alias.name}" for alias in node.names)
            )
    return found


def own_imports_of(module: str) -> set[str]:
    """The modules of the package that it imports, as paths."""
    names = {name for name in imports_of(module) if name.partition(".")[0] == NAME}
    assert NAME not in names, f"{module} imports the root of the package"
    paths = {name.removeprefix(f"{NAME}.").replace(".", "/") for name in names}
    return {f"{path}/__init__" if (PACKAGE / path).is_dir() else path for path in paths}


def test_every_room_has_its_floor() -> None:
    """The table has the folders and the modules of the package's root, and no others."""
    assert {room_of(module) for module in MODULES} == set().union(*FLOORS)


def test_the_drawing_is_the_table() -> None:
    """docs/architecture.md draws the floors of the table, the highest first."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    drawing = re.findall(r"```text\n(.*?)```", page, re.DOTALL)[0]
    drawn = [set(line.partition("|")[0].split()) for line in drawing.splitlines()]
    assert drawn == FLOORS[::-1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """A module imports only from its own room and from the floors below, and never the root."""
    for other in own_imports_of(module):
        is_below = floor_of(other) < floor_of(module)
        assert is_below or room_of(other) == room_of(module), f"{module} imports {other}"


@pytest.mark.parametrize("room", sorted(set().union(*FLOORS)))
def test_no_module_of_a_room_needs_itself(room: str) -> None:
    """Within a room no import leads back to where it began."""
    inside = [module for module in MODULES if room_of(module) == room]
    graph = {
        module: {other for other in own_imports_of(module) if room_of(other) == room}
        for module in inside
    }
    assert set(TopologicalSorter(graph).static_order()) == set(inside)


@pytest.mark.parametrize("module", MODULES)
def test_two_modules_know_valkey_py(module: str) -> None:
    """Only ``connections`` uses valkey-py, and only ``errors`` knows its errors besides."""
    speaks = any(name.partition(".")[0] == "valkey" for name in imports_of(module))
    assert speaks == (module in SPEAK_TO_VALKEY)
