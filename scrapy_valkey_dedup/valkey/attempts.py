"""The questions of one call and their answers, over as many attempts as it takes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.valkey.connections import Outcome
from scrapy_valkey_dedup.valkey.errors import classify, first_error, is_noscript
from scrapy_valkey_dedup.valkey.replies import Reaction
from scrapy_valkey_dedup.valkey.resp import Question


class AttemptResult(NamedTuple):
    """What one attempt brought."""

    answered: int
    throttled: list[Exception]
    """The errors of questions that the server throttled."""
    got_reply: bool
    """The server has replied at all, even if only with errors."""
    is_lost: bool
    """It is not known whether some question was done, or still will be."""
    is_retryable: bool
    """Something failed that may work in a moment."""
    fatal: Exception | None
    """An error that asking again does not cure."""


class Attempts:
    """Asks those questions again that have no answer yet: part of a cluster may be away."""

    def __init__(self, questions: Sequence[Question], node_of: Callable[[str], Hashable]) -> None:
        """``node_of`` tells which server a key belongs to: scripts are loaded for each server."""
        self._questions = questions
        self._node_of = node_of
        self.answers: list[list[Any]] = [[] for _ in questions]
        self.pending = dict(enumerate(questions))
        self.runs_scripts = any(question.call is not None for question in questions)
        self.last_error: BaseException | None = None
        """Why something was asked again, the last time."""
        self.revival_error: DedupError | None = None
        """Why the server could not be started again, if it has not answered since."""
        self.is_throttled = False
        """It waits because the server throttles."""
        self.is_abandoned = False
        """Its caller no longer waits for it."""
        self._sent: list[int] = []
        self._behind: set[int] = set()
        self._in_full: set[int] = set()

    @property
    def keys(self) -> list[str]:
        """A key of each question."""
        return [question.key for question in self._questions]

    @property
    def reason(self) -> BaseException | None:
        """Why there is no answer yet: a refused connection does not tell why the server is dead."""
        return self.revival_error or self.last_error

    def next(self, limit: int | None) -> list[Question]:
        """What to ask now: all that are pending, or the first of them."""
        self._sent = list(self.pending)[:limit]
        return [self.pending[number] for number in self._sent]

    def take(self, outcomes: Sequence[Outcome]) -> AttemptResult:
        """Takes the outcomes of those that were asked, and prepares the next attempt."""
        answered, throttled = 0, list[Exception]()
        is_lost = is_retryable = False
        fatal: Exception | None = None
        sources: set[tuple[Hashable, str]] = set()
        for number, outcome in zip(self._sent, outcomes, strict=True):
            error = first_error(outcome)
            if error is None and isinstance(outcome, list):
                self.answers[number] = outcome
                del self.pending[number]
                answered += 1
                continue
            assert error is not None  # noqa: S101 (otherwise it is a list of replies)
            if is_noscript(error) and number not in self._in_full:
                # A new, a flushed or a promoted server; or one of several behind one address.
                self.pending[number] = self._with_source(number, sources)
                continue
            self._in_full.discard(number)
            self.pending[number] = self._questions[number]
            cure = classify(error).cure
            # Before an unknown error anything may have been done.
            is_lost = is_lost or not isinstance(outcome, list) or cure is Reaction.UNKNOWN
            if cure in (Reaction.OUTAGE, Reaction.REFUSE):
                fatal = fatal or error
                continue
            self.last_error = error
            if cure is Reaction.SLOW_DOWN:
                throttled.append(error)
            else:
                is_retryable = True
        # Those that were not asked wait for the same reason.
        self.is_throttled = bool(throttled) or len(self.pending) > len(self._sent) - answered
        if heard := any(isinstance(outcome, list) for outcome in outcomes):
            self.revival_error = None
        return AttemptResult(answered, throttled, heard, is_lost, is_retryable, fatal)

    def _with_source(self, number: int, sources: set[tuple[Hashable, str]]) -> Question:
        """The question for a server that lacks its script.

        The first question with a script carries its source, which is long; the others follow it on
        the same connection. If a question that followed still lacks the script, as behind a proxy
        that sends each command to another server, it carries the source too: EVAL always works.
        """
        question = self._questions[number]
        assert question.call is not None  # noqa: S101 (only scripts can be missing)
        there = self._node_of(question.key), question.call.script.sha
        if there in sources and number not in self._behind:
            self._behind.add(number)
            return question
        sources.add(there)
        self._in_full.add(number)
        return question._replace(commands=(question.call.command(with_source=True),))
