"""All that a test of crawls needs: a site, a ledger, a place for files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from tests.support.crawls.items import Crawl, start, stored
from tests.support.ledgers import claims, heartbeats, remembered
from tests.support.servers.site import Site
from tests.support.spiders.jobs import Job


@dataclass
class World:
    """A site, a ledger and a place for files: all that a test of crawls needs."""

    url: str
    namespace: str
    directory: Path
    sites: list[Site] = field(default_factory=list)
    crawls: list[Crawl] = field(default_factory=list)
    reactor: bool = True
    server: Any = None
    """The server, if it is the test's own."""

    def site(self, pages: dict[int, list[dict[str, Any]]]) -> Site:
        """Serves pages for the length of the test."""
        self.sites.append(Site(pages))
        return self.sites[-1]

    def serve_all(self) -> None:
        """No page of any site waits any more."""
        for site in self.sites:
            site.free = inf

    def start(
        self,
        site: Site,
        *,
        seed: int | None = None,
        pages: Iterable[int] | None = None,
        **changes: Any,
    ) -> Crawl:
        """Starts a crawl of all pages of a site, or of some, into the test's one table.

        Upper-case changes are settings, lower-case ones are options of spider and pipelines.
        """
        given = {"VALKEY_DEDUP_URL": self.url, "VALKEY_DEDUP_NAMESPACE": self.namespace}
        if not self.reactor:
            given["TWISTED_REACTOR_ENABLED"] = False
        given |= {name: value for name, value in changes.items() if name.isupper()}
        options = {"database": str(self.directory / "posts.db")}
        options |= {name: value for name, value in changes.items() if not name.isupper()}
        directory = self.directory / f"crawl-{len(self.crawls)}"
        numbers = sorted(site.pages if pages is None else pages)
        job = Job(site.url, numbers, str(directory), given, options, seed)
        self.crawls.append(start(job))
        return self.crawls[-1]

    def crawl(self, site: Site, **changes: Any) -> dict[str, Any]:
        """Runs a crawl to its end; returns its stats."""
        return self.start(site, **changes).wait()

    @property
    def stored(self) -> Counter[str]:
        """How often each post is stored."""
        return stored(self.crawls[0].job)

    @property
    def log(self) -> str:
        """The log of the newest crawl."""
        return self.crawls[-1].log

    def remembered(self, posts: Iterable[int | str], kind: str = "Post") -> set[str]:
        """Which of the posts the ledger remembers."""
        return remembered(self.url, self.namespace, posts, kind)

    @property
    def claims(self) -> dict[bytes, bytes]:
        """The open claims of all runs."""
        return claims(self.url, self.namespace)

    def assert_settled(self) -> None:
        """No run that ended well leaves a claim or a heartbeat."""
        assert claims(self.url, self.namespace) == {}
        assert heartbeats(self.url, self.namespace) == 0

    def close(self) -> None:
        """Ends what is left running."""
        for crawl in self.crawls:
            if crawl.process.is_alive():
                crawl.kill()
        for site in self.sites:
            site.close()
