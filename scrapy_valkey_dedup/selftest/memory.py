"""Rules of what the ledger remembers: how much, for how long, and what it forgets."""

from __future__ import annotations

from scrapy_valkey_dedup.ledger.scripts import POSTS_PER_CALL
from scrapy_valkey_dedup.model import Verdict
from scrapy_valkey_dedup.selftest.expectations import expect, expect_all, expect_soon
from scrapy_valkey_dedup.selftest.findings import Rule
from scrapy_valkey_dedup.selftest.sandbox import Sandbox

_MOMENT = 0.3  # seconds of retention, to see a generation end
_BUCKET = 511  # posts in a full bucket, see lua/layout.lua


async def _confirms(sandbox: Sandbox) -> str:
    one, other, (post,) = sandbox.ledger(), sandbox.ledger(), sandbox.posts(1)
    await one.claim_many([post])
    await one.confirm_many([post])
    expect_all(await other.claim_many([post]), Verdict.SEEN, "a claim on a confirmed post")
    expect(await other.seen_many([post, *sandbox.posts(1)]), [True, False], "look")
    return "a confirmed post is seen, and no other"


async def _buckets(sandbox: Sandbox) -> str:
    """Tests more posts than a call may have, and than a bucket may have."""
    one, posts = sandbox.ledger(), sandbox.neighbours(_BUCKET + 9)
    assert len(posts) > POSTS_PER_CALL  # noqa: S101 (so that it is two calls)
    expect_all(await one.claim_many(posts), Verdict.NEW, "many posts of a partition")
    await one.confirm_many(posts)
    expect(sum(await one.seen_many(posts)), len(posts), "posts that are seen")
    expect(await one.forget_many(posts[:1]), 1, "forgotten")
    expect(await one.seen_many(posts[:1] + posts[-1:]), [False, True], "look below a full bucket")
    return f"{len(posts)} posts of one bucket, {POSTS_PER_CALL} in a call; some are one level below"


async def _generations(sandbox: Sandbox) -> str:
    brief, one, (post, other) = (
        sandbox.ledger(retention=_MOMENT),
        sandbox.ledger(),
        sandbox.posts(2),
    )
    await brief.confirm_many([post])

    async def is_over() -> bool:
        return await one.seen_many([post]) == [False]

    await expect_soon(is_over, "a post is forgotten after its retention")
    await brief.confirm_many([other, post])
    expect(await one.seen_many([post]), [True], "look into a new generation")
    return "a generation ends after its time, and a new one starts"


async def _moves(sandbox: Sandbox) -> str:
    brief, one, (post, other) = sandbox.ledger(retention=1.0), sandbox.ledger(), sandbox.posts(2)
    await brief.confirm_many([post, other])
    expect_all(await one.claim_many([post]), Verdict.SEEN, "a duplicate")

    async def is_over() -> bool:
        return await one.seen_many([other]) == [False]

    await expect_soon(is_over, "a post is forgotten after its retention")
    expect(await one.seen_many([post]), [True], "a duplicate that was met again")
    return "a duplicate that is met again moves to a generation that lasts longer"


async def _forever(sandbox: Sandbox) -> str:
    endless, brief, (post,) = sandbox.ledger(retention=None), sandbox.ledger(), sandbox.posts(1)
    await brief.confirm_many([post])
    try:
        await endless.confirm_many([post])
        expect_all(await endless.claim_many([post]), Verdict.SEEN, "a claim on a post without end")
    finally:
        await endless.forget_many([post])
    expect(await endless.seen_many([post]), [False], "look at what was forgotten")
    return "retention None: posts are remembered without an end, and forgotten on request"


async def _forgets(sandbox: Sandbox) -> str:
    one, posts = sandbox.ledger(), sandbox.posts(2)
    await one.confirm_many(posts)
    expect(await one.forget_many(posts[:1]), 1, "forgotten")
    expect(await one.seen_many(posts), [False, True], "look")
    return "a forgotten post is new, the others are seen"


MEMORY_RULES = (
    Rule("confirm", _confirms),
    Rule("confirm: full buckets", _buckets),
    Rule("confirm: generations", _generations),
    Rule("confirm: refresh", _moves),
    Rule("confirm: forever", _forever),
    Rule("forget", _forgets),
)
