"""The memory of a spider process while it stores posts, with the plugin and without.

Both run at once, for no time is measured. Few pages have many posts each, so that little but the
way of an item is in the process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from bench.crawls.helpers import helper
from bench.servers import ValkeyServer, free_port
from bench.suite.results import Row
from bench.suite.sizes import Sizes
from bench.suite.ways import OURS, PLAIN, Place

MEMORY, ADDED, SLOPE = (
    "memory of the process, MB", "added by the plugin, MB", "bytes a post, from half to the end",
)  # fmt: skip
CASE = "new posts"


def measure(row: Row, sizes: Sizes, _usable: Any) -> Iterator[str]:
    """Both crawls."""
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(port=free_port()))
        site = free_port()
        helper(stack, "crawls.site", site, 1, 1)
        crawls = {
            way.name: _start(stack, site, sizes.process_posts, way.settings(_place(server)))
            for way in (PLAIN, OURS)
        }
        taken = {}
        for name, process in crawls.items():
            output, _ = process.communicate(timeout=900)
            assert process.returncode == 0, f"{name} ended with {process.returncode}"
            taken[name] = {int(at): mb for at, mb in json.loads(output.splitlines()[-1]).items()}
            for at, megabytes in taken[name].items():
                row.add(MEMORY, CASE, name, at, megabytes)
            yield name
    added = {at: taken[OURS.name][at] - plain for at, plain in taken[PLAIN.name].items()}
    for at, megabytes in added.items():
        row.add(ADDED, CASE, OURS.name, at, megabytes)
    half, end = sizes.process_posts // 2, sizes.process_posts
    row.add(SLOPE, CASE, OURS.name, 0, (added[end] - added[half]) * 2**20 / (end - half))


def _place(server: ValkeyServer) -> Place:
    return Place(server.port or 0, "growth", str(server.directory / "data"))


def _start(
    stack: ExitStack, site: int, posts: int, settings: dict[str, Any]
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.suite.grower", str(site), str(posts)]
    process = stack.enter_context(
        subprocess.Popen([*command, json.dumps(settings)], stdout=subprocess.PIPE, text=True)
    )
    stack.callback(process.kill)
    return process
