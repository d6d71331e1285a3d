"""The way to the nodes of Valkey Cluster."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from scrapy_valkey_dedup.valkey.connections import NodeConnections, Outcome
from scrapy_valkey_dedup.valkey.discovery import Address, answer_of, may_have_moved
from scrapy_valkey_dedup.valkey.errors import NotHereError, redirection
from scrapy_valkey_dedup.valkey.quorum import SingleFlight, majority_answer, unless_replaced
from scrapy_valkey_dedup.valkey.resp import Question, command
from scrapy_valkey_dedup.valkey.slots import SLOTS, slot_of

SlotMap: TypeAlias = tuple[Address | None, ...]
"""The primary of each slot; None where there is none."""


class Cluster:
    """The nodes of Valkey Cluster. A question goes to the primary that serves its key's slot.

    ASK is not followed: a slot that is being migrated is waited for. The keys of a partition share
    a slot, but move one by one, and a script that ran where half of them are would take remembered
    posts for new ones. On the node that they leave, a script that needs a moved key fails as a
    whole. The node that they move to is not asked before all are there.
    """

    def __init__(
        self, seeds: Sequence[Address], connect: Callable[[Address], NodeConnections]
    ) -> None:
        self._seeds = seeds
        self._connect = connect
        self._nodes = {address: connect(address) for address in seeds}
        self._owners: list[Address | None] = [None] * SLOTS
        self._is_stale = True
        self._refresh = SingleFlight(self._read_slots)

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Asks each question of the node that serves it."""
        trouble: Exception = NotHereError("no node of the cluster serves the slot")
        try:
            if self._is_stale:
                await self._refresh.run()
        except Exception as error:  # noqa: BLE001 (what was known before may still be right)
            trouble = error
        outcomes: list[Outcome] = [trouble] * len(questions)
        of_node: defaultdict[Address, list[int]] = defaultdict(list)
        for number, question in enumerate(questions):
            owner = self._owners[slot_of(question.key)]
            if owner is None:
                self._is_stale = True
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
                await self._refresh.run()
            return node not in {self._owners[slot_of(question.key)] for question in asked}

        found = await unless_replaced(self._connections(node).exchange(asked), is_replaced)
        if found is None:
            found = [NotHereError("another node serves the slot by now")] * len(asked)
        for number, outcome in zip(numbers, found, strict=True):
            outcomes[number] = self._redirected(node, questions[number], outcome)

    def _redirected(self, node: Address, question: Question, outcome: Outcome) -> Outcome:
        """Learns from what came of a question."""
        if not isinstance(outcome, Exception):
            for reply in outcome:
                leads = redirection(reply)
                if leads is not None:
                    for_good, host, port = leads
                    if for_good:
                        self._owners[slot_of(question.key)] = (host or node[0], port)
                    return NotHereError(f"the slot is being migrated ({reply})")
        self._is_stale |= may_have_moved(outcome)
        return outcome

    def _connections(self, node: Address) -> NodeConnections:
        if node not in self._nodes:
            self._nodes[node] = self._connect(node)
        return self._nodes[node]

    async def _read_slots(self) -> None:
        """Asks all known nodes at once: the first one alive answers."""
        question = Question("", (command("CLUSTER", "SLOTS"),))
        self._owners = list(
            await majority_answer(
                answer_of(connections, question, partial(_owners, address[0]))
                for address, connections in self._nodes.items()
            )
        )
        self._is_stale = False
        known = {*self._owners, *self._seeds}
        for address in [address for address in self._nodes if address not in known]:
            await self._nodes.pop(address).close()

    def node_of(self, key: str) -> Hashable:
        """The node that serves a key."""
        return self._owners[slot_of(key)]

    async def close(self) -> None:
        """Closes all connections."""
        await self._refresh.close()
        for connections in self._nodes.values():
            await connections.close()


def _owners(asked: str, ranges: Any) -> SlotMap:
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
