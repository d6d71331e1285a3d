"""The door to Valkey: deadlines, retries, scripts, and errors that are ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from time import time
from typing import Any

from scrapy_valkey_dedup.connections import Outcome
from scrapy_valkey_dedup.credentials import Provider, with_provider
from scrapy_valkey_dedup.faults import (
    Cure,
    error_in,
    explained,
    fault,
    is_unforeseen,
    lacks_script,
    translated,
)
from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError, LedgerUnavailableError
from scrapy_valkey_dedup.resp import Question, ScriptCall, command
from scrapy_valkey_dedup.topology import route_to
from scrapy_valkey_dedup.urls import parsed

_SLICES = 10
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts


class Server:
    """A Valkey (one server, a cluster), asked in pipelines within one deadline for all attempts.

    Every command sent from here may be sent again, as its reply may be lost: callers send only what
    means the same twice.

    Raises, from every method that asks: :class:`LedgerUnavailableError`,
    :class:`LedgerRefusedError`; never an exception of valkey-py.
    """

    def __init__(  # noqa: PLR0913 (all that a connection depends on)
        self,
        url: str,
        place: str,
        options: Mapping[str, Any],
        timeout: float,
        revive: Callable[[], object] | None = None,
        *,
        credentials: Provider | None = None,
    ) -> None:
        """``place`` is the URL as messages may show it; ``timeout`` is in seconds.

        ``credentials``, if there are any, are asked for by each connection that is made.

        ``revive`` is called in a thread when a connection fails, before the next attempt: it may
        block, and start a server that has died.
        """
        self._place = place
        self._timeout = timeout
        self._revive = revive
        self._revival: asyncio.Future[DedupError | None] | None = None
        self._trouble: BaseException | None = None
        self._has_answered = False
        # Half the deadline for one attempt: a connection that went dead unnoticed, as behind a NAT
        # gateway or at a failover, is replaced while the question still has time.
        try:
            understood = parsed(url)
        except ValueError as error:
            raise LedgerRefusedError(f"VALKEY_DEDUP_URL {place}: {error}") from None
        attempt = timeout / 2
        self._route = route_to(understood, with_provider(options, credentials, attempt), attempt)

    async def ask(self, *commands: bytes, key: str = "") -> list[Any]:
        """Returns the replies to commands, sent in one round trip.

        ``key``: one of those that they touch; all share its hash tag.
        """
        (replies,) = await self._within_deadline([Question(key, commands)])
        return replies

    async def run(
        self,
        calls: Sequence[ScriptCall],
        within: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Returns a reply for each call, all in one round trip; loads scripts the server lacks.

        ``within``: seconds after the first attempt in which the calls mean the same if they are
        made again; None: forever. ``on_lost`` is called when an attempt was given up without a
        reply: it may have arrived, and it may still arrive.
        """
        questions = [Question(call.key, (call.command(),), call.script) for call in calls]
        asked = await self._within_deadline(questions, within, on_lost)
        return [replies[-1] for replies in asked]

    def place_of(self, key: str) -> Hashable:
        """Stands for the server that a key is asked at, once one has answered."""
        return self._route.place_of(key)

    async def close(self) -> None:
        """Closes all connections."""
        await self._route.close()

    async def _within_deadline(
        self,
        questions: Sequence[Question],
        within: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> list[list[Any]]:
        # Not wait_for, which before Python 3.12 may swallow a cancellation, and which waits until
        # what it has cancelled has ended.
        self._trouble = None
        abandoned = asyncio.Event()
        asking = asyncio.ensure_future(self._until_answered(questions, within, abandoned, on_lost))
        try:
            # In slices, each of which counts for what it should have taken: a pause of this process
            # (a pipeline that blocks the loop, a suspended machine) is no silence of Valkey's.
            for _ in range(_SLICES):
                await asyncio.wait([asking], timeout=self._timeout / _SLICES)
                if asking.done():
                    return asking.result()
        finally:
            abandoned.set()  # on Python 3.10 valkey-py may lose the cancellation
            asking.cancel()
        if on_lost is not None:
            on_lost()
        raise LedgerUnavailableError(
            f"Valkey at {self._place} gave no answer within {self._timeout:g} s "
            f"(VALKEY_DEDUP_TIMEOUT){explained(self._trouble)}{self._doubt}"
        )

    @property
    def _doubt(self) -> str:
        """A server that speaks TLS to one that does not, say, hears nothing but a reset."""
        if self._has_answered or self._revive is not None:
            return ""
        return "; it has not answered yet: check host, port and TLS in VALKEY_DEDUP_URL"

    async def _until_answered(
        self,
        questions: Sequence[Question],
        within: float | None,
        abandoned: asyncio.Event,
        on_lost: Callable[[], None] | None,
    ) -> list[list[Any]]:
        """Puts those questions again that have no answer yet: of a cluster one part may be away."""
        answers: list[list[Any]] = [[] for _ in questions]
        left = dict(enumerate(questions))
        pause, asked = _FIRST_PAUSE, time()  # not monotonic, which a suspended machine stops
        while left and not abandoned.is_set():
            waits = False
            loading: set[tuple[Hashable, str]] = set()
            outcomes = await self._exchange(list(left.values()))
            answered = [isinstance(outcome, list) for outcome in outcomes]
            self._has_answered |= any(answered)
            if on_lost is not None and not all(answered):
                on_lost()
            for number, outcome in zip(list(left), outcomes, strict=True):
                error = error_in(outcome)
                if error is None and not isinstance(outcome, Exception):
                    answers[number] = outcome
                    del left[number]
                elif lacks_script(error):
                    # A new, a flushed or a promoted server: it has forgotten the scripts.
                    left[number] = self._with_script(questions[number], loading)
                else:
                    self._note(error)
                    left[number] = questions[number]
                    waits = True
            if waits:
                await self._try_to_revive()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            if left and within is not None and not 0 <= time() - asked < within:
                raise LedgerUnavailableError(
                    f"Valkey at {self._place} gave no answer, and it is too late to ask again"
                    f"{explained(self._trouble)}"
                )
        return answers

    async def _exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        try:
            return await self._route.exchange(questions)
        except Exception as error:  # noqa: BLE001 (a fault of ours: an outage, not a lost post)
            return [error] * len(questions)

    def _with_script(self, question: Question, loading: set[tuple[Hashable, str]]) -> Question:
        """The question, behind what loads its script, once for each server."""
        script = question.script
        assert script is not None  # noqa: S101 (only scripts can be lacking)
        there = self._route.place_of(question.key), script.sha
        if there in loading:
            return question
        loading.add(there)
        load = command("SCRIPT", "LOAD", script.source)
        return question._replace(commands=(load, *question.commands))

    def _note(self, error: Exception | None) -> None:
        """Keeps in mind why a question is put again; raises if that does not help."""
        assert error is not None  # noqa: S101 (the caller has found one)
        if fault(error).cure is Cure.RETRY:
            self._trouble = error
        else:
            raise translated(error, self._place) from (error if is_unforeseen(error) else None)

    async def _try_to_revive(self) -> None:
        if self._revive is None:
            return
        if self._revival is None or self._revival.done():
            # One at a time: each may hold its thread for long.
            self._revival = asyncio.ensure_future(asyncio.to_thread(self._revive_now))
        await asyncio.wait([self._revival])
        self._trouble = self._revival.result() or self._trouble

    def _revive_now(self) -> DedupError | None:
        """Runs in a thread."""
        try:
            if self._revive is not None:
                self._revive()
        except DedupError as error:
            return error
        return None
