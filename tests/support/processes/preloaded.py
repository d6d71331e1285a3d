"""What processes of tests import, imported once, in the process that they are forked from."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

import scrapy.commands
from scrapy.settings import default_settings

from scrapy_valkey_dedup import commands
from scrapy_valkey_dedup.ledger.scripts import all_scripts
from tests.support.coverage.measure import Measurement

PROGRAMS = [
    "processes.dedup_process", "processes.scrapy_command", "spiders.faults", "spiders.fleet",
    "spiders.items", "spiders.requests", "spiders.scenarios", "spiders.timelines",
    "spiders.whose_claim",
]  # fmt: skip
# pytest, because a process imports the program again by which the test was started.
OTHERS = [
    "concurrent.futures.thread", "encodings.charmap", "itemloaders", "pytest", "queuelib",
    "resource", "rich.progress", "rich.table", "scrapy.pipelines.files", "tldextract",
    "twisted.conch.insults.insults", "twisted.conch.telnet", "twisted.internet.endpoints",
    "twisted.internet.stdio", "twisted.web.client", "valkey", "scrapy_valkey_dedup.addon",
    "scrapy_valkey_dedup.valkey.embedded", "scrapy_valkey_dedup.valkey.watcher", "bench.servers",
]  # fmt: skip


def of_scrapy() -> Iterator[str]:
    """The modules that Scrapy finds by names in its settings."""
    for value in vars(default_settings).values():
        for path in [*value, *value.values()] if isinstance(value, dict) else [value]:
            if isinstance(path, str) and path.startswith("scrapy."):
                yield path.rpartition(".")[0]


def of_commands() -> Iterator[str]:
    """What ``scrapy`` looks through for its commands, and ``scrapy dedup`` for its verbs."""
    for package in (scrapy.commands, commands):
        for found in walk_packages(package.__path__, f"{package.__name__}."):
            yield found.name


SUPPORT = [f"tests.support.{name}" for name in PROGRAMS]
for module in [*OTHERS, *of_commands(), *of_scrapy(), *SUPPORT]:
    import_module(module)
all_scripts()  # read from their files once
if Measurement.current:
    Measurement.current.tell_in_forks()
gc.collect()  # not gc.freeze(): the plugin would count what is frozen, at each crawl's start
