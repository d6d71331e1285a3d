"""What the replies of the scripts mean."""

from __future__ import annotations

from scrapy_valkey_dedup.ledger.retention import end_of_generation
from scrapy_valkey_dedup.ledger.tokens import TOKEN_BYTES, is_held, run_of
from scrapy_valkey_dedup.model import Answer, PostState, Token, Verdict

_NEW, _SEEN = Answer(Verdict.NEW), Answer(Verdict.SEEN)
_ANSWERS = {
    0: _NEW,
    1: _SEEN,
    2: Answer(Verdict.NEW, taken_over=True),
}


def answer_to_claim(reply: int | Token) -> Answer:
    """What ``claim.lua`` replies for one post: a number, or the token that holds it."""
    return _ANSWERS[reply] if isinstance(reply, int) else Answer(Verdict.HELD, reply)


def answer_to_look(ends: bytes, claim: bytes, *, run: bytes, reset: bool) -> Answer:
    """What a claim of a run would be answered, from what ``inspect.lua`` replies.

    ``run``: its name as it stands in tokens. With ``reset`` nothing counts as remembered.
    """
    if ends and not reset:
        return _SEEN
    if is_held(claim) and not claim.startswith(run):
        return Answer(Verdict.HELD, claim[:TOKEN_BYTES])
    return _NEW


def post_state(ends: bytes, claim: bytes) -> PostState:
    """What ``inspect.lua`` replies for one post."""
    return PostState(end_of_generation(ends), run_of(claim) if is_held(claim) else None)
