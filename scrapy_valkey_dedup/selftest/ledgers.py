"""Rules of the ledger: what the plugin's own scripts answer there, branch by branch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from scrapy_valkey_dedup.ledger.keys import PARTITIONS
from scrapy_valkey_dedup.ledger.runs import IDLE_MARK
from scrapy_valkey_dedup.ledger.scripts import POSTS_PER_CALL
from scrapy_valkey_dedup.ledger.tokens import claim_token
from scrapy_valkey_dedup.model import Answer, ReleasedClaim, Verdict
from scrapy_valkey_dedup.selftest.commands import expect
from scrapy_valkey_dedup.selftest.findings import Rule
from scrapy_valkey_dedup.selftest.sandbox import SHORT, Sandbox

_MOMENT = 0.3  # seconds
_PATIENCE = 10.0
_BUCKET = 511  # posts in one: lua/layout.lua


def _verdicts(answers: Sequence[Answer]) -> list[str]:
    return [answer.verdict.value for answer in answers]


def _all(answers: Sequence[Answer], verdict: Verdict, what: str) -> None:
    wrong = [found for found in _verdicts(answers) if found != verdict.value]
    if wrong:
        expect(f"{len(wrong)} of {len(answers)} {wrong[0]}", f"all {verdict.value}", what)


async def _shelves(sandbox: Sandbox) -> str:
    """A user may be allowed the keys of posts and not those of pages: docs/security.md."""
    for shelf in ("", "pages", "timelines"):
        key = sandbox.key_of_shelf(shelf)
        expect(await sandbox.ask("SET", key, 1, "PX", 60_000, "GET", key=key), None, "SET PX GET")
    return "keys of posts, pages and timelines"


async def _open(sandbox: Sandbox) -> str:
    """The start of every run: version, layout, identity and permissions."""
    first, second = sandbox.ledger(), sandbox.ledger()
    await first.open()
    await second.open()
    expect(second.identity, first.identity, "the identity of the ledger")
    return "a run starts, and another one finds its ledger"


async def _partitions(sandbox: Sandbox) -> str:
    await sandbox.ledger().probe.check_partitions()
    return "each server that has partitions takes writes"


async def _claims(sandbox: Sandbox) -> str:
    one, other, (post,) = sandbox.ledger(), sandbox.ledger(), sandbox.posts(1)
    _all(await one.claim_many([post], number=1), Verdict.NEW, "a first claim")
    _all(await one.claim_many([post], number=1), Verdict.NEW, "the same question once more")
    (answer,) = await other.claim_many([post])
    expect((answer.verdict, answer.holder), (Verdict.HELD, claim_token(one.run, 1)), "another run")
    return "new, new again for the same question, held for another run"


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
    return "of 8 runs that ask at once one gets the post"


async def _confirms(sandbox: Sandbox) -> str:
    one, other, (post,) = sandbox.ledger(), sandbox.ledger(), sandbox.posts(1)
    await one.claim_many([post])
    await one.confirm_many([post])
    _all(await other.claim_many([post]), Verdict.SEEN, "a claim on what is stored")
    expect(await other.seen_many([post, *sandbox.posts(1)]), [True, False], "look")
    return "what is stored is seen, and nothing else"


async def _releases(sandbox: Sandbox) -> str:
    one, other, (post, doubtful) = sandbox.ledger(), sandbox.ledger(), sandbox.posts(2)
    await one.claim_many([post, doubtful], number=1)
    await other.release_many([post])
    _all(await other.claim_many([post]), Verdict.HELD, "what another run has given back")
    await one.settle_many([], [ReleasedClaim(post, 1), ReleasedClaim(doubtful, 1, in_doubt=True)])
    _all(await other.claim_many([post, doubtful]), Verdict.NEW, "what was given back")
    (late,) = await one.claim_many([doubtful], number=1)
    expect(late.verdict, Verdict.HELD, "a late copy of a question that was given back")
    return "a claim that is given back is free; a late copy of its question is turned away"


async def _renewals(sandbox: Sandbox) -> str:
    one, posts = sandbox.ledger(), sandbox.posts(2)
    await one.claim_many(posts, number=1)
    expect(await one.renew_many(posts, [1, 2]), 1, "renewed, of two of which one is another's")
    brief, (post,) = sandbox.ledger(claim_lifetime=_MOMENT), sandbox.posts(1)
    await brief.claim_many([post])
    await _until(lambda: _is_free(sandbox, post), "a claim whose life is over is free")
    return "a claim's life is lengthened; one that is not renewed ends"


async def _is_free(sandbox: Sandbox, post: bytes) -> bool:
    (answer,) = await sandbox.ledger().claim_many([post])
    return answer.verdict is Verdict.NEW


async def _forgets(sandbox: Sandbox) -> str:
    one, posts = sandbox.ledger(), sandbox.posts(2)
    await one.confirm_many(posts)
    expect(await one.forget_many(posts[:1]), 1, "forgotten")
    expect(await one.seen_many(posts), [False, True], "look")
    return "what is forgotten is new, the rest is seen"


async def _generations(sandbox: Sandbox) -> str:
    brief, one, (post, other) = (
        sandbox.ledger(retention=_MOMENT),
        sandbox.ledger(),
        sandbox.posts(2),
    )
    await brief.confirm_many([post])

    async def is_over() -> bool:
        return await one.seen_many([post]) == [False]

    await _until(is_over, "what is remembered for a moment is forgotten after it")
    await brief.confirm_many([other, post])
    expect(await one.seen_many([post]), [True], "look into a generation that begins anew")
    return "a generation ends when its time is over, and another one begins"


async def _moves(sandbox: Sandbox) -> str:
    brief, one, (post, other) = sandbox.ledger(retention=1.0), sandbox.ledger(), sandbox.posts(2)
    await brief.confirm_many([post, other])
    _all(await one.claim_many([post]), Verdict.SEEN, "a duplicate")

    async def is_over() -> bool:
        return await one.seen_many([other]) == [False]

    await _until(is_over, "what is remembered for a second is forgotten after it")
    expect(await one.seen_many([post]), [True], "a duplicate that was met again")
    return "a duplicate that is met again moves to a generation that lasts longer"


async def _forever(sandbox: Sandbox) -> str:
    endless, brief, (post,) = sandbox.ledger(retention=None), sandbox.ledger(), sandbox.posts(1)
    await brief.confirm_many([post])
    try:
        await endless.confirm_many([post])
        _all(await endless.claim_many([post]), Verdict.SEEN, "a claim on what is kept forever")
    finally:
        await endless.forget_many([post])
    expect(await endless.seen_many([post]), [False], "look at what was forgotten")
    return "retention None: what has no end is remembered, and forgotten when told so"


async def _resets(sandbox: Sandbox) -> str:
    one, reset, (post,) = sandbox.ledger(), sandbox.ledger(reset=True), sandbox.posts(1)
    await one.confirm_many([post])
    _all(await reset.claim_many([post]), Verdict.NEW, "a claim with RESET")
    return "with RESET what is remembered is new"


async def _records(sandbox: Sandbox) -> str:
    one, other, (post,) = sandbox.ledger(record=True), sandbox.ledger(record=True), sandbox.posts(1)
    _all(await one.claim_many([post]), Verdict.NEW, "a claim that records")
    same = sandbox.ledger(one.run, record=True)  # its first question has the same name
    _all(await same.claim_many([post]), Verdict.NEW, "the same question once more")
    _all(await other.claim_many([post]), Verdict.SEEN, "another run")
    return 'CONFIRM = "claimed": a claim remembers; its reply is kept for the same question'


async def _many(sandbox: Sandbox) -> str:
    """A batch of all partitions; all commands in one round trip, half confirmed, half released."""
    one, other, posts = sandbox.ledger(), sandbox.ledger(), sandbox.posts(4 * PARTITIONS)
    half = len(posts) // 2
    _all(await one.claim_many(posts), Verdict.NEW, "a batch")
    await one.settle_many(posts[:half], [ReleasedClaim(post) for post in posts[half:]])
    answers = await other.claim_many(posts)
    _all(answers[:half], Verdict.SEEN, "what was confirmed")
    _all(answers[half:], Verdict.NEW, "what was released")
    await other.release_many(posts[half:])
    return f"{len(posts)} posts in calls to up to {PARTITIONS} partitions, in one round trip"


async def _buckets(sandbox: Sandbox) -> str:
    """More posts than a call may have, and than a bucket has room for."""
    one, posts = sandbox.ledger(), sandbox.neighbours(_BUCKET + 9)
    assert len(posts) > POSTS_PER_CALL  # noqa: S101 (so that it is two calls)
    _all(await one.claim_many(posts), Verdict.NEW, "many posts of a partition")
    await one.confirm_many(posts)
    expect(sum(await one.seen_many(posts)), len(posts), "posts that are seen")
    expect(await one.forget_many(posts[:1]), 1, "forgotten")
    expect(await one.seen_many(posts[:1] + posts[-1:]), [False, True], "look below a full bucket")
    return (
        f"{len(posts)} posts of one bucket, {POSTS_PER_CALL} in a call; it goes on one level down"
    )


async def _heartbeats(sandbox: Sandbox) -> str:
    one, other = sandbox.ledger(), sandbox.ledger()
    expect(await one.runs.write_heartbeat(1, SHORT), None, "a first heartbeat")
    expect(await one.runs.write_heartbeat(2, SHORT, idle=True), b"1", "a second one")
    beats = await other.runs.read_heartbeats([one.run, other.run])
    expect(beats, [f"2 {IDLE_MARK}".encode(), None], "heartbeats")
    await one.runs.sign_off()
    expect(
        await other.runs.read_heartbeats([one.run]), [None], "the heartbeat of a run that has left"
    )
    await other.runs.write_heartbeat(1, _MOMENT)

    async def is_over() -> bool:
        return await one.runs.read_heartbeats([other.run]) == [None]

    await _until(is_over, "a heartbeat that is not renewed ends")
    return "heartbeats are seen, renewed, and end by themselves"


async def _until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits until it is so."""
    end = monotonic() + _PATIENCE
    while not await condition():
        if monotonic() > end:
            expect(f"not within {_PATIENCE:g} s", "soon", what)
        await asyncio.sleep(_MOMENT / 4)


LEDGER_RULES = (
    Rule("keys", _shelves),
    Rule("start", _open),
    Rule("partitions", _partitions),
    Rule("claim", _claims),
    Rule("claim: takeover", _takeover),
    Rule("claim: one winner", _one_winner),
    Rule("claim: many partitions", _many),
    Rule("confirm", _confirms),
    Rule("confirm: full buckets", _buckets),
    Rule("confirm: generations", _generations),
    Rule("confirm: refresh", _moves),
    Rule("confirm: forever", _forever),
    Rule("release", _releases),
    Rule("renew", _renewals),
    Rule("forget", _forgets),
    Rule("claim: RESET", _resets),
    Rule('claim: CONFIRM "claimed"', _records),
    Rule("heartbeat", _heartbeats),
)
