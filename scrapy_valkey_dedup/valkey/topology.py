"""Which server is to be asked: the one of the URL, the one that Sentinels name, a cluster's nodes.

valkey-py's own clients for Sentinel and cluster ask one server after the other, of which a frozen
one takes a whole time-out; its cluster client fails for all slots when one primary is away, and may
not recover when all were (valkey-py issues 327 and 334). What is needed here is little: every
question has one slot, and may be put again.
"""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections import defaultdict
from collections.abc import (
    Callable,
    Hashable,
    Mapping,
    Sequence,
)
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Protocol, TypeAlias, TypeVar

from scrapy_valkey_dedup.model import LedgerRefusedError
from scrapy_valkey_dedup.valkey.client_options import SENTINEL_KWARGS, option_faults
from scrapy_valkey_dedup.valkey.connections import NodeConnections, Outcome, refuse_options
from scrapy_valkey_dedup.valkey.credentials import with_provider
from scrapy_valkey_dedup.valkey.errors import NotHereError, first_error, is_retryable, redirection
from scrapy_valkey_dedup.valkey.quorum import SingleFlight, majority_answer, unless_replaced
from scrapy_valkey_dedup.valkey.resp import Question, command
from scrapy_valkey_dedup.valkey.urls import CLUSTER, SENTINEL, ServerURL, redacted

Address: TypeAlias = tuple[str, int]
Map: TypeAlias = tuple[Address | None, ...]
"""The primary of each slot; None where there is none."""
_Found = TypeVar("_Found")

SLOTS = 16384
_OF_USERS = ("username", "password", "credential_provider", "valkey_connect_func")


class Route(Protocol):
    """The way to the servers that answer."""

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Puts each question once, all at the same time; tells what came of each."""

    def node_of(self, key: str) -> Hashable:
        """Stands for the server that a key is asked at: what was loaded there is there."""

    async def close(self) -> None:
        """Closes all connections."""


def route_to(url: ServerURL, options: Mapping[str, Any], attempt: float) -> Route:
    """The route that a URL asks for. Connects to nothing yet.

    ``attempt``: seconds for one connection, or one reply, unless the options say otherwise.

    Raises:
        LedgerRefusedError: URL or options cannot be used.

    """
    place = redacted(url.text)
    refuse_options(place, "; ".join(option_faults(options)))
    common = {"socket_timeout": attempt, "socket_connect_timeout": attempt, **options}
    of_sentinels = common.pop(SENTINEL_KWARGS, None) or {}

    def connections(address: Address) -> NodeConnections:
        return NodeConnections(url.at(*address), place, common)

    if url.kind == CLUSTER:
        return Cluster(url.hosts, connections)
    if url.kind == SENTINEL:
        connections(url.hosts[0])  # finds what is wrong with the options now
        # User and password are those of the service; its Sentinels have others, or none.
        theirs = {
            **common,
            **dict.fromkeys(_OF_USERS),
            "db": 0,
            **with_provider(of_sentinels, None, attempt),
        }
        asked = [NodeConnections(url.without_user(*host), place, theirs) for host in url.hosts]
        return Sentinels(url.service, asked, connections)
    return NodeConnections(url.text, place, common)


async def _answer(
    connections: NodeConnections, question: Question, read: Callable[[Any], _Found]
) -> _Found:
    """What a server answers to a question of one command, as it is read; raises its error."""
    (outcome,) = await connections.exchange([question])
    if (error := first_error(outcome)) is not None:
        raise error
    assert isinstance(outcome, list)  # noqa: S101 (else it is an error)
    return read(outcome[0])


class Sentinels:
    """The primary of a service, as its Sentinels name it; asked again when it fails."""

    def __init__(
        self,
        service: str,
        sentinels: Sequence[NodeConnections],
        connect: Callable[[Address], NodeConnections],
    ) -> None:
        self._question = Question("", (command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service),))
        self._service = service
        self._sentinels = sentinels
        self._connect = connect
        self._address: Address | None = None
        self._primary: NodeConnections | None = None
        self._doubtful = True
        self._search = SingleFlight(self._find)

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Puts the questions to the primary."""
        try:
            if self._doubtful:
                await self._search.run()
        except Exception as error:  # noqa: BLE001 (it is known in errors.py what it means)
            return [error] * len(questions)
        primary = self._primary
        assert primary is not None  # noqa: S101 (found just now)

        async def is_replaced() -> bool:
            with suppress(Exception):  # Sentinels that do not answer name nobody else
                await self._search.run()
            return self._primary is not primary

        outcomes = await unless_replaced(primary.exchange(questions), is_replaced)
        if outcomes is None:
            return [NotHereError("another server is the primary by now")] * len(questions)
        self._doubtful |= any(map(_is_doubtful, outcomes))
        return outcomes

    async def _find(self) -> None:
        address = await majority_answer(
            _answer(sentinel, self._question, _address_in) for sentinel in self._sentinels
        )
        if address is None:
            raise LedgerRefusedError(
                f"the Sentinels know no service {self._service!r}: check its name in "
                "VALKEY_DEDUP_URL, and sentinel monitor in their configuration"
            )
        if address != self._address:
            former, self._primary = self._primary, self._connect(address)
            self._address = address
            if former is not None:
                await former.close()
        self._doubtful = False

    def node_of(self, _: str) -> Hashable:
        """All keys are at the primary."""
        return self._address

    async def close(self) -> None:
        """Closes all connections."""
        await self._search.close()
        for connections in (*self._sentinels, self._primary):
            if connections is not None:
                await connections.close()


