"""Runs all rules one after the other, and removes the keys that they have written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

from scrapy_valkey_dedup.model import (
    DedupError,
    LedgerRefusedError,
    LedgerReplyError,
    LedgerUnavailableError,
)
from scrapy_valkey_dedup.selftest.commands import COMMAND_RULES, reach
from scrapy_valkey_dedup.selftest.findings import DiffersError, Finding, Report, Rule, Status
from scrapy_valkey_dedup.selftest.ledgers import LEDGER_RULES
from scrapy_valkey_dedup.selftest.sandbox import Sandbox
from scrapy_valkey_dedup.selftest.surroundings import HELLO, SURROUNDING_RULES
from scrapy_valkey_dedup.valkey.errors import classify, message_of
from scrapy_valkey_dedup.valkey.provider import Provider
from scrapy_valkey_dedup.valkey.replies import Reaction

_LONGEST = 30.0  # seconds for one rule
_LONGEST_CLEANING = 15.0
_LONGEST_WORDS = 300

_CONNECT = Rule("connect", reach)
RULES = (*SURROUNDING_RULES, *COMMAND_RULES, *LEDGER_RULES)


async def examine(  # noqa: PLR0913 (all but one are keywords)
    url: str,
    *,
    options: Mapping[str, Any] | None = None,
    credentials: Provider | None = None,
    namespace: str | None = None,
    timeout: float = 3.0,
    tell: Callable[[Finding], None] = lambda _: None,
    rules: Sequence[Rule] = RULES,
) -> Report:
    """Tests a server, and removes all keys of the test afterwards, even if it is cancelled.

    Args:
        url: The server, as in ``VALKEY_DEDUP_URL``.
        options: The parsed setting ``VALKEY_DEDUP_CLIENT_OPTIONS``.
        credentials: The parsed setting ``VALKEY_DEDUP_CREDENTIALS``.
        namespace: A namespace that may be in use; the test then writes only to a shelf of its own.
            None: a new namespace.
        timeout: Seconds for one request.
        tell: Called with each finding as soon as there is one.
        rules: The rules to test.

    Raises:
        LedgerRefusedError: URL or options are invalid. A rule that fails is a finding instead.

    """
    sandbox = Sandbox(
        url,
        options=options or {},
        credentials=credentials,
        namespace=namespace,
        timeout=timeout,
    )
    report = Report(sandbox.shown, sandbox.namespace)
    try:
        await _run_rules(sandbox, report, tell, rules)
    finally:
        if report.has_written:
            report.left = await _cleaned(sandbox)
            if report.left:  # a cancelled test returns no report
                why = f"not all keys of {sandbox.namespace} could be removed: {report.left}"
                tell(Finding("cleaning", Status.DIFFERS, why, needed=False))
        with suppress(Exception):  # a connection that cannot be closed
            await sandbox.close()
    return report


async def _run_rules(
    sandbox: Sandbox, report: Report, tell: Callable[[Finding], None], rules: Sequence[Rule]
) -> None:
    def note(finding: Finding) -> None:
        report.findings.append(finding)
        tell(finding)

    first = await _run(_CONNECT, sandbox)
    report.reached = first.status in (Status.OK, Status.REFUSED)
    note(first)
    if first.status is Status.REFUSED:
        # Perhaps only this command is refused; HELLO needs no permission.
        note(hello := await _run(HELLO, sandbox))
        report.has_written = hello.status is not Status.REFUSED
    else:
        report.has_written = report.reached
    for rule in rules if report.has_written else ():
        note(found := await _run(rule, sandbox))
        if found.status is Status.SILENT:
            again = await _run(_CONNECT, sandbox)
            if again.status is not first.status:  # the server is gone
                return note(again)
    return None


async def _run(rule: Rule, sandbox: Sandbox) -> Finding:
    began = perf_counter()
    try:
        said = await asyncio.wait_for(rule.check(sandbox), _LONGEST)
        status = Status.OK
    except DiffersError as error:
        status, said = Status.DIFFERS, str(error)
    except asyncio.TimeoutError:
        status, said = Status.SILENT, f"no answer within {_LONGEST:g} s"
    except Exception as error:  # noqa: BLE001 (any error is a finding)
        status, said = _status_of(error), message_of(error)
    said = said.removeprefix(f"Valkey at {sandbox.shown} ")
    line = sandbox.without_secrets(" ".join(said.split()))
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    if len(line) > _LONGEST_WORDS:
        line = line[: _LONGEST_WORDS - 3] + "..."
    return Finding(rule.name, status, line, rule.needed, 1000 * (perf_counter() - began))


def _status_of(error: Exception) -> Status:
    """SILENT for errors that may go away, REFUSED for errors that stay."""
    if isinstance(error, LedgerRefusedError | LedgerReplyError):
        return Status.REFUSED
    if isinstance(error, LedgerUnavailableError):
        return Status.SILENT
    if isinstance(error, DedupError):
        return Status.REFUSED
    if classify(error).cure is Reaction.RETRY:
        return Status.SILENT
    return Status.REFUSED if _is_from_server(error) else Status.DIFFERS


def _is_from_server(error: Exception) -> bool:
    """Whether an error comes from the server or from TLS, and not from our reading a reply."""
    module = type(error).__module__.partition(".")[0]
    return module in ("valkey", "ssl") or isinstance(error, OSError)


async def _cleaned(sandbox: Sandbox) -> str:
    """Removes the keys of the test; returns why that failed, or "" if it did not."""
    try:
        await asyncio.wait_for(sandbox.clean(), _LONGEST_CLEANING)
    except asyncio.TimeoutError:
        return f"no answer within {_LONGEST_CLEANING:g} s"
    except Exception as error:  # noqa: BLE001 (any error is reported)
        return sandbox.without_secrets(message_of(error))
    return ""
