"""What `scrapy dedup` does can be called from Python: the example of docs/operations.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from bench.servers import ValkeyServer
from tests.support.patience import PATIENCE
from tests.support.processes.dedup_command import dedup, environment, project
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("it says how many bytes a post takes, which may not be asked there")

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_example(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> None:
    """It runs as it stands in a project of those names, and does what the command does."""
    (block,) = re.findall(r"```python\n(import asyncio.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    here = project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)
    lines = "".join(f'{{"site": "x", "post_id": {number}}}\n' for number in range(50))
    (here / "posts.jsonl").write_text(lines + "[]\n")
    (here / "nightly.py").write_text(block.replace("forum.items", "posts.items"))
    ended = subprocess.run(
        [sys.executable, "nightly.py"], cwd=here, env=environment(),
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()
    assert first == "50 remembered; 1 bad records"
    assert second.startswith("50 posts in all, until the memory is full: ")
    post = ("--spider", "forum", "--item", "posts.items.Post")
    found = dedup("check", *post, "posts.jsonl", "--json", directory=here).json
    assert (found["known"], found["new"]) == (50, 0)
