"""The way to the primary that Sentinels name."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any

from scrapy_valkey_dedup.model import LedgerRefusedError
from scrapy_valkey_dedup.valkey.connections import NodeConnections, Outcome
from scrapy_valkey_dedup.valkey.discovery import Address, answer_of, may_have_moved
from scrapy_valkey_dedup.valkey.errors import NotHereError
from scrapy_valkey_dedup.valkey.quorum import SingleFlight, majority_answer, unless_replaced
from scrapy_valkey_dedup.valkey.resp import Question, command


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
        self._is_stale = True
        self._search = SingleFlight(self._find)

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Asks the questions of the primary."""
        try:
            if self._is_stale:
                await self._search.run()
        except Exception as error:  # noqa: BLE001 (errors.py knows what it means)
            return [error] * len(questions)
        primary = self._primary
        assert primary is not None  # noqa: S101 (found just now)

        async def is_replaced() -> bool:
            with suppress(Exception):  # Sentinels that do not answer name no other server
                await self._search.run()
            return self._primary is not primary

        outcomes = await unless_replaced(primary.exchange(questions), is_replaced)
        if outcomes is None:
            return [NotHereError("another server is the primary by now")] * len(questions)
        self._is_stale |= any(map(may_have_moved, outcomes))
        return outcomes

    async def _find(self) -> None:
        address = await majority_answer(
            answer_of(sentinel, self._question, _address_in) for sentinel in self._sentinels
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
        self._is_stale = False

    def node_of(self, _: str) -> Hashable:
        """All keys are at the primary."""
        return self._address

    async def close(self) -> None:
        """Closes all connections."""
        await self._search.close()
        for connections in (*self._sentinels, self._primary):
            if connections is not None:
                await connections.close()


def _address_in(reply: Any) -> Address | None:
    """The address that a Sentinel names; None if it does not know the service."""
    return None if reply is None else (reply[0].decode(), int(reply[1]))
