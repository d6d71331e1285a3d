"""Claim tokens: which run holds a post, and by which of its claims."""

from __future__ import annotations

from scrapy_valkey_dedup.model import Token

RUN_NAME_BYTES, NUMBER_BYTES = 9, 3
TOKEN_BYTES = RUN_NAME_BYTES + NUMBER_BYTES
CLAIM_NUMBERS = 1 << 8 * NUMBER_BYTES
"""The numbers of a run's claims start again at 0 after this many."""
_NO_HOLDER = b"-" * TOKEN_BYTES


def padded(run: str) -> bytes:
    """The name of a run as it stands in tokens.

    Raises:
        ValueError: it is too long.

    """
    name = run.encode().ljust(RUN_NAME_BYTES)
    if len(name) != RUN_NAME_BYTES:
        raise ValueError(f"the name of a run has at most {RUN_NAME_BYTES} bytes, {run!r} has more")
    return name


def number_bytes(number: int) -> bytes:
    """The number of a claim as it stands in tokens."""
    return number.to_bytes(NUMBER_BYTES, "big")


def claim_token(run: str, number: int = 0) -> Token:
    """What stands in Valkey for a claim of a run."""
    return padded(run) + number_bytes(number)


def run_of(holder: Token) -> str:
    """The run that a token belongs to."""
    return holder[:RUN_NAME_BYTES].rstrip().decode("utf-8", "replace")


def is_held(claim: bytes) -> bool:
    """Whether a run holds a claim whose key has this value; ``b""``: there is no claim."""
    return bool(claim) and not claim.startswith(_NO_HOLDER)
