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
    Awaitable,
    Callable,
    Coroutine,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, TypeVar

from scrapy_valkey_dedup.connections import Connections, Outcome
from scrapy_valkey_dedup.faults import NotHereError, error_in, leads_elsewhere, redirection
from scrapy_valkey_dedup.resp import Question, command
from scrapy_valkey_dedup.urls import CLUSTER, SENTINEL, ServerURL, redacted

Address: TypeAlias = tuple[str, int]
_Found = TypeVar("_Found")

_SLOTS = 16384
_OF_SENTINELS = "sentinel_kwargs"  # as valkey-py calls it
_CANCEL_AGAIN = 0.05  # seconds
_LOOK = 0.5  # seconds without an answer before each look whether another server is in charge


class Route(Protocol):
    """The way to the servers that answer."""

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Puts each question once, all at the same time; tells what came of each."""

    def place_of(self, key: str) -> Hashable:
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
    common = {"socket_timeout": attempt, "socket_connect_timeout": attempt, **options}
    of_sentinels = common.pop(_OF_SENTINELS, {})

    def connections(address: Address) -> Connections:
        return Connections(url.at(*address), place, common)

    if url.kind == CLUSTER:
        return Cluster(url.hosts, connections)
    if url.kind == SENTINEL:
        connections(url.hosts[0])  # finds what is wrong with the options now
        # User and password are those of the service; its Sentinels have others, or none.
        theirs = {**common, "username": None, "password": None, "db": 0, **of_sentinels}
        theirs.pop("credential_provider", None)
        asked = [Connections(url.without_user(*host), place, theirs) for host in url.hosts]
        return Sentinels(url.service, asked, connections)
    return Connections(url.text, place, common)


async def _first(
    asked: Iterable[Connections],
    question: Question,
    read: Callable[[Connections, Any], _Found | None],
) -> _Found:
    """Puts a question to several servers at once, and takes the first answer that can be read.

    Raises what one of them raised if there is none.
    """

    async def ask(connections: Connections) -> _Found | None:
        (outcome,) = await connections.exchange([question])
        if (error := error_in(outcome)) is not None:
            raise error
        assert isinstance(outcome, list)  # noqa: S101 (else it is an error)
        return read(connections, outcome[0])

    tasks = {asyncio.ensure_future(ask(connections)) for connections in asked}
    trouble: Exception = NotHereError("none of the servers of VALKEY_DEDUP_URL knows where to ask")
    try:
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None and (found := task.result()) is not None:
                    return found
                trouble = error if isinstance(error, Exception) else trouble
    finally:
        await _end(tasks)
    raise trouble


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended.

    More than once: on Python 3.10 valkey-py loses a cancellation that comes while it looks whether
    a connection is still good (``async_timeout`` takes it for its own), and reads on.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        done, tasks = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN)
        for task in done:
            if not task.cancelled():
                task.exception()  # so that nobody misses it


async def _unless_replaced(
    exchange: Coroutine[Any, Any, Sequence[Outcome]], is_replaced: Callable[[], Awaitable[bool]]
) -> Sequence[Outcome] | None:
    """What came of an exchange; None if the server is mute and another is in charge by now.

    A frozen server, or one behind a dead line, would else cost the whole time of an attempt, of
    which a deadline has two, though its successor may be there in the middle of the first.
    """
    asking = asyncio.ensure_future(exchange)

    async def watch() -> None:
        while not await is_replaced():  # noqa: ASYNC110 (no server tells of it unasked)
            await asyncio.sleep(_LOOK)

    watching = None
    try:
        await asyncio.wait([asking], timeout=_LOOK)
        if not asking.done():
            watching = asyncio.ensure_future(watch())
            await asyncio.wait([asking, watching], return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else None
    finally:
        asking.cancel()
        if watching is not None:
            watching.cancel()


class _Shared:
    """A piece of work that many wait for and that is under way once at most."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    async def done(self) -> None:
        """Returns when it was done once more; raises what it raised."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
            # Whoever waits for it may be cancelled: then nobody would look at how it failed.
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        task = self._task
        await asyncio.wait([task])  # who is cancelled here leaves it to the others
        task.result()

    async def close(self) -> None:
        """Gives it up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


