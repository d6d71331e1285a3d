"""Posts a second of one core of a server, and of each core of a cluster with three primaries.

Four client processes claim and confirm new posts, all over TCP. A server's rate is by its own
processor time: on a machine with few cores the clients take most of them, and the clock would
measure those.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from bench.servers import ValkeyCluster, ValkeyServer, free_port
from bench.suite.load import FAR_APART
from bench.suite.results import Row
from bench.suite.sizes import Sizes
from bench.suite.ways import OURS

A_CORE, BY_THE_CLOCK, OF_ONE = (
    "posts a second of a core", "posts a second by the clock", "of one server's core",
)  # fmt: skip
SERVER, CLUSTER = "one server", "a cluster of 3"
_CLIENTS = 4


def measure(row: Row, sizes: Sizes, _: Any) -> Iterator[str]:
    """A server and a cluster, in turn."""
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(port=free_port()))
        cluster = stack.enter_context(ValkeyCluster(replicas=0, persistent=False))
        for number in range(sizes.far_rounds):
            first = number * _CLIENTS * FAR_APART
            one = _store(row, SERVER, server.url, [server], first, sizes.core_posts)
            each = _store(row, CLUSTER, cluster.url, cluster.nodes, first, sizes.core_posts)
            row.add(OF_ONE, CLUSTER, OURS.name, 0, each / one)
            yield f"round {number + 1}: {one:,.0f} and {each:,.0f} posts a second of a core"


def _store(  # noqa: PLR0913, PLR0917 (what to ask, and where the figures go)
    row: Row, case: str, url: str, servers: Sequence[ValkeyServer], first: int, posts: int
) -> float:
    with ExitStack() as stack:
        clients = [_client(stack, url, first + n * FAR_APART, posts) for n in range(_CLIENTS)]
        for client in clients:
            assert client.stdout
            assert client.stdout.readline() == "ready\n"
        before, began = _busy(servers), time.perf_counter()
        for client in clients:
            assert client.stdin
            client.stdin.write("go\n")
            client.stdin.flush()
        for client in clients:
            assert client.wait(300) == 0, "a client failed"
        seconds, used = time.perf_counter() - began, _busy(servers) - before
    row.add(A_CORE, case, OURS.name, 0, _CLIENTS * posts / used)
    row.add(BY_THE_CLOCK, case, OURS.name, 0, _CLIENTS * posts / seconds)
    return _CLIENTS * posts / used


def _client(stack: ExitStack, url: str, first: int, posts: int) -> subprocess.Popen[str]:
    client = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "bench.suite.load", url, str(first), str(posts)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
    )  # fmt: skip
    stack.callback(client.kill)
    return client


def _busy(servers: Sequence[ValkeyServer]) -> float:
    """Processor seconds of all of them."""
    told = (server.info() for server in servers)
    return sum(float(each["used_cpu_user"]) + float(each["used_cpu_sys"]) for each in told)
