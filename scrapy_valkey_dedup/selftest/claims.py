"""Rules of claims: who gets a post, until when, and what a release does."""

from __future__ import annotations

import asyncio

from scrapy_valkey_dedup.ledger.keys import PARTITIONS
from scrapy_valkey_dedup.ledger.tokens import claim_token
from scrapy_valkey_dedup.model import ReleasedClaim, Verdict
from scrapy_valkey_dedup.selftest.expectations import expect, expect_all, expect_soon
from scrapy_valkey_dedup.selftest.findings import Rule
from scrapy_valkey_dedup.selftest.sandbox import Sandbox

_MOMENT = 0.3  # seconds that a claim lasts, to see it expire


async def _claims(sandbox: Sandbox) -> str:
    one, other, (post,) = sandbox.ledger(), sandbox.ledger(), sandbox.posts(1)
    expect_all(await one.claim_many([post], number=1), Verdict.NEW, "a first claim")
    expect_all(await one.claim_many([post], number=1), Verdict.NEW, "the same request again")
    (answer,) = await other.claim_many([post])
    expect((answer.verdict, answer.holder), (Verdict.HELD, claim_token(one.run, 1)), "another run")
    return "new, new again for the same request, held for another run"


async def _takeover(sandbox: Sandbox) -> str:
    dead, one, (post,) = sandbox.ledger(), sandbox.ledger(), sandbox.posts(1)
    await dead.claim_many([post])
    (held,) = await one.claim_many([post])
    (answer,) = await one.claim_many([post], [held.holder], number=1)
    expect((answer.verdict, answer.taken_over), (Verdict.NEW, True), "a dead run's claim")
    return "a dead run's claim is taken over"


async def _one_winner(sandbox: Sandbox) -> str:
    (post,) = sandbox.posts(1)
    runs = [sandbox.ledger() for _ in range(8)]
    found = await asyncio.gather(*(run.claim_many([post]) for run in runs))
    expect(sum(answer.verdict is Verdict.NEW for (answer,) in found), 1, "8 claims at once")
    return "one of 8 runs that ask at once gets the post"


async def _many(sandbox: Sandbox) -> str:
    """Tests a batch in all partitions: all are claimed, half are confirmed, half are released."""
    one, other, posts = sandbox.ledger(), sandbox.ledger(), sandbox.posts(4 * PARTITIONS)
    half = len(posts) // 2
    expect_all(await one.claim_many(posts), Verdict.NEW, "a batch")
    await one.settle_many(posts[:half], [ReleasedClaim(post) for post in posts[half:]])
    answers = await other.claim_many(posts)
    expect_all(answers[:half], Verdict.SEEN, "what was confirmed")
    expect_all(answers[half:], Verdict.NEW, "what was released")
    await other.release_many(posts[half:])
    return f"{len(posts)} posts in calls to up to {PARTITIONS} partitions, in one round trip"


async def _releases(sandbox: Sandbox) -> str:
    one, other, (post, doubtful) = sandbox.ledger(), sandbox.ledger(), sandbox.posts(2)
    await one.claim_many([post, doubtful], number=1)
    await other.release_many([post])
    expect_all(await other.claim_many([post]), Verdict.HELD, "a release by another run")
    await one.settle_many([], [ReleasedClaim(post, 1), ReleasedClaim(doubtful, 1, in_doubt=True)])
    expect_all(await other.claim_many([post, doubtful]), Verdict.NEW, "released posts")
    (late,) = await one.claim_many([doubtful], number=1)
    expect(late.verdict, Verdict.HELD, "a late copy of the request of a released claim")
    return "a released post is free; a late copy of the request that claimed it is turned away"


async def _renewals(sandbox: Sandbox) -> str:
    one, posts = sandbox.ledger(), sandbox.posts(2)
    await one.claim_many(posts, number=1)
    expect(await one.renew_many(posts, [1, 2]), 1, "renewed, of an own and a foreign claim")
    brief, (post,) = sandbox.ledger(claim_lifetime=_MOMENT), sandbox.posts(1)
    await brief.claim_many([post])
    await expect_soon(lambda: _is_free(sandbox, post), "a post whose claim has expired is free")
    return "a claim is renewed; a claim that is not renewed expires"


async def _is_free(sandbox: Sandbox, post: bytes) -> bool:
    (answer,) = await sandbox.ledger().claim_many([post])
    return answer.verdict is Verdict.NEW


async def _resets(sandbox: Sandbox) -> str:
    one, reset, (post,) = sandbox.ledger(), sandbox.ledger(reset=True), sandbox.posts(1)
    await one.confirm_many([post])
    expect_all(await reset.claim_many([post]), Verdict.NEW, "a claim with RESET")
    return "with RESET remembered posts are new"


async def _records(sandbox: Sandbox) -> str:
    one, other, (post,) = sandbox.ledger(record=True), sandbox.ledger(record=True), sandbox.posts(1)
    expect_all(await one.claim_many([post]), Verdict.NEW, "a claim that records")
    same = sandbox.ledger(one.run, record=True)  # its first request has the same number
    expect_all(await same.claim_many([post]), Verdict.NEW, "the same request again")
    expect_all(await other.claim_many([post]), Verdict.SEEN, "another run")
    return 'CONFIRM = "claimed": a claim remembers the post; the same request gets the same reply'


CLAIM_RULES = (
    Rule("claim", _claims),
    Rule("claim: takeover", _takeover),
    Rule("claim: one winner", _one_winner),
    Rule("claim: many partitions", _many),
    Rule("claim: RESET", _resets),
    Rule('claim: CONFIRM "claimed"', _records),
    Rule("release", _releases),
    Rule("renew", _renewals),
)
