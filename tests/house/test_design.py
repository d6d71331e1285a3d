"""docs/design.md: each claim has its proof, and its figures are those of the pages it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.memory_peers import WAYS, bloom, cuckoo
from tests.house.test_docs import rows_after

PAGE = Path(__file__).parents[2] / "docs" / "design.md"
TEXT = PAGE.read_text("utf-8")
LINK = re.compile(r"\]\(([^)#\s]+)[^)\s]*\)")
PARTS_OF_A_PROPOSAL = (
    "Summary", "Motivation", "Goals", "Non-goals", "Risks and mitigations", "Design details",
    "Costs", "Test plan", "Graduation criteria", "Production readiness", "Drawbacks",
    "Alternatives considered", "Infrastructure needed",
)  # fmt: skip


def test_it_is_a_whole_proposal() -> None:
    """It has the parts of a proposal, in their order."""
    headings = re.findall(r"^##+ (.*)$", TEXT, re.MULTILINE)
    assert [each for each in headings if each in PARTS_OF_A_PROPOSAL] == [*PARTS_OF_A_PROPOSAL]


@pytest.mark.parametrize(
    "heading",
    ["| goal |", "| risk |", "| first plan |", "| of | cost |", "| kind |", "| question |"],
)
def test_each_claim_has_its_proof(heading: str) -> None:
    """Each row of these tables names a test, a page or a command that shows it."""
    rows = rows_after(TEXT, heading)
    assert len(rows) >= 6
    assert [row for row in rows if not LINK.search(" ".join(row)) and "`make " not in row[1]] == []


def test_figures_are_those_of_their_pages() -> None:
    """Each cost with a fraction stands on a page that its row names."""
    figures = 0
    for _, cost, proof in rows_after(TEXT, "| of | cost |"):
        pages = "".join((PAGE.parent / link).read_text("utf-8") for link in LINK.findall(proof))
        for figure in re.findall(r"\d+\.\d+", cost):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", pages), figure
            figures += 1
    assert figures >= 6
    (again,) = re.findall(r"The ledger costs ([\d.]+) USD", TEXT)
    assert f"{again} USD a month" in TEXT


def test_each_way_is_weighed() -> None:
    """The alternatives are those that ``bench.memory_peers`` weighs; filters are as computed."""
    rows = {row[0].strip("*"): row[1].strip("*") for row in rows_after(TEXT, "| way |")}
    assert len([name for name in rows if "computed" not in name]) == len(WAYS) + 2
    found = [float(size) for name, size in rows.items() if "computed" in name]
    computed = [size(error) for error in (2**-20, 2**-50) for size in (bloom, cuckoo)]
    assert found == [round(size, 1) for size in computed]


def test_the_sums_of_dynamodb() -> None:
    """What it would cost follows from the prices and the fleet that the page names."""
    text = " ".join(TEXT.split())
    (fleet,) = re.findall(r"([\d.]+) million sightings and ([\d.]+) million new posts", text)
    (prices,) = re.findall(r"([\d.]+) USD for a million writes and ([\d.]+) for a", text)
    (sums,) = re.findall(r"it costs ([\d.]+) USD if .*? Or it costs ([\d.]+) USD if", text)
    sightings, posts, write, read = map(float, (*fleet, *prices))
    assert float(sums[0]) == pytest.approx((sightings + posts) * write, abs=0.01)
    assert float(sums[1]) == pytest.approx(sightings * read + 2 * posts * write, abs=0.01)
