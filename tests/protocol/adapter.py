"""The model's words in the package's own: all that these tests know of its code."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import valkey as valkey_py

from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, split_key
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import CLAIM_NUMBERS, claim_token, run_of
from scrapy_valkey_dedup.model import Answer, Key, ReleasedClaim, Verdict
from tests.protocol.state import CIRCLE, Kind, Message, Post, Reply, Token

assert CLAIM_NUMBERS == CIRCLE
NAMES = ["run-a", "run-b", "run-c"]
_TOKEN_BYTES = 12
_NOBODY = b"-" * _TOKEN_BYTES


def to_bytes(held: Token) -> bytes:
    """A token as it stands in Valkey."""
    return claim_token(NAMES[held.run], held.number)


def from_bytes(held: bytes) -> Token | None:
    """A token that stands in Valkey."""
    if held == _NOBODY:
        return None
    return Token(NAMES.index(run_of(held)), int.from_bytes(held[-3:], "big"))


def reply_of(answer: Answer) -> tuple[Reply, Token | None]:
    """An answer in the model's words."""
    if answer.verdict is Verdict.HELD:
        return Reply.HELD, from_bytes(answer.holder)
    if answer.verdict is Verdict.SEEN:
        return Reply.SEEN, None
    return (Reply.TAKEN_OVER if answer.taken_over else Reply.NEW), None


async def say(
    ledgers: Sequence[Ledger], message: Message, keys: Sequence[Key]
) -> list[tuple[Reply, Token | None]]:
    """Sends the same message about many posts; returns the replies."""
    ledger, number = ledgers[message.token.run], message.token.number
    if message.kind in (Kind.CLAIM, Kind.QUESTION):
        dead = [to_bytes(each) for each in message.dead]
        ledger._record = message.kind is Kind.QUESTION
        ledger._questions = count(message.name)
        return [reply_of(answer) for answer in await ledger.claim_many(keys, dead, number)]
    if message.kind is Kind.RENEW:
        await ledger.renew_many(keys, [number] * len(keys))
    elif message.kind is Kind.CONFIRM:
        await ledger.settle_many(keys, ())
    else:
        in_doubt = message.kind is Kind.RELEASE_IN_DOUBT
        await ledger.settle_many((), [ReleasedClaim(key, number, in_doubt) for key in keys])
    return [(Reply.DONE, None)] * len(keys)


async def look(
    ledger: Ledger, raw: valkey_py.Valkey, namespace: str, keys: Sequence[Key]
) -> list[Post]:
    """What Valkey keeps of the posts."""
    names = []
    for key in keys:
        partition, post = split_key(key)
        names.append(f"vd1:{{{namespace}:{PARTITION_TAGS[partition]}}}:c:{post.decode()}")
    seen, posts = await ledger.seen_many(keys), []
    for remembered, value in zip(seen, raw.mget(names), strict=True):
        tokens = [
            from_bytes(value[at : at + _TOKEN_BYTES])
            for at in range(0, len(value or b""), _TOKEN_BYTES)
        ]
        back = tuple(sorted(each for each in tokens[1:] if each is not None))
        posts.append(Post(remembered, tokens[0] if tokens else None, back))
    return posts
