"""The soak: ``python -m bench.soak --minutes 20 --posts 200000``. See ``docs/reliability.md``.

Spider processes crawl a growing site again and again. Random faults hit their line and their
server, and they are killed and frozen themselves. At the end one more crawls it without faults.
Fails if a post is missing, if more second copies are stored than the outages and the kills excuse,
or if anything leaks.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.crawls.helpers import helper
from bench.servers import FaultyProxy, ValkeyServer, free_port, wait_for
from bench.soak import faults, report
from bench.soak.account import settle
from bench.soak.runs import Run
from bench.soak.spider import Job

PAGE = 40  # posts
ALL_POSTS_A_SECOND = 1600
GROWN = 0.7  # of the time: then the site shows all its posts
PATIENCE = 120  # seconds for an end
TIMEOUT, WAIT, LEASE = 2, 2, 15
BUSY_AGAIN = 1.0  # seconds before a run that has ended is followed by the next
POLICIES = {"mixed": ("pass", "pause", "pass", "close")}
SPARED = 2  # the first places, whose processes are not killed


class Soak:
    """Everything that runs, from ``start`` to the end of the stack."""

    def __init__(self, given: argparse.Namespace, stack: ExitStack) -> None:
        self.given = given
        self.began = time.monotonic()
        self.until = self.began + given.minutes * 60
        self.pages = given.posts // PAGE
        self.runs: list[Run] = []
        self._stack = stack
        self._chance = random.Random(given.seed)
        self._stop = threading.Event()
        self._current: list[Run] = []
        self._printing = threading.Lock()
        self.directory = Path(given.keep or tempfile.mkdtemp(prefix="svd-soak-"))
        if not given.keep:
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        # Not "everysec": while an fsync is under way it answers before it has written, and a
        # server that is killed then has lost what it had acknowledged.
        options = ("--appendfsync", "no")
        self.server = ValkeyServer(*options, port=free_port(), persistent=True)
        self.proxy = FaultyProxy(self.server.port or 0, seed=given.seed, port=free_port())
        self.memory_at_start = 0

    def start(self) -> None:
        """Server, line and site."""
        self._stack.enter_context(self.server)
        self.memory_at_start = int(self.server.info()["used_memory"])
        self._stack.enter_context(self.proxy)
        port, seconds = free_port(), self.given.minutes * 60 * GROWN
        helper(self._stack, "soak.site", port, self.pages, PAGE, seconds)
        self.site = f"http://127.0.0.1:{port}"
        self._stack.callback(self._end_all)

    def crawl_with_faults(self) -> list[faults.Series]:
        """Runs faults and spiders until the time is over."""
        processes = self.given.processes
        self._current = [self._run(place) for place in range(processes)]
        wait_for(lambda: all(run.ready for run in self._current), PATIENCE, "the spiders")
        victims = range(min(SPARED, processes - 1), processes)
        kinds = {
            "server": (faults.of_the_server(self.server), (4, 9)),
            "line": (faults.of_the_line(self.proxy), (4, 12)),
            "spiders": (faults.of_the_spiders(self._current.__getitem__, victims), (6, 20)),
        }
        scale = min(1.0, 0.2 + self.given.minutes / 10)
        series = [
            faults.Series(
                makers,
                random.Random(f"{self.given.seed} {name}"),
                calm,
                scale,
                self.say,
                self._stop,
            )
            for name, (makers, calm) in kinds.items()
        ]
        threads = [threading.Thread(target=one.run, daemon=True) for one in series]
        self._stack.callback(self._calm, threads)
        for thread in threads:
            thread.start()
        self._watch(lambda: time.monotonic() < self.until, replace=True)
        self._calm(threads)
        for one in series:
            if one.error:
                raise one.error
        self.say("no more faults")
        return series

    def end_without_faults(self) -> Iterator[str]:
        """Waits for the spiders, then crawls the site once more; tells which did not end."""
        deadline = time.monotonic() + PATIENCE
        self._watch(lambda: time.monotonic() < deadline and any(run.alive for run in self._current))
        for run in self._current:
            if run.alive:
                yield f"{run.name} did not end within {PATIENCE} s"
                run.end()
        self.say("one more run to the end")
        last = self._run(None)
        deadline = time.monotonic() + PATIENCE + self.given.posts / 200
        self._watch(lambda: time.monotonic() < deadline and last.alive)
        if last.alive:
            yield f"{last.name} did not end"
            last.end()
        self.say("it has ended")

    def say(self, words: str) -> None:
        """A line with the time."""
        with self._printing:
            print(f"{time.monotonic() - self.began:8.1f} s  {words}", flush=True)

    # -- the spiders -------------------------------------------------------------------------------

    def _policy(self, place: int | None) -> str:
        policies = POLICIES.get(self.given.policy, (self.given.policy,))
        return "pass" if place is None else policies[place % len(policies)]

    def _run(self, place: int | None) -> Run:
        """A new one; without a place, the last one."""
        number = sum(run.name.startswith(f"spider {place}.") for run in self.runs)
        name = "the last run" if place is None else f"spider {place}.{number}"
        policy = self._policy(place)
        rate = self.given.rate or ALL_POSTS_A_SECOND / self.given.processes
        job = Job(
            directory=str(self.directory / "runs" / name.replace(" ", "-")),
            site=self.site,
            pages=self.pages,
            until=0 if place is None else self.until,
            rate=0 if place is None else rate / PAGE,
            seed=self._chance.randrange(1 << 30),
            settings={
                "VALKEY_DEDUP_URL": f"valkey://127.0.0.1:{self.proxy.port}",
                "VALKEY_DEDUP_NAMESPACE": "soak",
                "VALKEY_DEDUP_ON_OUTAGE": policy,
                "VALKEY_DEDUP_TIMEOUT": TIMEOUT,
                "VALKEY_DEDUP_WAIT": WAIT,
                "VALKEY_DEDUP_LEASE": LEASE,
                # In twenty minutes a new generation begins; no post is forgotten before it is met.
                "VALKEY_DEDUP_RETENTION": max(self.given.minutes * 75, 600),
                "VALKEY_DEDUP_DATA_DIR": str(self.directory / "data"),
            },
        )
        run = Run(name, policy, job)
        self.runs.append(run)
        return run

    def _watch(self, condition: Callable[[], bool], *, replace: bool = False) -> None:
        """Samples the processes each second while the condition holds; replaces those that end."""
        while condition():
            for place, run in enumerate(self._current):
                ended = not run.alive and time.monotonic() - run.ended > BUSY_AGAIN
                if replace and ended and time.monotonic() < self.until - BUSY_AGAIN:
                    self._current[place] = self._run(place)
            for run in self.runs:
                run.look()
            time.sleep(1 if replace else 0.2)

    def _calm(self, threads: list[threading.Thread]) -> None:
        self._stop.set()
        for thread in threads:
            if thread.is_alive():
                thread.join()

    def _end_all(self) -> None:
        for run in self.runs:
            if run.alive:
                run.end()


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--posts", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--policy", choices=["pass", "pause", "close", "mixed"], default="mixed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0, help="posts a second of each spider")
    parser.add_argument("--keep", help="a directory to create and to keep")
    return parser.parse_args()


def interrupt(*_: object) -> None:
    """SIGTERM works like Ctrl-C: everything is cleaned up."""
    raise KeyboardInterrupt


def main() -> int:
    """Runs the soak and prints its report; returns the exit status."""
    given = options()
    signal.signal(signal.SIGTERM, interrupt)
    with ExitStack() as stack:
        soak = Soak(given, stack)
        soak.start()
        series = soak.crawl_with_faults()
        failures = list(soak.end_without_faults())
        account = settle(soak.runs, soak.pages * PAGE, LEASE)
        found = report.Findings(
            runs=soak.runs,
            account=account,
            faults=sum(one.inflicted for one in series),
            seconds=given.minutes * 60,
            spool=[
                path.name
                for path in (soak.directory / "data").rglob("*")
                if path.is_file() and path.suffix != ".ledger"  # which ledger it is for
            ],
            server=soak.server.info(),
            memory_at_start=soak.memory_at_start,
            remembered=report.remembered(soak.server, soak.pages * PAGE),
        )
        failures += report.show(found)
    for failure in failures:
        print(f"fault: {failure}")
    print("all laws hold" if not failures else "FAILED")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; everything is cleaned up")
