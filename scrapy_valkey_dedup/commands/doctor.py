"""`scrapy dedup doctor`: finds faults of the server, the ledger and the project, with cures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import LedgerConnection, connect
from scrapy_valkey_dedup.commands.shared.doctor.findings import (
    ADVICE,
    FINE,
    UNKNOWN,
    WRONG,
    Finding,
)
from scrapy_valkey_dedup.commands.shared.doctor.project_checks import check_project
from scrapy_valkey_dedup.commands.shared.doctor.server_checks import check_server, try_server
from scrapy_valkey_dedup.commands.shared.doctor.spiders import SpiderInfo, load_spiders
from scrapy_valkey_dedup.commands.shared.project import is_outside
from scrapy_valkey_dedup.commands.shared.screen import Screen
from scrapy_valkey_dedup.commands.shared.status.state import local_state, query_server
from scrapy_valkey_dedup.commands.shared.usage import FAILED, FOUND, CommandError
from scrapy_valkey_dedup.docs import linked
from scrapy_valkey_dedup.model import DedupError, SettingsError
from scrapy_valkey_dedup.parsing import duration

SUMMARY = "Find what is wrong with server, ledger and project, and the cure"
EXAMPLE = """examples:
  scrapy dedup doctor
  scrapy dedup doctor --spider forum --every 7d
  scrapy dedup doctor --json

exit code: 0, or 1 if something is wrong, 2 if the server does not answer"""

_ORDER = (WRONG, ADVICE, UNKNOWN, FINE)
_NO_PROJECT = Finding(
    "project",
    ADVICE,
    "there is no project here, so only the server is checked",
    "run it in your project's folder, which has scrapy.cfg",
    "docs/operations.md#outside-a-project-and-in-scripts",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `doctor`."""
    parser.add_argument(
        "--every",
        metavar="7d",
        help="how often the crawl runs; pages must be remembered for longer",
    )


async def run(job: Job) -> int:
    """Checks project, server and ledger. Removes the test keys that it writes on the server."""
    screen = job.screen
    every = _every(job.options.every)
    found = [_NO_PROJECT] if is_outside(job.settings) else check_project(_spiders(job), every)
    reached = False
    try:
        async with connect(job.project.settings, create=True) as connection:
            reached, tried = await try_server(connection)
            found += tried
            if reached:
                found += await _check_ledger(connection)
    except SettingsError as error:
        if not any(each.what == "settings" for each in found):
            found += [
                Finding("settings", WRONG, each, docs="docs/settings.md") for each in error.faults
            ]
    except DedupError as error:
        found.append(
            Finding("server", WRONG, str(error), docs="docs/settings.md#url-and-client_options")
        )
    found = [replace(each, docs=linked(each.docs)) for each in found]
    found.sort(key=lambda each: _ORDER.index(each.level))
    _show(screen, found)
    wrong = any(each.level == WRONG for each in found)
    code = FAILED if not reached else FOUND if wrong else 0
    screen.result({"code": code, "findings": [asdict(each) for each in found]})
    return code


def _every(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return duration(1)(text)
    except (TypeError, ValueError) as error:
        raise CommandError(f"--every {text}: {error}") from None


def _spiders(job: Job) -> list[SpiderInfo]:
    try:
        found = load_spiders(job.settings, job.options.spider)
    except DedupError:
        raise
    except Exception as error:
        raise CommandError(
            f"the project's spiders and add-ons cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return found


async def _check_ledger(connection: LedgerConnection) -> list[Finding]:
    """Checks the ledger's layout, and the server's configuration and state."""
    state = local_state(connection)
    try:
        await query_server(connection, state)
    except DedupError as error:
        return [Finding("layout", WRONG, str(error), docs="docs/ledger.md#the-keys")]
    said = "no run has been here yet" if state.is_empty else "one that this version reads"
    return [Finding("layout", FINE, said), *await check_server(connection, state)]


def _show(screen: Screen, found: Sequence[Finding]) -> None:
    for each in found:
        if each.level in (FINE, UNKNOWN):
            continue
        of = f" (spider {each.spider})" if each.spider else ""
        screen.line(f"{each.level}: {each.what}{of}: {each.said}")
        if each.cure:
            screen.line(f"  cure: {each.cure}")
        if each.docs:
            screen.line(f"  see {each.docs}")
        screen.line("")
    rest = [each for each in found if each.level in (FINE, UNKNOWN)]
    screen.table(None, [(each.level, each.what, _in_short(each)) for each in rest])


def _in_short(each: Finding) -> str:
    return f"{each.said}: {each.cure}" if each.cure else each.said
