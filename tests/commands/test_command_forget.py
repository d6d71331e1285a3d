"""`scrapy dedup forget`: what is named is new again, and nothing else is touched."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from time import time
from typing import Any

import pytest

from bench.servers import ValkeyCluster, ValkeyServer
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.valkey.urls import redacted
from tests.support.ledgers import in_ledger, keys_of
from tests.support.processes.dedup_command import (
    dedup,
    key_of_post,
    on_terminal,
    project,
)
from tests.support.servers.standin import not_on_serverless

pytestmark = not_on_serverless("they make users, and look at all keys")

POST = ("--spider", "forum", "--item", "posts.items.Post")
NUMBERS = range(200)


@pytest.fixture
def here(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Path:
    """A project on the session's server."""
    return project(tmp_path, VALKEY_DEDUP_URL=valkey.url, VALKEY_DEDUP_NAMESPACE=namespace)


def json_of(number: int) -> str:
    """The spider forum's post."""
    return json.dumps({"site": "X", "post_id": number})


def store(url: str, namespace: str, shelf: str = "") -> None:
    """Remembers the posts, or as many pages or sightings."""

    async def stored(ledger: Ledger) -> None:
        await ledger.confirm_many([key_of_post(number) for number in NUMBERS])

    in_ledger(url, namespace, stored, shelf=shelf)


def known(url: str, namespace: str, shelf: str = "") -> list[int]:
    """Which of them are remembered."""

    async def look(ledger: Ledger) -> list[bool]:
        return await ledger.seen_many([key_of_post(number) for number in NUMBERS])

    found = in_ledger(url, namespace, look, shelf=shelf)
    return [number for number, seen in zip(NUMBERS, found, strict=True) if seen]


