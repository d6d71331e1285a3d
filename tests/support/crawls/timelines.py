"""Sites that show the newest posts first, and crawls that read them run after run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.crawls.requests import Run, Runs
from tests.support.ledgers import claims, heartbeats
from tests.support.patience import wait_until
from tests.support.servers.web import Reply, Route, Web, posts
from tests.support.spiders.requests import Reader
from tests.support.spiders.timelines import HERE


def names(name: str, count: int) -> list[str]:
    """So many posts of a timeline, the newest first."""
    return [f"{name}-{number}" for number in reversed(range(count))]


def timeline(
    name: str, shown: Sequence[str], size: int = 25, *, delay: float = 0
) -> dict[str, Route]:
    """The pages of a timeline, the newest first, by path.

    Each leads to what is below the last post that it shows: so new posts move the borders of pages,
    and a page that was read once need not be seen again.
    """
    pages: dict[str, Route] = {}
    path = f"/{name}"
    for start in range(0, len(shown), size):
        page = shown[start : start + size]
        older = f"/{name}?below={page[-1]}"
        more = {"older": older} if start + size < len(shown) else {}
        pages[path] = posts(*page, delay=delay, name=name, **more)
        path = older
    return pages


def page_of(reply: Route) -> dict[str, Any]:
    """What a page says."""
    assert isinstance(reply, Reply)
    return dict(json.loads(reply.body))


def changed(reply: Route, **changes: Any) -> Reply:
    """A page that says something else in part."""
    return Reply(json.dumps(page_of(reply) | changes).encode())


def pages_read(run: Run) -> dict[str, int]:
    """How many pages of each timeline a crawl has downloaded."""
    return dict(Counter(path[1:].partition("?")[0] for path in run.served.elements()))


def number(run: Run, stat: str) -> int:
    """One of the plugin's stats."""
    return int(run.stats.get(f"dedup/{stat}", 0))


class Readings:
    """A site, a ledger, and crawls of them: all that a test of readings needs."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        self.web = Web({})
        self.crawls: list[Run] = []
        self._url = url
        self._namespace = namespace
        self._runs = Runs(url, directory)
        self._claims_of_killed: dict[bytes, bytes] = {}

    def show(self, *sites: dict[str, Route]) -> None:
        """The site shows these pages from now on."""
        for pages in sites:
            self.web.routes.update(pages)

    def start(self, spider: type[Reader], mode: str = "alone", **changes: Any) -> Run:
        """Starts a crawl, by default as another job.

        Upper-case changes are settings, lower-case ones options of spider and storage.
        """
        changes = {"ITEM_PIPELINES": {f"{HERE}.Storage": 300}, **changes}
        if mode == "job":
            changes.setdefault("VALKEY_DEDUP_JOB", f"job-{len(self.crawls)}")
        run = self._runs.start(spider, mode, self.web, self._namespace, **changes)
        self.crawls.append(run)
        return run

    def crawl(self, spider: type[Reader], mode: str = "alone", **changes: Any) -> Run:
        """Runs a crawl to its end."""
        return self.start(spider, mode, **changes).wait()

    def kill(self, run: Run) -> None:
        """SIGKILL, and notes the claims on posts that are left."""
        run.kill()
        left = claims(self._url, self._namespace)
        self._claims_of_killed |= {key: held for key, held in left.items() if b"+pages" not in key}

    @property
    def stored(self) -> Counter[str]:
        """How often each post was stored, by all crawls."""
        return sum((run.posts for run in self.crawls), Counter())

    def assert_settled(self) -> None:
        """No claim is left, but on posts of runs killed with ``kill``; heartbeats only for a lease.

        A page may be remembered although the kill lost what was to confirm its posts: no later run
        meets those.
        """
        left = claims(self._url, self._namespace)
        assert left.items() <= self._claims_of_killed.items(), left
        if any(run.process.exitcode for run in self.crawls):
            wait_until(lambda: heartbeats(self._url, self._namespace) == 0)
        assert heartbeats(self._url, self._namespace) == 0

    def close(self) -> None:
        """Ends what is left running."""
        self._runs.close()
        if not self.crawls:
            self.web.close()


def opened(url: str, namespace: str, directory: Path) -> Iterator[Readings]:
    """For the fixture of a test, which so ends with a look at the ledger."""
    made = Readings(url, namespace, directory)
    try:
        yield made
        made.assert_settled()
    finally:
        made.close()
