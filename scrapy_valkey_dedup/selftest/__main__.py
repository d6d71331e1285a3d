"""``python -m scrapy_valkey_dedup.selftest [URL]``: tries a server.

Exit codes: 0 all that the plugin needs works there, 1 something does not, 2 there is no server, or
this was called wrongly. Ctrl-C ends it, with what was written taken away again.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from scrapy.settings import Settings

from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.selftest.examination import examine
from scrapy_valkey_dedup.selftest.findings import INTERRUPTED, NO_SERVER, Finding, Report
from scrapy_valkey_dedup.settings import PREFIX, DedupSettings
from scrapy_valkey_dedup.valkey.urls import redacted


def versions() -> str:
    """What asks: a report without it is half a report."""
    found = []
    for name in ("scrapy-valkey-dedup", "valkey"):
        with suppress(PackageNotFoundError):  # run from a clone that is not installed
            found.append(f"{name} {version(name)}")
    return ", ".join([*found, f"Python {platform.python_version()}"])


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scrapy_valkey_dedup.selftest",
        description="Does all that the plugin ever does on a server, in a namespace of its own, "
        "and prints one line for each rule with what the server said.",
        epilog="Where an option is left out, the environment variable with the setting's name "
        "counts: VALKEY_DEDUP_URL, VALKEY_DEDUP_CLIENT_OPTIONS, VALKEY_DEDUP_CREDENTIALS. A "
        "password on the command line is seen by all users of the machine.",
    )
    parser.add_argument("url", nargs="?", help="as the setting VALKEY_DEDUP_URL")
    parser.add_argument("--client-options", help="as the setting, JSON")
    parser.add_argument("--credentials", help="as the setting: a path, or JSON")
    parser.add_argument("--namespace", help="one whose keys the user may use; default: a new one")
    parser.add_argument("--timeout", default="3s", help="for one question; default: 3s")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return parser.parse_args(words)


def _settings(given: argparse.Namespace) -> DedupSettings:
    """The options as settings: what is wrong with them is told without a secret."""
    options = {"URL": given.url}
    options |= {"CLIENT_OPTIONS": given.client_options, "CREDENTIALS": given.credentials}
    found = {PREFIX + name: value for name, value in options.items()}
    found = {name: value or os.environ.get(name) for name, value in found.items()}
    found[PREFIX + "TIMEOUT"] = given.timeout
    if given.namespace is not None:
        found[PREFIX + "NAMESPACE"] = given.namespace
    values = {name: value for name, value in found.items() if value is not None}
    return DedupSettings.parse(Settings(values), "selftest")


async def _examined(settings: DedupSettings, url: str, given: argparse.Namespace) -> Report:
    def say(line: str) -> None:
        if not given.json:
            print(line, flush=True)  # noqa: T201 (this is what it is for)

    def tell(finding: Finding) -> None:
        say(finding.line())

    say(f"{versions()}, {redacted(url)}")
    task = asyncio.ensure_future(
        examine(
            url,
            options=settings.client_options,
            credentials=settings.credentials,
            namespace=settings.namespace if given.namespace is not None else None,
            timeout=settings.timeout,
            tell=tell,
        )
    )
    with suppress(NotImplementedError):  # on Windows
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def main(words: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    given = _arguments(words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of a terminal that does not know every letter
            stream.reconfigure(errors="backslashreplace")
    try:
        settings = _settings(given)
        if settings.url is None:
            return _fail("name a URL, or set VALKEY_DEDUP_URL")
        report = asyncio.run(_examined(settings, settings.url, given))
    except DedupError as error:
        return _fail(str(error))
    except (asyncio.CancelledError, KeyboardInterrupt):
        cure = "what was written is taken away again, unless the line above says something else"
        return _fail(f"Interrupted: {cure}.", INTERRUPTED)
    except BrokenPipeError:  # the reader has read enough, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    if given.json:
        told = {"versions": versions(), **report.as_json()}
        print(json.dumps(told, indent=2))  # noqa: T201
        return report.code
    print(report.verdict)  # noqa: T201
    return report.code


def _fail(why: str, code: int = NO_SERVER) -> int:
    print(why, file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
