"""Speed and memory of `scrapy dedup import`: ``python -m bench.import_ --posts 1000000``.

Writes a file of JSON Lines as Scrapy's feeds do, seven fields a post, and imports it by the command
into a server of its own, in a process of its own, as an operator does. Prints posts a second by the
clock, the processor time of the command and of the server for each post, and the command's peak
memory. Fails below 50,000 posts a second by the clock (``--no-judge``: the machine is busy), or if
the command takes more than 150 MB: what it takes does not depend on the number of posts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from bench.servers import ValkeyServer

POSTS_A_SECOND, MEGABYTES = 50_000, 150


@dataclass(frozen=True)
class Imported:
    """What an import took."""

    seconds: float
    processor: float
    """Seconds of the command, with its start."""
    server: float
    """Seconds of the server's processor."""
    peak: int
    """Bytes."""


def write(path: Path, posts: int) -> None:
    """A feed of posts, about 250 bytes each."""
    with path.open("w") as file:
        for number in range(posts):
            noise = blake2b(b"%d" % number, digest_size=8).hexdigest()
            file.write(
                f'{{"platform": "forum.example", "post_id": "{10**9 + number}", '
                f'"url": "https://forum.example/threads/{noise}?page={number % 50}", '
                f'"author": "user-{noise}", "title": "What about {noise}?", '
                f'"likes": {number % 1000}, "posted": "2026-11-22T10:{number % 60:02}:00+00:00"}}\n'
            )


def run(server: ValkeyServer, path: Path) -> Imported:
    """Imports a file."""
    given = [
        sys.executable, "-m", "scrapy", "dedup", "import", str(path), "--json", "--url", server.url,
        "-s", "VALKEY_DEDUP_SCOPE=project", "-s", "VALKEY_DEDUP_FIELDS=platform,post_id",
    ]  # fmt: skip
    busy, began = _busy(server), time.perf_counter()
    process = subprocess.Popen(given, cwd=path.parent, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    print(process.stdout.read().strip())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("the import has failed")
    seconds = time.perf_counter() - began
    spent = usage.ru_utime + usage.ru_stime
    return Imported(seconds, spent, _busy(server) - busy, usage.ru_maxrss * 1024)


def _busy(server: ValkeyServer) -> float:
    facts = server.ask("INFO", "cpu")
    return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])


def main() -> bool:
    """Returns whether the limits held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--no-judge", action="store_true", help="print only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="svd-import-") as folder, ValkeyServer() as server:
        path = Path(folder, "posts.jsonl")
        write(path, arguments.posts)
        found = run(server, path)
    posts = arguments.posts
    speed, peak = posts / found.seconds, found.peak / 1e6
    print(
        f"import: {posts:,} posts in {found.seconds:.1f} s, {speed:,.0f} a second "
        f"({speed / POSTS_A_SECOND:.2f} of what is wanted), peak memory {peak:.0f} MB\n"
        f"processor time a post: {1e6 * found.processor / posts:.1f} us, and of the server "
        f"{1e6 * found.server / posts:.1f} us; load {os.getloadavg()[0]:.1f}"
    )
    return arguments.no_judge or (speed >= POSTS_A_SECOND and peak <= MEGABYTES)


if __name__ == "__main__":
    sys.exit(not main())
