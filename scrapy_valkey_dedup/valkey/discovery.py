"""Questions about which server is in charge, to servers that may know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from scrapy_valkey_dedup.valkey.connections import NodeConnections, Outcome
from scrapy_valkey_dedup.valkey.errors import first_error, is_retryable
from scrapy_valkey_dedup.valkey.resp import Question

Address: TypeAlias = tuple[str, int]
_Found = TypeVar("_Found")


async def answer_of(
    connections: NodeConnections, question: Question, read: Callable[[Any], _Found]
) -> _Found:
    """What a server answers to a question of one command, as it is read; raises its error."""
    (outcome,) = await connections.exchange([question])
    if (error := first_error(outcome)) is not None:
        raise error
    assert isinstance(outcome, list)  # noqa: S101 (else it is an error)
    return read(outcome[0])


def may_have_moved(outcome: Outcome) -> bool:
    """Whether another server may be in charge by now."""
    return isinstance(outcome, Exception) or any(map(is_retryable, outcome))
