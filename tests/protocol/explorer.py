"""Goes through all states of a scope, the shortest histories first."""

from __future__ import annotations

import gc
from collections import deque
from dataclasses import dataclass, field
from time import monotonic

from tests.protocol import checks
from tests.protocol.model import FAULT, TIME, Label, Model
from tests.protocol.state import State


@dataclass
class Report:
    """What was found."""

    name: str
    states: int = 0
    steps: int = 0
    seconds: float = 0.0
    whole: bool = False
    """All states were seen."""
    violation: str = ""
    history: list[Label] = field(default_factory=list)
    """The shortest that leads to the violation."""
    rules: set[str] = field(default_factory=set)
    """That were used."""
    loops: list[Label] = field(default_factory=list)
    """Steps that can be taken again and again."""

    def __str__(self) -> str:
        found = f"; {self.violation}" if self.violation else ""
        part = "" if self.whole or self.violation else ", not all"
        head = f"{self.name}: {self.states:,} states, {self.steps:,} steps{part}"
        lines = [f"{head}, {self.seconds:.1f} s{found}"]
        lines += [f"  {number:2}. {_told(step)}" for number, step in enumerate(self.history, 1)]
        return "\n".join(lines)


def _told(step: Label) -> str:
    rule, who, what = step
    return f"{who} {what} [{rule}]"


def explore(model: Model, limit: int = 5_000_000, *, loops: bool = False) -> Report:
    """Stops at the first violation. ``loops``: looks for steps that come again and again, too."""
    report, began = Report(model.scope.name), monotonic()
    gc.disable()  # there are no cycles, and it would look at all states again and again
    try:
        _explore(model, report, limit, loops=loops)
    finally:
        gc.enable()
    report.seconds = monotonic() - began
    return report


def _explore(model: Model, report: Report, limit: int, *, loops: bool) -> None:
    first = model.scope.begin()
    numbers: dict[State, int] = {first: 0}
    came: list[tuple[int, Label]] = [(0, (TIME, "", "begins"))]
    """From where, and by which step: of each state by its number."""
    edges: list[list[tuple[int, Label]]] = []
    queue = deque([first])
    used = report.rules
    at = 0
    try:
        while queue and len(came) < limit:
            state = queue.popleft()
            goes_on = False
            out: list[tuple[int, Label]] = []
            at = here = len(came) - len(queue) - 1  # they leave the queue as they have come
            for step, raw in model.steps(state):
                new = checks.watched(model, raw)
                report.steps += 1
                used.add(step[0])
                goes_on = goes_on or step[0] != FAULT
                number = numbers.setdefault(new, len(came))
                if number == len(came):
                    came.append((here, step))
                    queue.append(new)
                    at = number
                    checks.check(model, new)
                    at = here
                if loops:
                    out.append((number, step))
            if loops:
                edges.append(out)
            if not goes_on:
                checks.check_end(model, state)
        report.whole = not queue
    except checks.Violation as violation:
        report.violation = violation.what
        report.history = _history(came, at)
    report.states = len(came)
    if loops and report.whole:
        report.loops = _loops(edges)


def _history(came: list[tuple[int, Label]], number: int) -> list[Label]:
    steps = []
    while number:
        number, step = came[number]
        steps.append(step)
    return steps[::-1]


def _loops(edges: list[list[tuple[int, Label]]]) -> list[Label]:  # noqa: C901 (as in the book)
    """The steps within strongly connected components (Tarjan's algorithm, without recursion)."""
    index: list[int] = [-1] * len(edges)
    low, component = [0] * len(edges), [-1] * len(edges)
    stack: list[int] = []
    count = 0
    for root in range(len(edges)):
        if index[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            node, at = work.pop()
            if at == 0:
                index[node] = low[node] = count
                count += 1
                stack.append(node)
            for position in range(at, len(edges[node])):
                other, _ = edges[node][position]
                if index[other] < 0:
                    work.append((node, position + 1))
                    work.append((other, 0))
                    break
                if component[other] < 0:
                    low[node] = min(low[node], low[other])
            else:
                if low[node] == index[node]:
                    while component[node] < 0:
                        component[stack.pop()] = node
                if work:
                    parent, _ = work[-1]
                    low[parent] = min(low[parent], low[node])
    return sorted(
        {
            label
            for node, out in enumerate(edges)
            for other, label in out
            if component[node] == component[other]
        }
    )
