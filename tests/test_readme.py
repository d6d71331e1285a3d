"""README: its example runs, its commands exist, its figures are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scrapy.settings import Settings

from scrapy_valkey_dedup.addon import PIPELINE_PRIORITY
from scrapy_valkey_dedup.identity import Identifier
from scrapy_valkey_dedup.settings import DedupSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_three_lines_of_settings_are_valid() -> None:
    """The settings on the first screen are accepted as they stand."""
    settings: dict[str, object] = {}
    exec(BLOCKS[0], settings)
    del settings["__builtins__"]
    assert len(settings) == 3
    parsed = DedupSettings.parse(Settings(settings), "spider")
    assert parsed.url == settings["VALKEY_DEDUP_URL"]


def test_the_example_of_an_identity_holds() -> None:
    """The README's posts are told apart as it says."""
    scope: dict[str, object] = {}
    exec(BLOCKS[1], scope)
    fields = {"VALKEY_DEDUP_FIELDS": scope["VALKEY_DEDUP_FIELDS"]}
    DedupSettings.parse(Settings(fields), "spider")
    exec(BLOCKS[2], scope)
    identifier = Identifier(DedupSettings.parse(Settings(), "spider"))
    one, same, other = (identifier.key(scope[name], None) for name in ("one", "same", "other"))
    assert one == same
    assert one != other


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", README))))
def test_every_make_command_exists(target: str) -> None:
    """A ``make`` command of the README is a target of the Makefile, and CI runs it."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.search(rf"^make {target}$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_every_link_leads_somewhere() -> None:
    """Links to files of the repository are not broken."""
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_figures_are_those_of_the_code() -> None:
    """The pipeline's place and the version's oldest Scrapy and Python are as README says."""
    assert f"places the pipeline at {PIPELINE_PRIORITY}," in README
    project = (ROOT / "pyproject.toml").read_text()
    assert "Needs Scrapy 2.14 or newer" in README
    assert '"scrapy>=2.14"' in project
    assert "Python 3.10 or newer" in README.replace("\n", " ")
    assert 'requires-python = ">=3.10"' in project
