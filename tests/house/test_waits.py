"""No test waits for a number of seconds: a wait for something else has PATIENCE."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
WAITS = {
    "call", "check_call", "check_output", "communicate", "join", "run", "settimeout", "wait_for",
}  # fmt: skip
"""What raises, or gives up, after its timeout. ``asyncio.wait`` and ``select`` only look."""

INTENDED = {
    # A connection that is silent, to see that it is; tried again and again until PATIENCE is over.
    ("support/servers/states.py", "connection.settimeout(1)"),
}


def waits(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each call that has a number of seconds for another process or task."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in WAITS:
            continue
        given = [word.value for word in node.keywords if word.arg == "timeout"]
        # ", ".join(...) has no number; wait_for(it, 5), join(5) and settimeout(5) have.
        given += node.args[1:] if node.func.attr == "wait_for" else node.args[:1]
        if any(isinstance(value, ast.Constant) and isinstance(value.value, int | float)
               for value in given):  # fmt: skip
            yield node.lineno, ast.unparse(node)


def test_what_is_found() -> None:
    """Numbers of seconds are, names and texts are not."""
    source = (
        'p.wait_for(x(), 5)\np.join(3)\n", ".join(a)\np.run(["x"], timeout=60)\np.join(PATIENCE)\n'
    )
    assert [line for line, _ in waits(source)] == [1, 2, 4]


@pytest.mark.parametrize("room", sorted(path.name for path in TESTS.iterdir() if path.is_dir()))
def test_nobody_waits_for_a_number_of_seconds(room: str) -> None:
    """A starved process takes minutes for what takes a second, and a short deadline is a flake."""
    found = [
        f"{path.relative_to(TESTS)}:{line}: {call}"
        for path in sorted((TESTS / room).rglob("*.py"))
        for line, call in waits(path.read_text())
        if (str(path.relative_to(TESTS)), call) not in INTENDED
    ]
    assert found == []