def test_forget_one_post(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """It is new again; no other post is, nor the same one in another namespace."""
    store(valkey.url, namespace)
    store(valkey.url, f"{namespace}.b")
    ended = dedup("forget", *POST, "--yes", "--json", json_of(7), json_of(999), directory=here)
    assert ended.code == 0, ended.err
    assert [ended.json[name] for name in ("records", "known", "forgotten")] == [2, 1, 1]
    assert known(valkey.url, namespace) == [number for number in NUMBERS if number != 7]
    assert known(valkey.url, f"{namespace}.b") == list(NUMBERS)


def test_forget_asks_first(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """On a terminal it says how many, and forgets after "y"; elsewhere it needs --yes."""
    store(valkey.url, namespace)
    ended = dedup("forget", "--all", "namespace", directory=here)
    assert "Forget 200 posts in the namespace" in ended.err  # one generation: exact; no zeros
    (here / "posts.jl").write_text("\n".join(map(json_of, range(190, 210))) + "\n{}\n")
    given = ("forget", *POST, "posts.jl")

    ended = dedup(*given, directory=here)
    assert ended.code == 2
    assert "Forget 10 posts of 21 in the namespace" in ended.err
    assert "--yes" in ended.err
    ended = on_terminal(*given, directory=here, typed="n\n")
    assert "Nothing was forgotten" in ended.out
    ended = on_terminal(*given, directory=here, interrupted_at="[y/N]")
    assert "Nothing was forgotten" in ended.out, ended.out
    assert known(valkey.url, namespace) == list(NUMBERS)

    ended = on_terminal(*given, directory=here, typed="y\n")
    assert ended.code == 1, ended.out  # a post has no identity
    assert re.search(r"forgotten\s+10", ended.plain), ended.out
    assert "from line 21" in ended.out
    assert known(valkey.url, namespace) == list(range(190))


def test_what_a_live_run_has_claimed_is_told(
    here: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """Its claims are told and not taken; a dead run's are not told."""
    numbers = {"outsider": 500, "dead": 501}

    async def claim(ledger: Ledger) -> None:
        await ledger.claim_many([key_of_post(numbers[ledger.run])])
        if ledger.run == "outsider":
            await ledger.runs.write_heartbeat(1, 3600)

    for run in numbers:
        in_ledger(valkey.url, namespace, claim, run=run)
    for given in ([json_of(500), json_of(501), *POST], ["--all", "posts"]):
        ended = dedup("forget", "--yes", "--json", *given, directory=here)
        assert ended.code == 0, ended.err
        assert ended.json["claimed_by_living_runs"] == {"outsider": 1}
        assert "live runs (outsider) have 1 open claim on posts" in ended.err

    async def is_held(ledger: Ledger) -> Any:
        return (await ledger.inspect_many([key_of_post(500)]))[0].holder

    assert in_ledger(valkey.url, namespace, is_held) == "outsider"


def test_runs_of_a_trial_are_told_with_the_whole_namespace(
    here: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """A live trial's claims are told, and its ledger stays: so does what waits on the disk.

    Its ledger stays, too, when the run has no claim at that moment.
    """
    trial = f"{namespace}+trial-x"

    async def claim(ledger: Ledger) -> None:
        await ledger.claim_many([key_of_post(500)])
        await ledger.runs.write_heartbeat(1, 3600)

    store(valkey.url, namespace)
    in_ledger(valkey.url, trial, claim, run="trier")
    before = valkey.ask("GET", f"vd1:{{{trial}}}:id")
    folder = here / ".scrapy" / "valkey-dedup" / "spool"
    spool = Spool(folder, f"{redacted(valkey.url)} 0\n{namespace}", "")
    spool.learn("a-ledger")
    assert spool.write(b"".join(map(key_of_post, range(300, 307))))

    ended = dedup("forget", "--all", "namespace", "--yes", "--json", directory=here)
    assert ended.code == 0, ended.err
    assert ended.json["forgotten"] == len(NUMBERS)
    assert ended.json["claimed_by_living_runs"] == {"trier": 1}
    assert valkey.ask("GET", f"vd1:{{{trial}}}:id") == before
    assert "7 posts that were stored in an outage wait on this machine's disk" in ended.err

    async def settle(ledger: Ledger) -> None:
        await ledger.confirm_many([key_of_post(500)])
        (claim,) = await ledger.inspect_many([key_of_post(500)])
        assert claim.holder is None

    in_ledger(valkey.url, trial, settle, run="trier")
    store(valkey.url, namespace)
    ended = dedup("forget", "--all", "namespace", "--yes", "--json", directory=here)
    assert ended.json["claimed_by_living_runs"] == {}
    assert valkey.ask("GET", f"vd1:{{{trial}}}:id") == before
    assert "7 posts that were stored in an outage wait" in ended.err


def test_forget_a_namespace_or_a_part_of_it(
    here: Path, valkey: ValkeyServer, namespace: str
) -> None:
    """Pages, timelines or all: exactly these; namespaces whose names begin so stay as they are."""
    others = (f"{namespace}.b", f"{namespace}0", f"{namespace}-", f"{namespace}:00", "*")
    for other in (namespace, *others):
        store(valkey.url, other)
    for shelf in ("pages", "timelines"):
        store(valkey.url, namespace, shelf)
        store(valkey.url, others[0], shelf)
    for each in (namespace, f"{namespace}+trial-x", others[0]):
        in_ledger(valkey.url, each, write_history)

    def keys() -> Counter[str]:
        found = [key for name in (namespace, *others[-2:]) for key in keys_of(valkey, name)]
        return Counter(key.split("}")[0] for key in found)

    before = keys()
    ended = dedup("forget", "--all", "pages", "--yes", "--json", directory=here)
    assert ended.code == 0, ended.err
    assert ended.json["pages"] == ended.json["forgotten"] == 200
    assert known(valkey.url, namespace, "pages") == []
    assert known(valkey.url, namespace, "timelines") == known(valkey.url, namespace)
    assert known(valkey.url, namespace) == list(NUMBERS)

    ended = dedup("forget", "--all", "namespace", "--yes", directory=here)
    assert ended.code == 0, ended.err
    after = keys()
    assert not [key for key in after if re.match(rf"vd1:\{{{namespace}([:+]|$)", key)]
    mine = re.compile(rf"vd1:\{{{namespace}([:+]|$)")
    assert after == {key: count for key, count in before.items() if not mine.match(key)}


async def write_history(ledger: Ledger) -> None:
    """What a run writes for `scrapy dedup report`."""
    await ledger.history.add("posts", [1], [0], time(), 7)


def test_forget_in_a_cluster(tmp_path: Path, namespace: str) -> None:
    """On three nodes one post is found where it is, and a namespace wherever it is."""
    with ValkeyCluster(replicas=0) as cluster:
        here = project(tmp_path, VALKEY_DEDUP_URL=cluster.url, VALKEY_DEDUP_NAMESPACE=namespace)
        store(cluster.url, namespace)
        ended = dedup("forget", *POST, "--yes", json_of(7), directory=here)
        assert ended.code == 0, ended.err
        ended = dedup("check", *POST, "--json", json_of(7), json_of(8), directory=here)
        assert [post["known"] for post in ended.json["posts"]] == [False, True]
        ended = dedup("forget", "--all", "namespace", "--yes", "--json", directory=here)
        assert ended.code == 0, ended.err
        assert ended.json["forgotten"] == 199
        assert [node.ask("DBSIZE") for node in cluster.nodes] == [0] * len(cluster.nodes)


def test_what_forget_may_do(here: Path, valkey: ValkeyServer, namespace: str) -> None:
    """For posts a spider's permissions are enough; for a namespace SCAN is needed besides."""
    store(valkey.url, namespace)
    user = f"user-{namespace}"
    valkey.ask("ACL", "SETUSER", user, "on", ">secret", *RULES)
    url = valkey.url.replace("://", f"://{user}:secret@")
    ended = dedup("forget", *POST, "--yes", "--url", url, json_of(7), directory=here)
    assert ended.code == 0, ended.err
    given = ("forget", "--all", "posts", "--yes", "--url", url)
    ended = dedup(*given, directory=here)
    assert ended.code == 2
    assert "scan" in ended.err
    assert "secret" not in ended.err
    valkey.ask("ACL", "SETUSER", user, "+scan")
    ended = dedup(*given, directory=here)
    assert ended.code == 0, ended.err
    assert known(valkey.url, namespace) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "nothing to forget is given"),
        (["--all", "namespace", "--namespace", "nosuch", "--yes"], "no ledger of the namespace"),
        (["--namespace", "nosuch", *POST, "{}"], "no ledger of the namespace 'nosuch'"),
        (["--trial", "nosuch", *POST, "{}"], "there is no trial 'nosuch' of the namespace"),
        (["--all", "posts", "posts.jl"], "--all takes no posts"),
        (["--all", "everything"], "choose from"),
    ],
)
def test_what_cannot_be_forgotten(here: Path, given: list[str], said: str) -> None:
    """What is not said clearly is refused."""
    ended = dedup("forget", *given, directory=here)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