class Cluster:
    """The nodes of Valkey Cluster. A question goes to the primary that serves its key's slot.

    A slot that is being migrated is waited for: ASK is not followed. The keys of a partition share
    a slot, but move one by one; a script that ran where half of them are would take remembered
    posts for new ones. Where they come from, a script that meets a key which has gone fails as a
    whole, and so it does with ASK; where they go to, nobody asks before all are there.
    """

    def __init__(
        self, seeds: Sequence[Address], connect: Callable[[Address], NodeConnections]
    ) -> None:
        self._seeds = seeds
        self._connect = connect
        self._nodes = {address: connect(address) for address in seeds}
        self._owners: list[Address | None] = [None] * SLOTS
        self._stale = True
        self._lesson = SingleFlight(self._learn)

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Puts each question to the node that serves it."""
        trouble: Exception = NotHereError("no node of the cluster serves the slot")
        try:
            if self._stale:
                await self._lesson.run()
        except Exception as error:  # noqa: BLE001 (what was known before may still do)
            trouble = error
        outcomes: list[Outcome] = [trouble] * len(questions)
        of_node: defaultdict[Address, list[int]] = defaultdict(list)
        for number, question in enumerate(questions):
            owner = self._owners[slot_of(question.key)]
            if owner is None:
                self._stale = True
            else:
                of_node[owner].append(number)
        await asyncio.gather(
            *(
                self._ask_node(node, questions, numbers, outcomes)
                for node, numbers in of_node.items()
            )
        )
        return outcomes

    async def _ask_node(
        self,
        node: Address,
        questions: Sequence[Question],
        numbers: Sequence[int],
        outcomes: list[Outcome],
    ) -> None:
        asked = [questions[number] for number in numbers]

        async def is_replaced() -> bool:
            with suppress(Exception):  # nodes that do not answer know no other
                await self._lesson.run()
            return node not in {self._owners[slot_of(question.key)] for question in asked}

        found = await unless_replaced(self._connections(node).exchange(asked), is_replaced)
        if found is None:
            found = [NotHereError("another node serves the slot by now")] * len(asked)
        for number, outcome in zip(numbers, found, strict=True):
            outcomes[number] = self._understood(node, questions[number], outcome)

    def _understood(self, node: Address, question: Question, outcome: Outcome) -> Outcome:
        """Learns from what came of a question."""
        if not isinstance(outcome, Exception):
            for reply in outcome:
                leads = redirection(reply)
                if leads is not None:
                    for_good, host, port = leads
                    if for_good:
                        self._owners[slot_of(question.key)] = (host or node[0], port)
                    return NotHereError(f"the slot is being migrated ({reply})")
        self._stale |= _is_doubtful(outcome)
        return outcome

    def _connections(self, node: Address) -> NodeConnections:
        if node not in self._nodes:
            self._nodes[node] = self._connect(node)
        return self._nodes[node]

    async def _learn(self) -> None:
        """Asks all nodes that are known at once: whoever lives answers first."""
        question = Question("", (command("CLUSTER", "SLOTS"),))
        self._owners = list(
            await majority_answer(
                _answer(connections, question, partial(_owners, address[0]))
                for address, connections in self._nodes.items()
            )
        )
        self._stale = False
        known = {*self._owners, *self._seeds}
        for address in [address for address in self._nodes if address not in known]:
            await self._nodes.pop(address).close()

    def node_of(self, key: str) -> Hashable:
        """The node that serves a key."""
        return self._owners[slot_of(key)]

    async def close(self) -> None:
        """Closes all connections."""
        await self._lesson.close()
        for connections in self._nodes.values():
            await connections.close()


def _address_in(reply: Any) -> Address | None:
    """The address that a Sentinel names; None if it does not know the service."""
    return None if reply is None else (reply[0].decode(), int(reply[1]))


def _is_doubtful(outcome: Outcome) -> bool:
    """Whether it may be another server by now that is to be asked."""
    return isinstance(outcome, Exception) or any(map(is_retryable, outcome))


def _owners(asked: str, ranges: Any) -> Map:
    """The primary of each slot, from the reply to CLUSTER SLOTS of the host that was ``asked``.

    Source: https://valkey.io/commands/cluster-slots (no host: the one that was asked).
    """
    if not ranges:
        raise NotHereError("the cluster serves no slots: look at its nodes")
    owners: list[Address | None] = [None] * SLOTS
    for first, last, primary, *_ in ranges:
        host = primary[0].decode() if primary[0] else asked
        if host != "?":
            owners[first : last + 1] = [(host, int(primary[1]))] * (last + 1 - first)
    return tuple(owners)


@lru_cache(maxsize=4096)
def slot_of(key: str) -> int:
    """The slot of a key: that of what stands in its first braces, if anything does."""
    _, brace, rest = key.partition("{")
    tag, end, _ = rest.partition("}")
    return crc_hqx((tag if brace and end and tag else key).encode(), 0) % SLOTS
