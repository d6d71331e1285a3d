"""The real scripts do what the rules of docs/ledger.md say: the table of ``tests/protocol``."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import blake2b
from itertools import count, product

import pytest
import valkey as valkey_py

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.valkey.client import Client
from tests.protocol.adapter import NAMES, look, say
from tests.protocol.model import Model
from tests.protocol.scopes import NAMED
from tests.protocol.state import CIRCLE, Kind, Message, Post, Token
from tests.support.patience import in_loop

Real = tuple[list[Ledger], valkey_py.Valkey, str]
_MODEL = Model(NAMED["no fault, two posts"])
_names = count()
_AT_ONCE = 20_000


def messages(numbers: Sequence[int]) -> list[Message]:
    """Every message that two runs which claim, and one which records, may send."""
    claims = [Token(run, number) for run in (0, 1) for number in numbers]
    made = [
        Message(kind, 0, token)
        for token in claims
        for kind in (Kind.CONFIRM, Kind.RELEASE, Kind.RELEASE_IN_DOUBT, Kind.RENEW)
    ]
    for token in [*claims, Token(2, 0)]:
        kind = Kind.QUESTION if token.run == 2 else Kind.CLAIM
        others = [other for other in claims if other.run != token.run]
        deaths = [(), *((other,) for other in others), tuple(others)]
        made += [Message(kind, 0, token, dead) for dead in deaths]
    return made


def post(number: object) -> Key:
    """A post that no other history uses."""
    return blake2b(repr(number).encode(), digest_size=16).digest()


@asynccontextmanager
async def real(valkey: ValkeyServer, namespace: str) -> AsyncIterator[Real]:
    """The ledgers of the runs."""
    async with AsyncExitStack() as stack:
        ledgers = []
        for name in NAMES:
            server = Client(valkey.url, valkey.url, {}, timeout=60)
            stack.push_async_callback(server.close)
            ledgers.append(Ledger(server, namespace, name, retention=86400))
        raw = valkey_py.Valkey.from_url(valkey.url)
        stack.callback(raw.close)
        yield ledgers, raw, namespace


async def compare(histories: Sequence[Sequence[Message]], world: Real) -> None:
    """Plays each history on another post: each reply, and all that Valkey keeps then."""
    ledgers, raw, namespace = world
    keys = [post((namespace, next(_names))) for _ in histories]
    state = [Post() for _ in histories]
    for step in range(max(map(len, histories))):
        same: defaultdict[Message, list[int]] = defaultdict(list)
        for number, history in enumerate(histories):
            same[history[step]].append(number)
        for each, numbers in same.items():
            message = each._replace(name=next(_names)) if each.kind is Kind.QUESTION else each
            replies = await say(ledgers, message, [keys[number] for number in numbers])
            for number, reply in zip(numbers, replies, strict=True):
                before = state[number]
                after, expected, rule = _MODEL.answer(before, message)
                told = histories[number][: step + 1]
                assert reply == expected, (rule, told, before)
                state[number] = after._replace(recorded=())
        found = await look(ledgers[0], raw, namespace, keys)
        for number, (is_kept, expected) in enumerate(zip(found, state, strict=True)):
            assert is_kept == expected, histories[number][: step + 1]


@in_loop
async def test_every_short_history(valkey: ValkeyServer, namespace: str) -> None:
    """All histories of three messages, with two numbers for each run that claims."""
    some = messages((1, 2))
    async with real(valkey, namespace) as world:
        histories = list(product(some, repeat=3))
        random.Random(11).shuffle(histories)
        for at in range(0, len(histories), _AT_ONCE):
            await compare(histories[at : at + _AT_ONCE], world)


@pytest.mark.parametrize("seed", range(4))
@in_loop
async def test_long_histories(valkey: ValkeyServer, namespace: str, seed: int) -> None:
    """Many long histories of three runs, whose numbers go once round the circle."""
    chance = random.Random(seed)
    some = messages((CIRCLE - 2, CIRCLE - 1, 0, 1))
    # A post that is remembered stays so: confirms must be rare.
    claims = [each for each in some if each.kind in (Kind.CLAIM, Kind.RENEW)]
    releases = [each for each in some if each.kind in (Kind.RELEASE, Kind.RELEASE_IN_DOUBT)]
    ends = [each for each in some if each not in claims + releases]

    def any_message() -> Message:
        return chance.choice(chance.choices([claims, releases, ends], [50, 50, 2])[0])

    histories = [[any_message() for _ in range(25)] for _ in range(300)]
    async with real(valkey, namespace) as world:
        await compare(histories, world)


@in_loop
async def test_a_question_is_answered_once(valkey: ValkeyServer, namespace: str) -> None:
    """Q1: whatever comes before it and between, the same question gets the same reply."""
    some = messages((1,))
    question = Message(Kind.QUESTION, 0, Token(2, 0))
    async with real(valkey, namespace) as (ledgers, raw, _):
        for number, (before, between) in enumerate(product(some, repeat=2)):
            key, kept = post((namespace, "q", number)), Post()
            asked = question._replace(name=next(_names))
            for each in (before, asked, between, asked):
                other = each.kind is Kind.QUESTION and each is not asked
                message = each._replace(name=next(_names)) if other else each
                kept, expected, rule = _MODEL.answer(kept, message)
                assert await say(ledgers, message, [key]) == [expected], (rule, before, between)
            (found,) = await look(ledgers[0], raw, namespace, [key])
            assert found == kept._replace(recorded=())
