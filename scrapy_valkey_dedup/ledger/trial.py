"""The ledger of a trial: what it stores is remembered apart from what all others have stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

from scrapy_valkey_dedup.ledger.ledger import Also, Ledger
from scrapy_valkey_dedup.model import KEY_BYTES, Answer, Key, PostState, Token, Verdict
from scrapy_valkey_dedup.valkey.client import Client

_SEEN = Answer(Verdict.SEEN)
_ANY = bytes(KEY_BYTES)


class TrialLedger(Ledger):
    """A ledger in the namespace of a trial, which also knows what another namespace remembers.

    There it only looks. So whatever becomes of a trial, and whenever it is killed, what it has
    stored is new to all others, and what they have stored stays remembered. To forget the trial is
    to forget its namespace.
    """

    def __init__(
        self, server: Client, namespace: str, run: str, *, tried: str, **options: Any
    ) -> None:
        """``tried``: the namespace that is tried; ``options`` are those of any ledger."""
        super().__init__(server, namespace, run, **options)
        shelf, reset = options.get("shelf", ""), options.get("reset", False)
        self._tried = Ledger(server, tried, run, retention=None, shelf=shelf, reset=reset)
        self.probe.also_read = self._read_tried

    async def open(self, *, again: bool = False, also: Sequence[Also] = ()) -> None:
        """As any ledger; and the namespace that is tried must be one that can be read.

        Raises:
            LedgerRefusedError: as any ledger does.

        """
        if not again:
            await self._tried.exists()
            await self._read_tried()
        await super().open(again=again, also=also)

    async def _read_tried(self) -> None:
        await self._tried.seen_many([_ANY])

    async def claim_many(
        self,
        keys: Sequence[Key],
        dead: Iterable[Token] = (),
        number: int = 0,
        on_lost: Callable[[], None] | None = None,
    ) -> list[Answer]:
        """Claims what no run has stored. Claims are the trial's: no other run meets them."""
        known = await self._tried.seen_many(keys)
        left = [key for key, seen in zip(keys, known, strict=True) if not seen]
        answers = iter(await super().claim_many(left, dead, number, on_lost) if left else ())
        return [_SEEN if seen else next(answers) for seen in known]

    async def look_many(self, keys: Sequence[Key]) -> list[Answer]:
        """Tells what :meth:`claim_many` would answer; changes nothing."""
        known = await self._tried.seen_many(keys)
        own = await super().look_many(keys)
        return [_SEEN if seen else answer for seen, answer in zip(known, own, strict=True)]

    async def seen_many(self, keys: Sequence[Key]) -> list[bool]:
        """Tells which posts are remembered, by the trial or where all others look."""
        known = await self._tried.seen_many(keys)
        return [a or b for a, b in zip(known, await super().seen_many(keys), strict=True)]

    async def inspect_many(self, keys: Sequence[Key]) -> list[PostState]:
        """Tells until when posts are remembered, and the claims of the trial's runs."""
        known = await self._tried.inspect_many(keys)
        return [
            PostState(_later(each.until, own.until), own.holder)
            for each, own in zip(known, await super().inspect_many(keys), strict=True)
        ]


def _later(one: float | None, other: float | None) -> float | None:
    found = max(-inf if one is None else one, -inf if other is None else other)
    return None if found == -inf else found


def ledger_of(
    server: Client, namespace: str, run: str, *, tried: str | None = None, **options: Any
) -> Ledger:
    """The ledger of a namespace; of a trial's, if ``tried`` is another one."""
    if tried in (None, namespace):
        return Ledger(server, namespace, run, **options)
    assert tried is not None  # noqa: S101 (for the type checker)
    return TrialLedger(server, namespace, run, tried=tried, **options)