class Sentinels:
    """The primary of a service, as its Sentinels name it; asked again when it fails."""

    def __init__(
        self,
        service: str,
        sentinels: Sequence[Connections],
        connect: Callable[[Address], Connections],
    ) -> None:
        self._question = Question("", (command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service),))
        self._service = service
        self._sentinels = sentinels
        self._connect = connect
        self._address: Address | None = None
        self._primary: Connections | None = None
        self._doubtful = True
        self._search = _Shared(self._find)

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Puts the questions to the primary."""
        try:
            if self._doubtful:
                await self._search.done()
        except Exception as error:  # noqa: BLE001 (it is known in faults.py what it means)
            return [error] * len(questions)
        primary = self._primary
        assert primary is not None  # noqa: S101 (found just now)

        async def is_replaced() -> bool:
            with suppress(Exception):  # Sentinels that do not answer name nobody else
                await self._search.done()
            return self._primary is not primary

        outcomes = await _unless_replaced(primary.exchange(questions), is_replaced)
        if outcomes is None:
            return [NotHereError("another server is the primary by now")] * len(questions)
        self._doubtful |= any(map(_is_doubtful, outcomes))
        return outcomes

    async def _find(self) -> None:
        address = await _first(self._sentinels, self._question, self._read)
        if address != self._address:
            former, self._primary = self._primary, self._connect(address)
            self._address = address
            if former is not None:
                await former.close()
        self._doubtful = False

    def _read(self, _: Connections, reply: Any) -> Address | None:
        if reply is None:
            raise NotHereError(f"the Sentinels know no service {self._service!r}")
        host, port = reply
        return host.decode(), int(port)

    def place_of(self, _: str) -> Hashable:
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

    def __init__(self, seeds: Sequence[Address], connect: Callable[[Address], Connections]) -> None:
        self._seeds = seeds
        self._connect = connect
        self._nodes = {address: connect(address) for address in seeds}
        self._owners: list[Address | None] = [None] * _SLOTS
        self._stale = True
        self._lesson = _Shared(self._learn)

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Puts each question to the node that serves it."""
        trouble: Exception = NotHereError("no node of the cluster serves the slot")
        try:
            if self._stale:
                await self._lesson.done()
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
                await self._lesson.done()
            return node not in {self._owners[slot_of(question.key)] for question in asked}

        found = await _unless_replaced(self._connections(node).exchange(asked), is_replaced)
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

    def _connections(self, node: Address) -> Connections:
        if node not in self._nodes:
            self._nodes[node] = self._connect(node)
        return self._nodes[node]

    async def _learn(self) -> None:
        """Asks all nodes that are known at once: whoever lives answers first."""
        question = Question("", (command("CLUSTER", "SLOTS"),))
        of_node = {connections: address for address, connections in self._nodes.items()}

        def read(connections: Connections, reply: Any) -> list[Address | None] | None:
            return _owners(reply, of_node[connections][0]) if reply else None

        self._owners = await _first(list(of_node), question, read)
        self._stale = False
        known = {*self._owners, *self._seeds}
        for address in [address for address in self._nodes if address not in known]:
            await self._nodes.pop(address).close()

    def place_of(self, key: str) -> Hashable:
        """The node that serves a key."""
        return self._owners[slot_of(key)]

    async def close(self) -> None:
        """Closes all connections."""
        await self._lesson.close()
        for connections in self._nodes.values():
            await connections.close()


def _is_doubtful(outcome: Outcome) -> bool:
    """Whether it may be another server by now that is to be asked."""
    return isinstance(outcome, Exception) or any(map(leads_elsewhere, outcome))


def _owners(ranges: Any, asked: str) -> list[Address | None]:
    """The primary of each slot, from the reply to CLUSTER SLOTS of the host that was ``asked``.

    Source: https://valkey.io/commands/cluster-slots (no host: the one that was asked).
    """
    owners: list[Address | None] = [None] * _SLOTS
    for first, last, primary, *_ in ranges:
        host = primary[0].decode() if primary[0] else asked
        if host != "?":
            owners[first : last + 1] = [(host, int(primary[1]))] * (last + 1 - first)
    return owners


@lru_cache(maxsize=4096)
def slot_of(key: str) -> int:
    """The slot of a key: that of what stands in its first braces, if anything does."""
    _, brace, rest = key.partition("{")
    tag, end, _ = rest.partition("}")
    return crc_hqx((tag if brace and end and tag else key).encode(), 0) % _SLOTS
