"""Questions on their way to their answers, through as many attempts as it takes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from scrapy_valkey_dedup.valkey.connections import Outcome
from scrapy_valkey_dedup.valkey.errors import classify, first_error, is_noscript
from scrapy_valkey_dedup.valkey.replies import Reaction
from scrapy_valkey_dedup.valkey.resp import Question


class AttemptResult(NamedTuple):
    """What one attempt has brought."""

    answered: int
    turned_away: list[Exception]
    """What was said to questions that were too many for the server."""
    is_heard: bool
    """Anything at all has come back, be it errors."""
    is_lost: bool
    """Of a question it is not known whether it was done, or still will be."""
    waits: bool
    """Something has failed that may be well in a moment."""
    hopeless: Exception | None
    """What asking again does not cure."""


class Attempts:
    """Puts those questions again that have no answer yet: of a cluster one part may be away."""

    def __init__(self, questions: Sequence[Question], node_of: Callable[[str], Hashable]) -> None:
        """``node_of`` tells where a key is asked at: what a server has heard there it knows."""
        self._questions = questions
        self._node_of = node_of
        self.answers: list[list[Any]] = [[] for _ in questions]
        self.left = dict(enumerate(questions))
        self.runs_scripts = any(question.call is not None for question in questions)
        self.trouble: BaseException | None = None
        """Why something was put again, the last time."""
        self.is_throttled = False
        """It waits because the server has too much to do."""
        self.is_abandoned = False
        """Nobody waits for it any more."""
        self._put: list[int] = []
        self._behind: set[int] = set()
        self._in_full: set[int] = set()

    @property
    def keys(self) -> list[str]:
        """A key of each question."""
        return [question.key for question in self._questions]

    def next(self, limit: int | None) -> list[Question]:
        """What is to be put now: all that are left, or the first of them."""
        self._put = list(self.left)[:limit]
        return [self.left[number] for number in self._put]

    def take(self, outcomes: Sequence[Outcome]) -> AttemptResult:
        """Takes what came of those that were put, and prepares the next attempt."""
        answered, turned_away = 0, list[Exception]()
        is_lost = waits = False
        hopeless: Exception | None = None
        sources: set[tuple[Hashable, str]] = set()
        for number, outcome in zip(self._put, outcomes, strict=True):
            error = first_error(outcome)
            if error is None and isinstance(outcome, list):
                self.answers[number] = outcome
                del self.left[number]
                answered += 1
                continue
            assert error is not None  # noqa: S101 (else it is a list of replies)
            if is_noscript(error) and number not in self._in_full:
                # A new, a flushed or a promoted server; or one of several behind one address.
                self.left[number] = self._with_source(number, sources)
                continue
            self._in_full.discard(number)
            self.left[number] = self._questions[number]
            cure = classify(error).cure
            # Who knows what was done before something unknown went wrong?
            is_lost = is_lost or not isinstance(outcome, list) or cure is Reaction.UNKNOWN
            if cure in (Reaction.OUTAGE, Reaction.REFUSE):
                hopeless = hopeless or error
                continue
            self.trouble = error
            if cure is Reaction.SLOW_DOWN:
                turned_away.append(error)
            else:
                waits = True
        # Those that were not put wait for the same reason.
        self.is_throttled = bool(turned_away) or len(self.left) > len(self._put) - answered
        heard = any(isinstance(outcome, list) for outcome in outcomes)
        return AttemptResult(answered, turned_away, heard, is_lost, waits, hopeless)

    def _with_source(self, number: int, sources: set[tuple[Hashable, str]]) -> Question:
        """The question for a server that lacks its script.

        The first of each script carries the source, which is long; the others follow it on the same
        connection. A question that followed and still lacked it, as through a proxy that gives each
        command to another server, carries it too: EVAL needs nothing to be known.
        """
        question = self._questions[number]
        assert question.call is not None  # noqa: S101 (only scripts can be lacking)
        there = self._node_of(question.key), question.call.script.sha
        if there in sources and number not in self._behind:
            self._behind.add(number)
            return question
        sources.add(there)
        self._in_full.add(number)
        return question._replace(commands=(question.call.command(with_source=True),))
