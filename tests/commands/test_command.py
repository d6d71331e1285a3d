"""`scrapy dedup`: the frame, and the verb `check`."""

from __future__ import annotations

import importlib.util
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.ledger.ledger import Ledger
from tests.support.ledgers import in_embedded_ledger, in_ledger
from tests.support.processes.dedup_command import (
    Ended,
    dedup,
    key_of_post,
    on_terminal,
    project,
    run,
)
from tests.support.servers.embedded import is_free

POST = ("--spider", "forum", "--item", "posts.items.Post")
ONE = '{"site": "X", "post_id": 1}'


@pytest.fixture
def here(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Path:
    """A project on the session's server."""
    return project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)


def test_check_explains_a_post(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Rule, kind, fields before and after, key and standing are those of the spider's pipeline."""

    async def stored(ledger: Ledger) -> None:
        await ledger.confirm_many([key_of_post(1)])
        await ledger.runs.write_heartbeat(1, 3600)
        await ledger.claim_many([key_of_post(2)])

    in_ledger(valkey.url, namespace, stored)
    two = '{"site": "X", "post_id": 2, "title": "anything"}'
    ended = dedup("check", *POST, ONE, two, "--json", directory=here)
    assert ended.code == 0, ended.err
    first, second = ended.json["posts"]
    assert first["key"] == key_of_post(1).hex()
    assert first["decided_by"] == "VALKEY_DEDUP_FIELDS, for all classes"
    assert first["kind"] == "spider 'forum', class posts.items:Post, fields site, post_id"
    assert first["fields"] == [
        {"name": "site", "value": "'X'", "normalisers": ["casefold"], "normalised": "'x'"},
        {"name": "post_id", "value": "1", "normalisers": [], "normalised": "1"},
    ]
    assert first["known"] is True
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", first["kept_until"])
    assert (first["claimed_by"], second["known"]) == (None, False)
    assert (second["claimed_by"], second["claim_is_alive"]) == ("outsider", True)


def test_check_on_a_terminal(here: Path) -> None:
    """On a terminal the same is shown as tables, without what the terminal would obey."""
    ended = on_terminal("check", *POST, r'{"site": "\u001b[2Jx", "post_id": 1}', directory=here)
    assert ended.code == 0, ended.out
    assert "\x1b[2J" not in ended.out
    assert r"'\x1b[2Jx'" in ended.plain
    assert "no: new" in ended.plain


def test_check_counts_a_file(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """Known, new, twins, bad, without identity: each reason is told with its first line."""

    async def stored(ledger: Ledger) -> None:
        await ledger.confirm_many([key_of_post(number) for number in range(10)])

    in_ledger(valkey.url, namespace, stored)
    lines = [json.dumps({"site": "x", "post_id": number}) for number in range(30)]
    lines += [lines[0], lines[29], "", '{"site": "x"}', "not JSON", "[1]"]
    ended = dedup("check", *POST, "--json", directory=here, stdin="\n".join(lines))
    assert ended.code == 1, ended.err
    found = ended.json
    assert [found[name] for name in ("records", "known", "new", "duplicates")] == [35, 10, 20, 2]
    assert list(found["without_identity"].values()) == [{"count": 1, "first_line": 34}]
    assert sorted(each["first_line"] for each in found["bad"].values()) == [35, 36]

    (here / "posts.jl").write_text("\n".join(lines))
    ended = run("check", *POST, "posts.jl", directory=here)
    assert ended.code == 1
    assert re.search(r"^new +20$", ended.out, re.MULTILINE)
    assert "from line 34: its field 'post_id' is missing or empty" in ended.out


def test_check_of_an_embedded_ledger(tmp_path: Path) -> None:
    """The embedded server is started and stopped; without one nothing is made, and it is told."""
    here = project(tmp_path)
    folder = tmp_path / ".scrapy" / "valkey-dedup"
    ended = dedup("check", *POST, ONE, directory=here)
    assert ended.code == 2
    assert "there is no ledger yet" in ended.err
    assert not folder.exists()

    in_embedded_ledger(folder, lambda ledger: ledger.confirm_many([key_of_post(1)]))
    ended = dedup("check", *POST, ONE, "--json", directory=here)
    assert ended.code == 0, ended.err
    assert ended.json["posts"][0]["kept_until"] == "forever"
    assert is_free(folder / "server.lock")


def test_check_outside_a_project(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> None:
    """It needs a URL, a namespace, and what identifies a post, each on the command line."""
    ended = dedup(
        "-s", "VALKEY_DEDUP_FIELDS=post_id", "check", "--url", valkey.url, "--json",
        "--namespace", namespace, "-s", "VALKEY_DEDUP_SCOPE=project", '{"post_id": 1}',
        directory=tmp_path,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.json["posts"][0]["key"] == digest([None, "dict", ["post_id"]], [1]).hex()
    assert ended.json["namespace"] == namespace


def test_outside_a_project_the_spider_is_asked_for(tmp_path: Path, valkey: ValkeyServer) -> None:
    """Whose posts they are has to be said; no advice makes posts of another identity of them."""
    ended = dedup("check", "--url", valkey.url, ONE, directory=tmp_path)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "--spider NAME; there is no project here" in ended.err
    assert "SCOPE=project" not in ended.err


def test_outside_a_project_the_fields_are_asked_for(
    tmp_path: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """Without FIELDS all fields identify a post: each verb that takes posts says it, once."""
    where = ("--url", valkey.url, "--namespace", namespace, "--spider", "posts")
    (tmp_path / "posts.jl").write_text('{"post_id": 1}\n')
    fields = ("-s", "VALKEY_DEDUP_FIELDS=post_id")
    for verb in (("check",), ("import", "--dry-run"), ("import",), ("forget", "--yes")):
        ended = dedup(*verb, *where, "posts.jl", directory=tmp_path)
        assert ended.code == 0, ended.err
        assert "all fields of a post identify it" in ended.err, verb
        assert ended.err.count("there is no project here") == 1
        assert "-s VALKEY_DEDUP_FIELDS=" in ended.err
    ended = dedup("check", *where, *fields, "posts.jl", directory=tmp_path)
    assert (ended.code, ended.err) == (0, "")


def test_check_with_a_user_who_may_only_read(
    here: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """The permissions that docs/security.md names for it are enough."""
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    (rules,) = re.findall(r"ACL SETUSER reader on >PASSWORD (.*?)\n```", page, re.DOTALL)
    valkey.ask("ACL", "SETUSER", f"reader-{namespace}", "on", ">secret", *rules.split())
    url = valkey.url.replace("://", f"://reader-{namespace}:secret@")
    ended = dedup("check", *POST, "--url", url, ONE, "--json", directory=here)
    assert ended.code == 0, ended.err
    assert ended.json["posts"][0]["known"] is False
    assert "secret" not in ended.out


WRONG = {
    "unknown verb": (["chekc", ONE], "unknown verb 'chekc': did you mean check?"),
    "no verb": ([], "no verb: there are check"),
    "unknown option": (["check", "--itme", "x"], "unrecognized arguments: --itme"),
    "no such spider": (["check", "--spider", "fourm", ONE], "did you mean forum?"),
    "no spider": (["check", ONE], "--spider NAME (forum, news)"),
    "no such rename": (["check", *POST, "--rename", "a=b", ONE], "--rename a=...: no post has"),
    "no such class": (["check", "--item", "posts.items.Pots", ONE], "cannot be imported"),
    "not a class": (["check", "--item", "posts.items.not_an_item", ONE], "not an item class"),
    "no JSON": (["check", *POST, "{1}"], "not a JSON object"),
    "no object": (["check", *POST, "{}", "[]"], "not a JSON object"),
    "an unset field": (["check", *POST, "posts.csv"], "they have sitename, post_id"),
    "no such file": (["check", *POST, "gone.jl"], "gone.jl: No such file"),
    "a folder": (["check", *POST, "posts"], "posts: Is a directory"),
    "binary": (["check", *POST, "binary.jl"], "binary.jl is a binary file"),
    "unknown format": (["check", *POST, "posts.txt"], "--format takes jsonlines"),
    "not compressed": (["check", *POST, "broken.jl.gz"], "cannot be read"),
    "no query": (["check", *POST, "posts.db"], "--query"),
    "no type": (["check", *POST, "--type", "a=b", ONE], "there is no 'b'; there are bool"),
    "not a setting": (["check", *POST, "-s", "nothing", ONE], "-s and -a take NAME=VALUE"),
    "a wrong setting": (["check", *POST, "-s", "VALKEY_DEDUP_WAIT=x", ONE], "VALKEY_DEDUP_WAIT"),
    "a wrong password": (["check", *POST, "--url", "{password}", ONE], "refuses"),
    "an outage": (["check", *POST, "--url", "{nobody}", ONE], "gave no answer within 0.5 s"),
}


def test_what_cannot_be_done_is_one_line(here: Path, valkey: ValkeyServer) -> None:
    """Each wrong word has one line with the cure, no traceback, and the exit code 2."""
    (here / "posts.csv").write_text("sitename,post_id\nx,1\n")
    (here / "posts.db").write_bytes(b"")
    (here / "posts.txt").write_text("{}")
    (here / "binary.jl").write_bytes(bytes(range(256)))
    (here / "broken.jl.gz").write_bytes(b"\x1f\x8b\x08rubbish")
    urls = {
        "{password}": valkey.url.replace("://", "://nobody:hunter2@"),
        "{nobody}": f"valkey://127.0.0.1:{free_port()}",
    }

    def run(name: str) -> tuple[str, Ended]:
        given = [urls.get(word, word) for word in WRONG[name][0]]
        options = ["-s", "VALKEY_DEDUP_TIMEOUT=0.5"]
        return name, dedup(*options, *given, directory=here)

    with ThreadPoolExecutor(3) as pool:
        for name, ended in pool.map(run, WRONG):
            assert ended.code == 2, (name, ended)
            assert "Traceback" not in ended.err, (name, ended.err)
            assert WRONG[name][1] in ended.err, (name, ended.err)
            assert ended.err.count("\n") == 1, (name, ended.err)
            assert "hunter2" not in ended.err


def test_an_error_for_machines(here: Path) -> None:
    """With --json an error is an object, too."""
    ended = dedup("check", "--json", "--item", "posts.items.Pots", ONE, directory=here)
    assert ended.code == 2
    assert "posts.items.Pots" in ended.json["error"]


def test_help_has_an_example_for_each_verb(tmp_path: Path) -> None:
    """Help names all verbs, and of each verb its options and an example."""
    ended = dedup("--help", directory=tmp_path)
    listed = re.findall(r"^  (\w+) +[A-Z]", ended.out, re.MULTILINE)
    assert {"check"} <= set(listed)
    with ThreadPoolExecutor(3) as pool:
        for name, shown in zip(
            listed, pool.map(lambda name: dedup(name, "--help", directory=tmp_path), listed),
            strict=True,
        ):  # fmt: skip
            assert shown.code == 0, shown.err
            assert f"\n  scrapy dedup {name} " in shown.out
            assert "--namespace" in shown.out


def test_without_rich(here: Path) -> None:
    """Where rich is not installed a terminal has plain lines, and all works."""
    (here / "rich.py").write_text("raise ImportError\n")
    ended = on_terminal("check", *POST, ONE, directory=here)
    assert ended.code == 0, ended.out
    assert re.search(r"^post_id +1 +1\r$", ended.out, re.MULTILINE)
    assert importlib.util.find_spec("rich")
