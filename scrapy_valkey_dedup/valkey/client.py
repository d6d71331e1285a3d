"""The client: deadlines, retries and scripts; its errors are the package's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from time import time
from typing import Any

from scrapy_valkey_dedup.model import LedgerRefusedError, LedgerUnavailableError
from scrapy_valkey_dedup.tasks import retrieve
from scrapy_valkey_dedup.valkey.attempts import AttemptResult, Attempts
from scrapy_valkey_dedup.valkey.connections import Outcome
from scrapy_valkey_dedup.valkey.credentials import with_provider
from scrapy_valkey_dedup.valkey.errors import (
    as_dedup_error,
    because_of,
    deadline_error,
    is_unexpected,
    message_of,
)
from scrapy_valkey_dedup.valkey.merging import MergedExchanges
from scrapy_valkey_dedup.valkey.provider import Provider
from scrapy_valkey_dedup.valkey.resp import Question, ScriptCall
from scrapy_valkey_dedup.valkey.revival import Revival
from scrapy_valkey_dedup.valkey.throttle import Throttle, jittered
from scrapy_valkey_dedup.valkey.topology import route_to
from scrapy_valkey_dedup.valkey.urls import parsed

_SLICES = 10
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts, before the jitter
_LONGEST_IN_HASTE = 0.25


class Client:
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
        on_throttled: Callable[[int, str], None] = lambda _number, _words: None,
    ) -> None:
        """``place`` is the URL as messages may show it; ``timeout`` is in seconds.

        Each new connection asks ``credentials``, if given, for user and password.
        ``revive`` is called in a thread when a connection fails, before the next attempt: it may
        block, and start a server that has died. ``on_throttled`` is called with the number of
        commands that the server throttled, and its message.
        """
        self._place = place
        self._timeout = timeout
        self._revival = Revival(revive)
        self._on_throttled = on_throttled
        self._throttle = Throttle(timeout)
        self._has_answered = False
        self.failed: set[str] = set()
        """The keys of questions that had no answer in time, and none since."""
        # Half the deadline for one attempt: a dead connection that nothing has closed, as behind a
        # NAT gateway or at a failover, is replaced while the question still has time.
        try:
            understood = parsed(url)
        except ValueError as error:
            raise LedgerRefusedError(f"VALKEY_DEDUP_URL {place}: {error}") from None
        attempt = timeout / 2
        self._is_socket = not understood.hosts
        self._route = route_to(understood, with_provider(options, credentials, attempt), attempt)
        self._merged, self._merging = MergedExchanges(self._route.exchange), 0

    async def ask(self, *commands: bytes, key: str = "") -> list[Any]:
        """Returns the replies to commands, sent in one round trip.

        ``key``: one of those that they touch; all share its hash tag.
        """
        (replies,) = await self._within_deadline([Question(key, commands)])
        return replies

    async def ask_each(self, commands: Mapping[str, bytes]) -> list[Any]:
        """Returns the reply to each command, sent in one round trip, each with its own key."""
        questions = [Question(key, (command,)) for key, command in commands.items()]
        return [replies[0] for replies in await self._within_deadline(questions)]

    async def run(
        self,
        calls: Sequence[ScriptCall],
        within: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Returns a reply for each call, all in one round trip; sends scripts the server lacks.

        ``within``: seconds after the first attempt in which the calls mean the same if they are
        made again; None: forever. ``on_lost`` is called when an attempt was given up without a
        reply: it may have arrived, and it may still arrive.
        """
        if not calls:
            return []
        questions = [Question(call.key, (call.command(),), call) for call in calls]
        asked = await self._within_deadline(questions, within, on_lost)
        return [replies[0] for replies in asked]

    async def together(self, *asking: Awaitable[Any]) -> list[Any]:
        """Awaits all; what they ask at the same moment takes one round trip, on one connection.

        Returns their results. Raises, when all have ended, what the first of them has raised.
        """
        self._merging += 1
        try:
            found = await asyncio.gather(*asking, return_exceptions=True)
        finally:
            self._merging -= 1
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
        return found

    @property
    def calls_answered(self) -> int:
        """How many script calls were answered so far."""
        return self._throttle.answers(scripts=True)

    def node_of(self, key: str) -> Hashable:
        """The server that a key belongs to."""
        return self._route.node_of(key)

    async def close(self) -> None:
        """Closes all connections."""
        await self._route.close()

    async def _within_deadline(
        self,
        questions: Sequence[Question],
        within: float | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> list[list[Any]]:
        # Not wait_for: before Python 3.12 it may swallow a cancellation, and it waits until the
        # task that it cancelled has ended.
        attempts = Attempts(questions, self._route.node_of)
        asking = asyncio.ensure_future(self._until_answered(attempts, within, on_lost))
        asking.add_done_callback(retrieve)
        try:
            await self._deadline(asking, attempts)
            if asking.done():
                asking.result()
                return attempts.answers
        finally:
            attempts.is_abandoned = True  # on Python 3.10 valkey-py may lose the cancellation
            asking.cancel()
            self._remember(attempts)
        if on_lost is not None:
            on_lost()
        deadline = f"within {self._timeout:g} s (VALKEY_DEDUP_TIMEOUT)"
        raise deadline_error(attempts.reason, self._place, deadline, self._doubt)

    async def _deadline(self, asking: asyncio.Future[None], attempts: Attempts) -> None:
        """Returns when it is answered, or when the deadline is over.

        It waits in slices, and each counts as long as it should have taken: a pause of this process
        (a pipeline that blocks the loop, a suspended machine) does not count as silence of Valkey.
        While the server throttles this question and answers others, the deadline starts again.
        """
        scripts = attempts.runs_scripts
        slices, before = 0, self._throttle.answers(scripts=scripts)
        while slices < _SLICES and not asking.done():
            await asyncio.wait([asking], timeout=self._timeout / _SLICES)
            slices += 1
            answers = self._throttle.answers(scripts=scripts)
            if attempts.is_throttled and answers != before:
                slices, before = 0, answers

    def _remember(self, attempts: Attempts) -> None:
        """Notes which keys had no answer: a probe asks there first."""
        if attempts.pending:
            self.failed.update(question.key for question in attempts.pending.values())
        elif self.failed:
            self.failed.difference_update(attempts.keys)

    @property
    def _doubt(self) -> str:
        """What to check if it has never answered: with TLS on one side only it just resets."""
        if self._has_answered or self._revival.is_possible:
            return ""
        suspects = "the path of the socket" if self._is_socket else "host, port and TLS"
        return f"; check {suspects} in VALKEY_DEDUP_URL"

    async def _until_answered(
        self,
        attempts: Attempts,
        within: float | None,
        on_lost: Callable[[], None] | None,
    ) -> None:
        await self._wait_if_throttled(attempts)
        pause, asked = _FIRST_PAUSE, time()  # not monotonic, which a suspended machine stops
        while not attempts.is_abandoned:
            limit = self._throttle.limit if attempts.runs_scripts else None
            found = attempts.take(await self._exchange(attempts.next(limit)))
            self._learn(found, attempts)
            if on_lost is not None and found.is_lost:
                on_lost()
            if (error := found.fatal) is not None:
                cause = error if is_unexpected(error) else None
                raise as_dedup_error(error, self._place) from cause
            if not attempts.pending:
                return
            if found.is_retryable:
                attempts.revival_error = await self._revival.attempt()
            if found.is_retryable or (found.throttled and not attempts.runs_scripts):
                await asyncio.sleep(jittered(pause))
                pause = min(2 * pause, _LONGEST_PAUSE if found.is_retryable else _LONGEST_IN_HASTE)
            await self._wait_if_throttled(attempts)
            if within is not None and not 0 <= time() - asked < within:
                raise LedgerUnavailableError(
                    f"Valkey at {self._place} gave no answer, and it is too late to ask again"
                    f"{because_of(attempts.reason)}"
                )

    async def _wait_if_throttled(self, attempts: Attempts) -> None:
        """Waits while the server throttles.

        Heartbeats and other plain commands do not wait: they are cheap, and without them other runs
        would consider this one dead.
        """
        if attempts.runs_scripts and await self._throttle.wait():
            attempts.is_throttled = True

    def _learn(self, found: AttemptResult, attempts: Attempts) -> None:
        self._has_answered |= found.got_reply
        self._throttle.answered(found.answered, scripts=attempts.runs_scripts)
        if found.throttled:
            self._throttle.throttled(found.answered)
            self._on_throttled(len(found.throttled), message_of(found.throttled[0]))
        elif attempts.runs_scripts and found.answered:
            self._throttle.succeeded()

    async def _exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        try:
            return await (self._merged if self._merging else self._route.exchange)(questions)
        except Exception as error:  # noqa: BLE001 (a bug of ours becomes an outage, not a lost post)
            return [error] * len(questions)
