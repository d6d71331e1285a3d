"""What Python's collections of garbage leave out while spiders run."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

from scrapy_valkey_dedup.session.garbage import LoadedObjects
from tests.support.crawls.world import World
from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[2]


def three_crawls(world: World, *words: str) -> dict[str, Any]:
    """What ``tests.support.spiders.loaded`` prints."""
    settings = {
        "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
        "VALKEY_DEDUP_URL": world.url,
        "VALKEY_DEDUP_NAMESPACE": world.namespace,
        "VALKEY_DEDUP_FIELDS": ["post_id"],
        "VALKEY_DEDUP_RESET": True,
    }
    command = [sys.executable, "-m", "tests.support.spiders.loaded", json.dumps(settings), *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_what_was_loaded_is_left_out_while_a_spider_runs(world: World) -> None:
    """All of it, until the crawl ends; what crawls have left is freed when others start."""
    found = three_crawls(world)
    assert min(found["during"]) > 50_000
    assert found["after"] == [0, 0, 0]
    assert found["garbage"] == [[], [False], [False, False]]


def test_a_program_that_freezes_is_left_alone(world: World) -> None:
    """What it has left out stays so, and nothing is added."""
    found = three_crawls(world, "frozen")
    counts = found["during"] + found["after"]  # what nothing refers to any more is freed
    assert all(-5000 < count <= 0 for count in counts), counts


class Cycle:
    """Garbage, as soon as nothing else refers to it."""

    def __init__(self) -> None:
        self.itself = self


def test_spiders_that_run_at_once_share_what_is_left_out() -> None:
    """The first to start leaves it out, the last to end takes it back; each counts once."""
    frozen = gc.get_freeze_count()
    gc.unfreeze()  # the processes of the tests have frozen what they loaded
    loaded, cycle = LoadedObjects(), Cycle()
    kept = weakref.ref(cycle)
    try:
        loaded.take_back("never started")
        loaded.leave_out("first")
        loaded.leave_out("first")
        count = gc.get_freeze_count()
        assert count > 0
        loaded.leave_out("second")
        loaded.take_back("first")
        loaded.take_back("first")
        del cycle
        gc.collect()
        assert kept() is not None
        assert gc.get_freeze_count() <= count
        loaded.take_back("second")
        assert gc.get_freeze_count() == 0
        gc.collect()
        assert kept() is None
    finally:
        gc.unfreeze()
        if frozen:
            gc.freeze()
