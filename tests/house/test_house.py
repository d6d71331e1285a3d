"""What newcomers and releases rest upon: typed public names, and files that name what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import scrapy_valkey_dedup
from tests.support.once import FILES, ONCE_FILES, ONCE_TESTS, PARAMETERS

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
USER = '''
"""A user's project, as a strict type checker sees it."""

from typing import Any, assert_type

from scrapy.exceptions import DropItem, IgnoreRequest

from scrapy_valkey_dedup import (
    Addon, Claim, DedupError, DedupItemProcessor, DedupPipeline, DuplicatePage, DuplicatePost,
    DupeFilter, RequestDedupMiddleware, current_claim,
)
from scrapy_valkey_dedup.aws import ElastiCacheIAM

ADDONS = {Addon: 500}
ITEM_PROCESSOR: type[DedupItemProcessor] = DedupItemProcessor
DUPEFILTER_CLASS: type[DupeFilter] = DupeFilter
SPIDER_MIDDLEWARES = {RequestDedupMiddleware: 50}
errors: list[type[Exception]] = [DedupError]
drops: list[type[DropItem]] = [DuplicatePost]
ignored: list[type[IgnoreRequest]] = [DuplicatePage]
credentials = ElastiCacheIAM(user="spiders", cache="posts", region="eu-west-1").get_credentials()
assert_type(credentials, tuple[str, str])


class Batched(DedupPipeline):
    async def process_item(self, item: Any) -> Any:
        return await super().process_item(item)


async def store(item: Any) -> None:
    claim = current_claim()
    assert_type(claim, Claim)
    assert_type(claim.key, bytes)
    assert_type(claim.is_open, bool)
    claim.confirm()
    claim.release()
    claim.confirmed  # type: ignore[attr-defined]
'''


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is there from 3.11 on")
def test_a_user_s_project_is_checked(tmp_path: Path) -> None:
    """Every public name has a type that a strict checker takes, and none is ``Any``."""
    project = tmp_path / "project.py"
    project.write_text(USER)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", project.name]
    checked = subprocess.run(
        mypy,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
    names = set(scrapy_valkey_dedup.__all__)
    assert names <= set(re.findall(r"\w+", USER)), "the project must use every public name"


def pythons() -> list[str]:
    """The versions that the package says it supports."""
    import tomllib

    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    return ["3." + line.removeprefix(prefix) for line in about["classifiers"] if prefix in line]


def jobs(path: Path) -> dict[str, Any]:
    """The jobs of a workflow."""
    return dict(yaml.safe_load(path.read_text())["jobs"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is there from 3.11 on")
def test_every_supported_python_is_tried() -> None:
    """The workflow's matrix is the list of the classifiers."""
    ci = jobs(ROOT / ".github" / "workflows" / "ci.yml")
    assert ci["suite"]["strategy"]["matrix"]["python"] == pythons()


def test_a_release_passes_the_gate_first() -> None:
    """Nothing is published but what the gate has passed, and without a secret."""
    release = jobs(ROOT / ".github" / "workflows" / "release.yml")
    assert release["gate"]["uses"] == "./.github/workflows/ci.yml"
    assert release["build"]["needs"] == "gate"
    assert release["publish"]["needs"] == "build"
    assert release["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


@pytest.mark.parametrize(
    "path", [*WORKFLOWS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name
)
def test_the_make_targets_exist(path: Path) -> None:
    """Whatever a page or a workflow tells to make can be made."""
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^ {4}|`|run: )make ([a-z0-9-]+)", path.read_text(), re.MULTILINE)
    assert set(named) <= set(targets)


def test_the_hooks_are_those_of_lint() -> None:
    """What a commit is checked with is what ``make lint`` runs."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"].split("/")[-1] for repo in config["repos"] for hook in repo["hooks"]]
    assert [entry.split()[0] for entry in entries] == ["ruff", "ruff", "mypy"]


def test_the_rooms_are_drawn_alike() -> None:
    """CONTRIBUTING.md has the drawing of docs/architecture.md, which the layer test holds."""
    drawings = [
        re.findall(r"```text\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)[0]
        for name in ("CONTRIBUTING.md", "docs/architecture.md")
    ]
    assert drawings[0] == drawings[1]


def test_the_lists_of_tests_name_what_there_is() -> None:
    """What runs once, and what runs at each server, is there; no file of the latter runs once."""
    there = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    names = {path.stem.removeprefix("test_") for path in there}
    once = {name for listed in FILES.values() for name in listed.split()}
    assert once | set(PARAMETERS) <= names
    texts = {path.name: (ROOT / "tests" / path).read_text("utf-8") for path in there}
    for file, name in ONCE_TESTS:
        assert f"def {name}(" in texts[file], f"{file} has no {name}"
        assert file not in ONCE_FILES
    makefile = (ROOT / "Makefile").read_text()
    found = re.findall(r"^(OF_\w+) :=.*?\.py, \\\n(.*?)\)\)$", makefile, re.DOTALL | re.MULTILINE)
    lists = {
        name: [Path(f"{file}.py") for file in files.replace("\\\n", " ").split()]
        for name, files in found
    }
    assert set(lists) == {"OF_SERVERS", "OF_SERVERLESS"}
    assert {file for files in lists.values() for file in files} <= there
    assert once.isdisjoint(file.stem.removeprefix("test_") for file in lists["OF_SERVERS"])
