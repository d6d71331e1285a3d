"""Which server is asked: what most Sentinels say, and how a URL names servers and databases."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from scrapy_valkey_dedup.valkey.quorum import majority_answer
from scrapy_valkey_dedup.valkey.urls import database, parsed
from tests.support.patience import PATIENCE, in_loop


@pytest.mark.parametrize(
    "answers",
    [
        [("new", 0.02), ("old", 0), ("new", 0.02)],
        [(OSError("gone"), 0), ("new", 0.02)],
        [("new", 0), ("old", 3600), (OSError("gone"), 0), (OSError("gone"), 0.01)],
    ],
)
@in_loop
async def test_most_of_the_servers_are_believed(answers: list[tuple[Any, float]]) -> None:
    """Not the fastest, which may be cut off from the others; a frozen one is not waited for."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def answer(said: Any, delay: float) -> str:
        await asyncio.sleep(delay)
        if isinstance(said, Exception):
            raise said
        return str(said)

    assert (
        await asyncio.wait_for(majority_answer(answer(*said) for said in answers), PATIENCE)
        == "new"
    )
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


def test_sentinels_are_not_given_what_is_the_services() -> None:
    """User, password and database in a URL are those of the data servers, wherever they stand."""
    url = parsed("valkey+sentinel://u:pw@h:1/svc?db=1&password=pw&username=u&socket_keepalive=yes")
    assert url.without_user("h", 1) == "valkey://h:1?socket_keepalive=yes"
    assert url.at("h", 1) == ("valkey://u:pw@h:1?db=1&password=pw&username=u&socket_keepalive=yes")


@pytest.mark.parametrize(
    ("url", "options", "number"),
    [
        ("valkey://h", {}, "0"),
        ("valkey://h/2", {}, "2"),
        ("valkey://h/2?db=3", {}, "3"),
        ("unix:///tmp/s?db=4", {}, "4"),
        ("unix:///tmp/s", {"db": 5}, "5"),
        ("valkey://h/2", {"db": 5}, "2"),
    ],
)
def test_which_database(url: str, options: dict[str, Any], number: str) -> None:
    """As valkey-py reads it: the query goes before the path, and the URL before the options."""
    assert database(url, options) == number
