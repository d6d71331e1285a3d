"""Which ways can run here, and in which environment: each is tried with a small crawl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from bench.crawls.helpers import helper
from bench.servers import ValkeyServer, free_port
from bench.suite.environments import error, interpreter
from bench.suite.processes import CrawlError, crawl
from bench.suite.results import Row
from bench.suite.spider import Job
from bench.suite.ways import PLAIN, WAYS, Place, Way

_VERSIONS = (
    "import json, importlib.metadata as m; "
    "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
)
_PAGES = 3
WORKS, TRIED = "works", "tried"


@dataclass(frozen=True)
class Usable:
    """A way that runs, and where."""

    way: Way
    environment: str
    scrapy: str
    """Its version of Scrapy."""
    newest: bool
    """Whether that is this environment's version."""

    @property
    def label(self) -> str:
        """Its name; plain Scrapy of another version says which."""
        if self.way is PLAIN and not self.newest:
            return f"{self.way.name} {self.scrapy}"
        return self.way.name

    @property
    def is_plain_here(self) -> bool:
        """Whether it is plain Scrapy of this environment."""
        return self.way is PLAIN and self.newest

    def settings(self, place: Place) -> dict[str, Any]:
        """The settings of a crawl."""
        given = self.way.settings(place)
        return given | ({"ITEM_PIPELINES": self.way.pipelines} if self.way.pipelines else {})


def versions(environment: str) -> dict[str, str]:
    """What is installed in an environment."""
    asked = [str(interpreter(environment)), "-c", _VERSIONS]
    return dict(json.loads(subprocess.run(asked, check=True, capture_output=True).stdout))


def find(row: Row) -> Iterator[Usable]:
    """Tries all ways; notes in the row which run, and what the others say."""
    here = versions("")["scrapy"]
    plain = {here}
    with ExitStack() as stack:
        trial = _Trial(stack)
        for way in WAYS:
            for environment in way.environments:
                said = error(environment) or trial.error(way, environment)
                found = versions(environment) if not error(environment) else {}
                scrapy = found.get("scrapy", "none")
                package = f"{way.package} {found.get(way.package, '')}".strip() or way.name
                row.add(WORKS, f"{package}, Scrapy {scrapy}", way.name, 0, float(not said))
                if said:
                    row.note(f"{package} on Scrapy {scrapy}: {said}")
                    continue
                if scrapy not in plain:
                    plain.add(scrapy)
                    yield Usable(PLAIN, environment, scrapy, newest=False)
                yield Usable(way, environment, scrapy, newest=scrapy == here)
                break


class _Trial:
    """A small site to try ways at."""

    def __init__(self, stack: ExitStack) -> None:
        self._server = stack.enter_context(ValkeyServer(port=free_port()))
        self._folder = stack.enter_context(TemporaryDirectory(prefix="svd-bench-"))
        self._site = free_port()
        helper(stack, "crawls.site", self._site, _PAGES, 1, "--lists", 1, "--listed", _PAGES)

    def error(self, way: Way, environment: str) -> str:
        """Why a way does not run there; empty if it does, and remembers nothing wrong."""
        name = f"{way.name} {environment}".replace(" ", "-")
        place = Place(self._server.port or 0, name, f"{self._folder}/{name}")
        usable = Usable(way, environment, "", newest=True)
        job = Job(self._site, 1, usable.settings(place))
        try:
            found = crawl(job, environment, timeout=60)
        except CrawlError as failed:
            return str(failed)
        return "" if found.stored == _PAGES else f"{found.stored} of {_PAGES} posts stored"
