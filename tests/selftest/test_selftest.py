"""``python -m scrapy_valkey_dedup.selftest``: says what works on a server, and leaves no trace."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.servers import SentinelSet, ValkeyCluster, ValkeyServer, free_port
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import COMMANDS, IN_SCRIPTS, RULES, WORDS
from scrapy_valkey_dedup.selftest import Finding, Report, Status, examine
from scrapy_valkey_dedup.selftest.__main__ import main
from scrapy_valkey_dedup.selftest.commands import COMMAND_RULES
from scrapy_valkey_dedup.selftest.examination import RULES as ALL_RULES
from scrapy_valkey_dedup.selftest.ledgers import LEDGER_RULES
from scrapy_valkey_dedup.valkey.client import Client
from tests.ledger.test_acl import NAMESPACE_PATTERNS, SECRET, url_of, user_of
from tests.support.patience import PATIENCE, in_loop, wait_until
from tests.support.servers.strangers import REPLIES, answering
from tests.support.servers.tls import LOCALHOST, Authority, terminator

(START,) = (rule for rule in LEDGER_RULES if rule.name == "start")


def failures(report: Report) -> set[str]:
    return {finding.rule for finding in report.failures}


def assert_nothing_left(server: ValkeyServer, namespace: str = "selftest") -> None:
    """No key of the selftest's is left."""
    left = [key for key in server.ask("KEYS", "*") if namespace in key]
    assert left == []


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[ValkeyServer]:
    """A server for users who may do little."""
    with ValkeyServer(port=free_port()) as server:
        yield server


@pytest.fixture
def guarded(guarded_server: ValkeyServer) -> ValkeyServer:
    """The same, empty: a user who may not delete leaves keys there."""
    guarded_server.ask("FLUSHALL")
    return guarded_server


# -- where all works -------------------------------------------------------------------------------


