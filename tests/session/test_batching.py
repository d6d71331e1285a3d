"""The laws of the batcher. It knows nothing of Valkey, so neither do these."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from scrapy_valkey_dedup.session import batching
from scrapy_valkey_dedup.session.batching import Batcher
from tests.support.patience import PATIENCE, in_loop, until


class Desk:
    """Answers each number with its double, unless it has an error to raise; ``open`` lets it."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.errors: list[Exception] = []

    async def __call__(self, questions: Sequence[int]) -> list[int]:
        """One call."""
        self.calls.append(list(questions))
        await self.open.wait()
        if self.errors:
            raise self.errors.pop()
        return [2 * number for number in questions]


async def turns(number: int = 3) -> None:
    """Lets everything run that can."""
    for _ in range(number):
        await asyncio.sleep(0)


@in_loop
async def test_all_that_wait_go_in_one_call() -> None:
    """Questions of one turn of the loop are one call; those asked meanwhile are the next one."""
    desk = Desk()
    batcher = Batcher(desk)
    desk.open.clear()
    first = [batcher.ask(number) for number in range(5)]
    await turns()
    second = [batcher.ask(number) for number in range(5, 8)]
    await turns()
    assert desk.calls == [[0, 1, 2, 3, 4]]
    desk.open.set()
    assert await asyncio.gather(*first, *second) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert desk.calls == [[0, 1, 2, 3, 4], [5, 6, 7]]


@in_loop
async def test_there_is_no_timer() -> None:
    """A single question is on its way in the next turn of the loop: no timer is ever set."""
    desk = Desk()
    loop = asyncio.get_running_loop()

    def no_timer(*_: object, **__: object) -> None:
        raise AssertionError

    loop.call_at = loop.call_later = no_timer  # type: ignore[assignment]
    answer = Batcher(desk).ask(1)
    await asyncio.sleep(0)
    assert desk.calls == [[1]]
    assert await answer == 2


async def calls_begin(desk: Desk, number: int) -> None:
    """Returns when so many calls have begun."""
    await until(lambda: len(desk.calls) == number)


@in_loop
async def test_nobody_waits_for_two_answers_of_a_slow_server() -> None:
    """With ``at_once`` 3, up to 3 calls are under way; a fourth waits for the end of one."""
    desk = Desk()
    batcher = Batcher(desk, at_once=3)
    desk.open.clear()
    answers = []
    for number in range(3):
        answers.append(batcher.ask(number))
        await calls_begin(desk, number + 1)
    answers += [batcher.ask(number) for number in (3, 4)]
    await asyncio.sleep(3 * batching.PATIENCE)
    assert desk.calls == [[0], [1], [2]]
    desk.open.set()
    assert await asyncio.gather(*answers) == [0, 2, 4, 6, 8]
    assert desk.calls == [[0], [1], [2], [3, 4]]


