"""``python -m scrapy_valkey_dedup.selftest [URL]``: tests a server.

Exit codes: 0 if all that the plugin needs works, 1 if something does not, 2 for wrong usage or if
the server cannot be reached. Ctrl-C ends the test and removes its keys.
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
    """The versions of the plugin, of valkey-py and of Python, for the report."""
    found = []
    for name in ("scrapy-valkey-dedup", "valkey"):
        with suppress(PackageNotFoundError):  # not installed, but run from a clone
            found.append(f"{name} {version(name)}")
    return ", ".join([*found, f"Python {platform.python_version()}"])


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scrapy_valkey_dedup.selftest",
        description="Runs all operations of the plugin on a server, in a namespace of its own, "
        "and prints one line for each rule with the server's answer.",
        epilog="An option that is left out is read from the environment variable with the "
        "setting's name: VALKEY_DEDUP_URL, VALKEY_DEDUP_CLIENT_OPTIONS, VALKEY_DEDUP_CREDENTIALS. "
        "All users of the machine can see a password on the command line.",
    )
    parser.add_argument("url", nargs="?", help="like the setting VALKEY_DEDUP_URL")
    parser.add_argument("--client-options", help="like the setting, as JSON")
    parser.add_argument("--credentials", help="like the setting: an import path, or JSON")
    parser.add_argument("--namespace", help="whose keys the user may use; default: a new one")
    parser.add_argument("--timeout", default="3s", help="for one request; default: 3s")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return parser.parse_args(words)


def _settings(given: argparse.Namespace) -> DedupSettings:
    """The options as settings; errors in them are reported without secrets."""
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
            print(line, flush=True)  # noqa: T201 (the output of the command)

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
    """Runs the selftest; returns the exit code."""
    given = _arguments(words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # for terminals that lack some characters
            stream.reconfigure(errors="backslashreplace")
    try:
        settings = _settings(given)
        if settings.url is None:
            return _fail("name a URL, or set VALKEY_DEDUP_URL")
        report = asyncio.run(_examined(settings, settings.url, given))
    except DedupError as error:
        return _fail(str(error))
    except (asyncio.CancelledError, KeyboardInterrupt):
        outcome = "the keys of the test are removed, unless the line above says otherwise"
        return _fail(f"Interrupted: {outcome}.", INTERRUPTED)
    except BrokenPipeError:  # the reader has closed the pipe, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    if given.json:
        answer = {"versions": versions(), **report.as_json()}
        print(json.dumps(answer, indent=2))  # noqa: T201
        return report.code
    print(report.verdict)  # noqa: T201
    return report.code


def _fail(why: str, code: int = NO_SERVER) -> int:
    print(why, file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
