"""What is imported when: the `scrapy` command loads the package at each start, so that counts."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from scrapy.utils.misc import load_object

import scrapy_valkey_dedup

ROOT = Path(__file__).parents[2]
COMMAND = """
import sys
from scrapy.cmdline import execute

try:
    execute(["scrapy", *sys.argv[1:]])
finally:
    print("imported:", *sorted(sys.modules))
"""
SPIDER = """
import scrapy
from scrapy_valkey_dedup import DuplicatePage


class Posts(scrapy.Spider):
    name = "posts"
"""
NOT_BEFORE_A_CRAWL = ("items", "requests", "session", "ledger", "valkey", "identity", "settings")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that uses the add-on, and whose spider imports a name of the package."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "scrapy.cfg").write_text("[settings]\ndefault = sample.settings\n")
    (folder / "sample").mkdir()
    (folder / "sample" / "__init__.py").touch()
    (folder / "sample" / "settings.py").write_text(
        'ADDONS = {"scrapy_valkey_dedup.Addon": 500}\n'
        'SPIDER_MODULES = ["sample.spiders"]\nVALKEY_DEDUP_FIELDS = ["post_id"]\n'
    )
    (folder / "sample" / "spiders.py").write_text(SPIDER)
    return folder


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a `scrapy` command in the project."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize(("words", "answer"), [(["version"], "Scrapy "), (["list"], "posts\n")])
def test_other_commands_load_little(project: Path, words: list[str], answer: str) -> None:
    """`scrapy version` and `scrapy list` know `scrapy dedup`, and load no room and no valkey."""
    found = run(project, *words)
    answered, _, modules = found.stdout.partition("imported: ")
    assert answered.startswith(answer)
    loaded = set(modules.split())
    assert "scrapy_valkey_dedup.commands" in loaded, found.stderr
    assert "valkey" not in loaded
    assert not {f"scrapy_valkey_dedup.{room}" for room in NOT_BEFORE_A_CRAWL} & loaded


def test_the_help_of_all_commands_names_ours(project: Path) -> None:
    """`scrapy` alone lists `dedup`, and loads no more for it."""
    found = run(project)
    answered, _, modules = found.stdout.partition("imported: ")
    assert "\n  dedup " in answered
    assert "valkey" not in modules.split()


@pytest.mark.parametrize("name", scrapy_valkey_dedup.__all__)
def test_public_names_are_there(name: str) -> None:
    """Each public name is found as an attribute, by its path and by ``dir``, and can be pickled."""
    found = getattr(scrapy_valkey_dedup, name)
    assert load_object(f"scrapy_valkey_dedup.{name}") is found
    assert name in dir(scrapy_valkey_dedup)
    assert found.__name__ == name
    assert pickle.loads(pickle.dumps(found)) is found


def test_other_names_are_errors() -> None:
    """A name that the package does not have is an AttributeError that names it."""
    with pytest.raises(AttributeError, match="'scrapy_valkey_dedup' has no attribute 'Pipeline'"):
        scrapy_valkey_dedup.Pipeline  # type: ignore[attr-defined] # noqa: B018