@in_loop
async def test_questions_gather_while_a_server_answers_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many calls may be under way, those asked within ``PATIENCE`` are one call."""
    monkeypatch.setattr(batching, "PATIENCE", 3600)
    desk = Desk()
    batcher = Batcher(desk, at_once=3)
    desk.open.clear()
    answers = [batcher.ask(0)]
    await turns()
    answers += [batcher.ask(number) for number in (1, 2)]
    await turns()
    assert desk.calls == [[0]]
    desk.open.set()
    assert await asyncio.gather(*answers) == [0, 2, 4]
    assert desk.calls == [[0], [1, 2]]


@in_loop
async def test_what_is_done_after_the_calls_waits_for_all_under_way() -> None:
    """An action waits for each call that is under way, and not for those that begin later.

    Nor is an answer given before those of the calls that began earlier.
    """
    gates = [asyncio.Event() for _ in range(3)]
    done: list[int] = []

    async def serve(questions: Sequence[int]) -> Sequence[int]:
        await gates[questions[0]].wait()
        done.append(questions[0])
        return questions

    batcher = Batcher(serve, at_once=3)
    answers = [batcher.ask(0)]
    await turns()
    answers.append(batcher.ask(1))
    await until(lambda: len(batcher._calls) == 2)
    batcher.after_call(lambda: done.append(-1))
    answers.append(batcher.ask(2))
    await until(lambda: len(batcher._calls) == 3)
    for number in (1, 0, 2):
        gates[number].set()
        await until(lambda number=number: number in done)
        # Who asks first has the answer first: downloads begin in the order of their requests.
        assert answers[1].done() == (0 in done)
    await asyncio.gather(*answers)
    assert done == [1, 0, -1, 2]


@in_loop
async def test_close_ends_all_calls() -> None:
    """After ``close`` no call is under way, and no further one begins."""
    desk = Desk()
    batcher = Batcher(desk, at_once=2)
    desk.open.clear()
    answers = [batcher.ask(0)]
    await turns()
    answers.append(batcher.ask(1))
    await calls_begin(desk, 2)
    answers.append(batcher.ask(2))
    await batcher.close()
    found = await asyncio.gather(*answers, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in found)
    await asyncio.sleep(2 * batching.PATIENCE)
    assert desk.calls == [[0], [1]]
    assert not batcher._calls


@in_loop
async def test_a_call_has_a_limit() -> None:
    """No call gets more questions than the limit; all are answered, in order."""
    desk = Desk()
    batcher = Batcher(desk, limit=3)
    answers = [batcher.ask(number) for number in range(8)]
    assert await asyncio.gather(*answers) == [2 * number for number in range(8)]
    assert desk.calls == [[0, 1, 2], [3, 4, 5], [6, 7]]


@in_loop
async def test_who_is_cancelled_in_time_is_left_out() -> None:
    """A question that was cancelled before its call began is not asked; the others are."""
    desk = Desk()
    batcher = Batcher(desk, limit=2)
    answers = [batcher.ask(number) for number in range(5)]
    answers[0].cancel()
    answers[3].cancel()
    assert await asyncio.gather(answers[1], answers[2], answers[4]) == [2, 4, 8]
    assert desk.calls == [[1, 2], [4]]


@in_loop
async def test_who_is_cancelled_late_harms_nobody() -> None:
    """A caller that is cancelled during the call loses only its own answer."""
    desk = Desk()
    batcher = Batcher(desk)
    desk.open.clear()
    askers = [asyncio.create_task(_asked(batcher, number)) for number in range(4)]
    await turns()
    askers[1].cancel()
    desk.open.set()
    answers = await asyncio.gather(*askers, return_exceptions=True)
    assert answers[::2] == [0, 4]
    assert isinstance(answers[1], asyncio.CancelledError)
    assert await batcher.ask(9) == 18


async def _asked(batcher: Batcher[int, int], number: int) -> int:
    return await batcher.ask(number)


@in_loop
async def test_an_error_reaches_all_who_were_in_the_call() -> None:
    """What a call raises is raised to everyone in it; later questions are answered."""
    desk = Desk()
    batcher = Batcher(desk, limit=2)
    desk.errors = [OSError("no luck")]
    failed = [batcher.ask(number) for number in range(2)]
    desk.open.clear()
    await turns()
    later = batcher.ask(7)
    desk.open.set()
    for answer in failed:
        with pytest.raises(OSError, match="no luck"):
            await answer
    assert await later == 14


@in_loop
async def test_a_wrong_number_of_answers_leaves_nobody_waiting() -> None:
    """A call that returns too few answers is an error for those who have none."""

    async def forgetful(questions: Sequence[int]) -> Sequence[int]:
        return questions[1:]

    batcher = Batcher(forgetful)
    answers = await asyncio.gather(*map(batcher.ask, range(3)), return_exceptions=True)
    assert isinstance(answers[-1], ValueError)


@in_loop
async def test_telling_does_not_wait_and_drain_does() -> None:
    """What is told goes with the next call; ``drain`` returns when all of it has been told."""
    desk = Desk()
    batcher = Batcher(desk, limit=2)
    await batcher.drain()
    desk.open.clear()
    for number in range(5):
        batcher.tell(number)
    drained = asyncio.create_task(batcher.drain())
    await turns(10)
    assert not drained.done()
    desk.open.set()
    await drained
    assert desk.calls == [[0, 1], [2, 3], [4]]
    batcher.tell(5)
    assert await batcher.ask(6) == 12
    assert desk.calls[3:] == [[5, 6]]


@in_loop
async def test_a_failed_tale_does_not_pass_in_silence() -> None:
    """An error of a call that has no waiter goes to the loop's handler, and the rest continues."""
    desk = Desk()
    batcher = Batcher(desk, limit=1)
    heard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    errors = [OSError("no luck"), OSError("none at all")]
    desk.errors = list(errors)
    batcher.tell(1)
    batcher.tell(2)
    await batcher.drain()
    assert [context["exception"] for context in heard] == errors[::-1]


@pytest.mark.parametrize("started", [False, True])
@in_loop
async def test_close_gives_up_and_leaves_nobody_waiting(*, started: bool) -> None:
    """After ``close`` nothing is asked any more, and those that wait are cancelled."""
    desk = Desk()
    batcher = Batcher(desk, limit=2)
    desk.open.clear()
    answers = [batcher.ask(number) for number in range(5)]
    batcher.tell(5)
    if started:
        await turns()
    await batcher.close()  # not through a task: the call must not have begun
    done = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), PATIENCE)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in done)
    assert desk.calls == ([[0, 1]] if started else [])
    await asyncio.wait_for(batcher.drain(), PATIENCE)
    await asyncio.wait_for(batcher.close(), PATIENCE)


@in_loop
async def test_two_thousand_askers() -> None:
    """Many at once, some of them cancelled: each gets its own answer, in few calls."""
    desk = Desk()
    chance = random.Random(1)

    async def slow(questions: Sequence[int]) -> list[int]:
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        return await desk(questions)

    batcher = Batcher(slow, limit=500)

    async def asker(number: int) -> int:
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        return await batcher.ask(number)

    askers = [asyncio.create_task(asker(number)) for number in range(2000)]
    for _ in range(15):
        await asyncio.sleep(0)
    gone = set(chance.sample(range(2000), 200))
    for number in gone:
        askers[number].cancel()
    answers = await asyncio.gather(*askers, return_exceptions=True)
    for number, answer in enumerate(answers):
        if number in gone:
            assert answer == 2 * number or isinstance(answer, asyncio.CancelledError)
        else:
            assert answer == 2 * number
    asked = [number for call in desk.calls for number in call]
    assert len(asked) == len(set(asked))
    assert len(desk.calls) < 60