def test_a_plain_server(valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each rule, the verdict last, exit code 0; nothing is left."""
    assert main([valkey.url]) == 0
    out, err = capsys.readouterr()
    first, *lines, verdict = out.splitlines()
    assert first.endswith(valkey.url)
    assert "Python 3." in first
    assert err == ""
    assert {line.split()[0] for line in lines} <= {"ok", "differs", "refused"}
    for name in ("connect", "evictions", "round trips", "start", "claim: takeover", "heartbeat"):
        assert sum(line[9:].startswith(f"{name}  ") for line in lines) == 1
    needed = sum(rule.needed for rule in ALL_RULES) + 1  # and the connection
    others = len(lines) - needed
    assert verdict == (
        f"{len(lines)} checks at {valkey.url}: all {needed} that the plugin needs succeed, and "
        f"{others} of {others} others."
    )
    assert "median" in out
    assert_nothing_left(valkey)


def test_json(valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]) -> None:
    """For machines: one object, with the same."""
    assert main([valkey.url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["code"], told["left"], told["server"]) == (0, "", valkey.url)
    assert all(rule["status"] == "ok" for rule in told["rules"] if rule["needed"])
    assert {"rule", "status", "needed", "said", "milliseconds"} == set(told["rules"][0])


def test_every_permission_has_a_rule(guarded: ValkeyServer) -> None:
    """What the plugin is allowed is what is tried, and all that is known of it is true."""
    report = asyncio.run(examine(guarded.url))
    needed = {finding.rule for finding in report.findings if finding.needed}
    assert {name.replace("|", " ") for name in COMMANDS} <= needed
    assert {f"{name} in a script" for name in IN_SCRIPTS} <= needed
    assert (report.code, failures(report)) == (0, set())


@in_loop
async def test_a_cluster() -> None:
    """Posts of all partitions, on all nodes."""
    with ValkeyCluster(replicas=0, persistent=False) as cluster:
        report = await examine(cluster.url)
        assert (report.code, failures(report), report.left) == (0, set(), "")
        for node in cluster.nodes:
            assert_nothing_left(node)


@in_loop
async def test_sentinels() -> None:
    """The primary that they name, with the options that they need."""
    with SentinelSet(0, sentinel_password="watch") as sentinels:
        options = {"sentinel_kwargs": {"password": "watch"}}
        report = await examine(sentinels.url, options=options)
        assert (report.code, failures(report), report.left) == (0, set(), "")
        report = await examine(sentinels.url)
    assert report.code != 0
    assert "watch" not in json.dumps(report.as_json())


@in_loop
async def test_tls_with_the_permissions_of_the_page(guarded: ValkeyServer, tmp_path: Path) -> None:
    """All that is needed works; what is not needed is refused, and that does no harm."""
    authority = Authority(tmp_path, "ours")
    user = user_of(guarded, RULES).rpartition("@")[0].replace("valkey:", "valkeys:")
    async with terminator(guarded, authority.certify(LOCALHOST)) as port:
        url = f"{user}@localhost:{port}"
        report = await examine(url, options={"ssl_ca_certs": str(authority.file)})
        assert (report.code, failures(report), report.left) == (0, set(), "")
        stranger = await examine(url)
    assert_nothing_left(guarded)
    said = {finding.rule: finding for finding in report.findings}
    for rule in ("INFO", "evictions", "time in a script"):
        assert (said[rule].status, said[rule].needed) == (Status.REFUSED, False)
    assert (stranger.code, len(stranger.findings)) == (1, 2)
    assert "certificate" in stranger.findings[0].said


# -- where something does not ----------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
@in_loop
async def test_each_word_that_is_missing_is_named(guarded: ValkeyServer, word: str) -> None:
    """The rule of that command fails, with the server's words; exit code 1, no secret, no trace."""
    name = word.removeprefix("+")
    url = user_of(guarded, [rule for rule in RULES if rule != word])
    report = await examine(url, rules=[*COMMAND_RULES, START])
    assert report.code == 1
    failed = failures(report)
    single = {each.replace("|", " ") for each in COMMANDS}
    single |= {f"{each} in a script" for each in IN_SCRIPTS}
    named = {name.replace("|", " "), f"{name} in a script"} & single
    assert named <= failed
    if name not in ("evalsha", "script|load", "eval"):  # without these no script runs
        assert failed & single == named
    for finding in report.findings:
        assert finding.status is not Status.DIFFERS or not finding.needed, finding
    assert name in report.verdict.replace(" ", "|")
    assert SECRET not in json.dumps(report.as_json())


@in_loop
async def test_the_keys_are_tried(guarded: ValkeyServer) -> None:
    """A user of one namespace tries that one; in another it is refused."""
    url = user_of(guarded, [*NAMESPACE_PATTERNS, *RULES[1:]])
    report = await examine(url, namespace="posts")
    assert (report.code, failures(report), report.left) == (0, set(), "")
    assert (await examine(url)).code == 1


@pytest.mark.parametrize("pattern", NAMESPACE_PATTERNS)
@in_loop
async def test_each_pattern_of_keys_is_tried(guarded: ValkeyServer, pattern: str) -> None:
    """A user who lacks one of those of their namespace is told so."""
    patterns = [other for other in NAMESPACE_PATTERNS if other != pattern]
    url = user_of(guarded, [*patterns, *RULES[1:]])
    report = await examine(url, namespace="posts", rules=LEDGER_RULES[:2])
    assert report.code == 1
    assert "permission" in report.failures[-1].said


@in_loop
async def test_a_namespace_that_is_used_stays_as_it_is(
    valkey: ValkeyServer, namespace: str
) -> None:
    """Posts, layout and identity of a real ledger are neither touched nor met."""
    server = Client(valkey.url, valkey.url, {}, timeout=5)
    ledger = Ledger(server, namespace, "run-a", retention=3600.0)
    posts = [bytes([number]) * 16 for number in range(200)]
    try:
        await ledger.open()
        await ledger.confirm_many(posts)

        def all_keys() -> dict[str, Any]:
            names = valkey.ask("KEYS", f"vd1:{{{namespace}*")
            return {name: (valkey.ask("DUMP", name)) for name in names}

        before = all_keys()
        report = await examine(valkey.url, namespace=namespace)
        assert (report.code, report.left) == (0, "")
        assert all_keys() == before
        assert await ledger.seen_many(posts) == [True] * 200
    finally:
        await server.close()


@in_loop
async def test_evictions_are_told() -> None:
    """A server that may evict forgets in silence: that is said, and no reason to fail."""
    with ValkeyServer("--maxmemory-policy", "allkeys-lru", port=free_port()) as server:
        report = await examine(server.url)
    (told,) = [finding for finding in report.findings if finding.rule == "evictions"]
    assert (told.status, told.needed) == (Status.DIFFERS, False)
    assert "allkeys-lru" in told.said
    assert report.code == 0


@in_loop
async def test_a_full_server() -> None:
    """What it refuses is told rule by rule, in its own words."""
    with ValkeyServer("--maxmemory", "1", port=free_port()) as server:
        report = await examine(server.url)
    assert report.code == 1
    assert "start" in failures(report)
    assert any("maxmemory" in finding.said for finding in report.failures)


# -- without a server ----------------------------------------------------------------------------


def ended(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and all that was printed, which has no traceback and no secret."""
    code = main(words)
    told = "".join(capsys.readouterr())
    assert "Traceback" not in told
    assert SECRET not in told
    return code, told


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and why."""
    url = f"valkey://spider:{SECRET}@127.0.0.1:{free_port()}"
    code, told = ended([url, "--timeout=0.5"], capsys)
    assert code == 2
    assert "silent" in told
    assert "No Valkey answers" in told


OTHERS: dict[str, Callable[[bytes], bytes]] = {
    **REPLIES,
    "HTTP": lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "noise": lambda _: b"\0\xff\x16\x03" * 20 + b"\r\n",
    "a secret": lambda _: f"-ERR {SECRET}\r\n".encode(),
    "nothing": lambda _: b"",
    "a terminal's codes": lambda _: b"-ERR \x1b[2J\x07 \xff\r\n",
}


@pytest.mark.parametrize("reply", OTHERS.values(), ids=OTHERS)
@in_loop
async def test_something_else_on_the_port(reply: Callable[[bytes], bytes]) -> None:
    """A finding, whatever it says; never a secret that it repeats."""
    async with answering(reply) as url:
        report = await examine(url.replace("://", f"://user:{SECRET}@"), timeout=0.5)
    assert report.code in (1, 2)
    assert SECRET not in json.dumps(report.as_json())
    assert all(finding.line().isprintable() for finding in report.findings)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "name a URL"),
        (["http://user:hunter2@host"], "VALKEY_DEDUP_URL"),
        (["valkey://user:hunter2@host/x@y"], "percent-encode"),
        (["valkey://h", "--client-options", '{"password": "hunter2", "retry": 1}'], "sets retry"),
        (["valkey://h", "--client-options", '{"nope": "hunter2"}'], "unexpected keyword"),
        (["valkey://h", "--credentials", '{"password": "hunter2"}'], "names no"),
        (["valkey://h", "--timeout", "soon"], "VALKEY_DEDUP_TIMEOUT"),
    ],
)
def test_wrong_usage(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and what to write instead."""
    monkeypatch.delenv("VALKEY_DEDUP_URL", raising=False)
    code, told = ended(words, capsys)
    assert code == 2
    assert why in told


def test_the_url_may_come_from_the_environment(
    valkey: ValkeyServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no password stands on the command line."""
    user = user_of(valkey, ["+@all", "~*"])
    monkeypatch.setenv("VALKEY_DEDUP_URL", user)
    monkeypatch.setenv("VALKEY_DEDUP_CLIENT_OPTIONS", '{"socket_keepalive": true}')
    assert ended([], capsys)[0] == 0


class Keeper:
    """A provider of credentials, as VALKEY_DEDUP_CREDENTIALS may name one."""

    def __init__(self, user: str) -> None:
        self._user = user

    def get_credentials(self) -> tuple[str, str]:
        return self._user, SECRET


def test_credentials_of_a_provider(
    guarded: ValkeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the setting has them; each connection asks the provider."""
    user = user_of(guarded, RULES).removeprefix("valkey://").partition(":")[0]
    options = {"provider": f"{__name__}.Keeper", "user": user}
    code, told = ended([guarded.url, "--credentials", json.dumps(options)], capsys)
    assert code == 0
    assert ": all " in told.splitlines()[-1]
    assert (
        ended([guarded.url, "--credentials", json.dumps({**options, "user": "x"})], capsys)[0] == 1
    )


def test_wrong_credentials(guarded: ValkeyServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The server is there and refuses: exit code 1, without trying all the rest."""
    code, told = ended([url_of(guarded.url, "nobody")], capsys)
    assert code == 1
    assert len(told.splitlines()) == 4
    assert "refused" in told


@in_loop
async def test_a_server_that_goes_away_ends_it() -> None:
    """In the middle of it: no rule after that is waited for."""
    told: list[Finding] = []
    with ValkeyServer(port=free_port()) as server:

        def tell(finding: Finding) -> None:
            told.append(finding)
            if finding.rule == "start":
                server.kill()

        report = await examine(server.url, timeout=0.5, tell=tell)
    assert report.code == 1
    assert [finding.rule for finding in report.findings][-1] == "connect"
    assert len(report.findings) < 40
    assert report.left
    assert told[-1].rule == "cleaning"
    assert report.namespace in told[-1].said


# -- interrupted -----------------------------------------------------------------------------------


STOPS_BEFORE_THE_LAST_RULE = """
import asyncio, sys

from scrapy_valkey_dedup.selftest import __main__, examination
from scrapy_valkey_dedup.selftest.findings import Rule

async def stay(place):
    print("here", flush=True)
    await asyncio.Event().wait()

assert examination.RULES[-1].name == "heartbeat"
examination.examine.__kwdefaults__["rules"] = (*examination.RULES[:-1], Rule("stay", stay))
sys.exit(__main__.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(number: signal.Signals) -> None:
    """Ended early, it leaves the server as it was, and shows no traceback."""
    with ValkeyServer(port=free_port()) as server:
        command = [sys.executable, "-c", STOPS_BEFORE_THE_LAST_RULE, server.url]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            wait_until(lambda: run.stdout.readline() == "here\n")
            assert server.ask("KEYS", "*") != []
            run.send_signal(number)
            out, err = run.communicate(timeout=PATIENCE)
        assert run.returncode == 130
        assert "rules that the plugin needs" not in out
        (line,) = err.splitlines()
        assert line.startswith("Interrupted: the keys of the test are removed")
        assert server.ask("KEYS", "*") == []


def test_a_reader_that_has_read_enough(valkey: ValkeyServer) -> None:
    """As in ``| head``: no traceback, and nothing is left."""
    command = f"{sys.executable} -m scrapy_valkey_dedup.selftest {valkey.url} | head -3"
    ran = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=PATIENCE)
    assert len(ran.stdout.splitlines()) == 3
    assert ran.stderr == ""
    wait_until(lambda: not [key for key in valkey.ask("KEYS", "*") if "selftest" in key])
