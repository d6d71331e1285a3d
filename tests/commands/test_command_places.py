"""`scrapy dedup` wherever a ledger is: embedded, Sentinels, a cluster, Serverless (TLS, ACL)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.servers import SentinelSet, ValkeyCluster
from scrapy_valkey_dedup.ledger.permissions import RULES
from tests.support.processes.dedup_command import dedup, project
from tests.support.servers.standin import a_serverless, not_on_serverless

pytestmark = not_on_serverless("each of these servers is started once")

POST = ("--spider", "forum", "--item", "posts.items.Post")
PLACES: dict[str, Any] = {
    "embedded": lambda: nullcontext(SimpleNamespace(url=None)),
    "Sentinels": lambda: SentinelSet(0),
    "a cluster": lambda: ValkeyCluster(replicas=0),
    # With TLS, a user, and the rules that are reported of the real one.
    "Serverless": lambda: a_serverless(permissions=" ".join([*RULES, "+scan"])),
}


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the ledger is; None: in the project's own folder."""
    made: AbstractContextManager[Any] = PLACES[request.param]()
    with made as place:
        yield place.url


def test_every_verb(url: str | None, tmp_path: Path) -> None:
    """What is imported is known, and forgotten: a post, a trial, since a moment, as a whole."""
    here = project(tmp_path, VALKEY_DEDUP_URL=url)
    lines = "".join(f'{{"site": "x", "post_id": {number}}}\n' for number in range(1000))
    (here / "posts.jl").write_text(lines)

    def answer(*given: str) -> Any:
        ended = dedup(*given, "--json", directory=here)
        assert ended.code == 0, ended.err
        return ended.json

    assert answer("import", *POST, "posts.jl")["remembered"] == 1000
    assert answer("check", *POST, "posts.jl")["known"] == 1000
    one, other = ('{"site": "X", "post_id": 7}', '{"site": "X", "post_id": 8}')
    assert answer("forget", *POST, "--yes", one)["forgotten"] == 1
    assert [post["known"] for post in answer("check", *POST, one, other)["posts"]] == [False, True]
    held = answer("status")["holds"]
    assert [held[what]["entries"] for what in ("posts", "pages", "timelines")] == [999, 0, 0]
    ended = dedup("doctor", "--json", directory=here)
    levels = {each["what"]: each["level"] for each in ended.json["findings"]}
    assert ended.code == ("wrong" in levels.values()), ended.json
    assert levels["storing"] == "advice"  # the project stores nowhere, or with -o
    assert (levels["permissions"], levels["layout"]) == ("fine", "fine"), ended.json
    assert answer("import", *POST, "posts.jl", "--trial", "x")["remembered"] == 1000
    assert answer("forget", "--trial", "x", "--yes")["forgotten"] == 1000
    assert answer("check", *POST, "posts.jl")["known"] == 999
    assert answer("forget", "--since", "1d", "--yes")["posts"] == 999
    assert answer("import", *POST, "posts.jl")["remembered"] == 1000
    assert answer("forget", "--all", "namespace", "--yes")["posts"] == 1000
    assert answer("check", *POST, "posts.jl")["new"] == 1000
