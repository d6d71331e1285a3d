"""The selftest at the stand-in of ElastiCache Serverless: says of each rule whether it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bench.serverless import Serverless
from scrapy_valkey_dedup.aws import ElastiCacheIAM
from scrapy_valkey_dedup.ledger.permissions import COMMANDS, IN_SCRIPTS, RULES
from scrapy_valkey_dedup.selftest import Report, Status, examine
from scrapy_valkey_dedup.selftest.commands import COMMAND_RULES
from tests.selftest.test_selftest import START, assert_nothing_left, failures
from tests.support.patience import in_loop
from tests.support.servers.iam import KEYS, SECRETS, WHO
from tests.support.servers.standin import a_serverless

CACHE = {
    "name": WHO["cache"],
    "region": WHO["region"],
    "key": KEYS["AWS_ACCESS_KEY_ID"],
    "secret": KEYS["AWS_SECRET_ACCESS_KEY"],
}


@pytest.fixture(scope="module")
def standin() -> Iterator[Serverless]:
    """One for all; each test sets its rules, and leaves it as it was."""
    with a_serverless(by_token={"bot": " ".join(RULES)}, cache=CACHE) as made:
        yield made


def said(report: Report) -> dict[str, tuple[Status, str]]:
    return {finding.rule: (finding.status, finding.said) for finding in report.findings}


@in_loop
async def test_all_that_is_needed_works_there(standin: Serverless) -> None:
    """And what is reported of the service is told: no TIME, no scripts without keys, and so on."""
    report = await examine(standin.url)
    assert (report.code, failures(report), report.left) == (0, set(), "")
    for backend in standin.backends:
        assert_nothing_left(backend)
    told = said(report)
    for rule, words in {
        "time in a script": "This Redis command is not allowed from script",
        "a script without keys": "Lua scripts without any input keys are not supported",
        "5000 arguments": "3999",
        "scripts are shared": "connections lack a script that another has sent",
    }.items():
        status, found = told[rule]
        assert status in (Status.REFUSED, Status.DIFFERS)
        assert words in found


@pytest.mark.parametrize("name", sorted({*COMMANDS, *IN_SCRIPTS}))
@in_loop
async def test_a_command_that_is_refused_is_named(standin: Serverless, name: str) -> None:
    """Whether the service does not know it, or refuses it from a script: exit code 1."""
    rules = [rule for rule in (*COMMAND_RULES, START) if name in rule.name or rule is START]
    standin.set(refused=(name,))
    try:
        report = await examine(standin.url, rules=rules, timeout=1)
    finally:
        standin.set(refused=())
    assert report.code == 1
    wanted = {name} if name in COMMANDS else set()
    wanted |= {f"{name} in a script"} if name in IN_SCRIPTS else set()
    assert wanted <= failures(report)
    assert name in report.verdict


@pytest.mark.parametrize(
    "rules",
    [
        {"error_chance": 0.05},
        {"noscript_chance": 0.3},
        {"load_reaches": "first"},
        {"ecpu_limit": 3000.0},
        {"ecpu_limit": 3000.0, "throttle": "delay"},
        {"life": 1.0},
    ],
    ids=str,
)
@in_loop
async def test_moods_that_the_plugin_bears(standin: Serverless, rules: dict[str, object]) -> None:
    """What now and then goes wrong there, and what is too fast for it, spoils no rule."""
    usual = {"error_chance": 0.0, "noscript_chance": 0.0, "load_reaches": "one"}
    usual |= {"ecpu_limit": 0.0, "throttle": "error", "life": 0.0}
    standin.set(**rules)
    try:
        report = await examine(standin.url, timeout=5)
    finally:
        standin.set(**usual)
    assert (report.code, failures(report)) == (0, set())


@in_loop
async def test_a_server_that_only_fails(standin: Serverless) -> None:
    """An error that persists is told in the server's own words."""
    standin.set(error_chance=1.0)
    try:
        report = await examine(standin.url, rules=[*COMMAND_RULES, START], timeout=0.5)
    finally:
        standin.set(error_chance=0.0)
    assert report.code == 1
    assert "internal error" in said(report)["start"][1]


@in_loop
async def test_a_user_of_iam(standin: Serverless, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tokens instead of a password; of keys that are not right the first rule tells."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    url, given = standin.url_of("bot"), ElastiCacheIAM(**WHO)
    report = await examine(url, credentials=given)
    assert (report.code, failures(report), report.left) == (0, set(), "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another one")
    refused = await examine(url, credentials=given)
    assert (refused.code, [finding.rule for finding in refused.findings]) == (
        1,
        ["connect", "HELLO"],
    )
    told = json.dumps([report.as_json(), refused.as_json()])
    assert not [secret for secret in (*SECRETS, "X-Amz-Signature") if secret in told]
