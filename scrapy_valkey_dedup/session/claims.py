"""The claims of one run: asked for in batches, waited for where others hold them, settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import TypeAlias

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import CLAIM_NUMBERS, run_of
from scrapy_valkey_dedup.model import Answer, DedupError, Key, OutageError, Token, Verdict
from scrapy_valkey_dedup.session.batching import Batcher
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.heartbeat import Heartbeat
from scrapy_valkey_dedup.session.held_claims import Wait
from scrapy_valkey_dedup.session.in_flight import Book
from scrapy_valkey_dedup.session.keyset import RecentKeys
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.settlement import Settling
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.session.waiting import Waiting
from scrapy_valkey_dedup.stats import ITEMS, StatNames, Stats

_AT_ONCE = 10_000
_RENEWED_AT_ONCE = 1000
_MINE = Answer(Verdict.HELD)
_KNOWN_ANSWER = Answer(Verdict.SEEN)
_KNOWN = 1_000_000
"""Of so many posts, at most, a run knows by itself that they are stored: 20 bytes each."""
_Ask: TypeAlias = Callable[[Claim], Awaitable[Answer]]


class Claims:
    """The claims of one run in one ledger. Knows the run's own twins, and waits for other runs."""

    def __init__(  # noqa: PLR0913 (all but three are keywords)
        self,
        ledger: Ledger,
        stats: Stats,
        names: StatNames,
        *,
        outage: Outage,
        spool: Spool,
        heartbeat: Heartbeat,
        wait: float,
        lease: float,
        remembers_at_once: bool = False,
        reset: bool = False,
    ) -> None:
        """``heartbeat`` is the run's, and tells of those of others.

        ``wait`` and ``lease`` are the settings. With ``reset`` only what this run itself has stored
        is a duplicate.
        """
        self._ledger = ledger
        self._stats = stats
        self._names = names
        self._outage = outage
        self._heartbeat = heartbeat
        self._wait = wait
        self._numbers = count(1)
        self._remembers_at_once = remembers_at_once
        subject = "posts" if names is ITEMS else "pages"
        self.waiting = Waiting(subject, wait=wait, lease=lease)
        """Says it, if a run which has ended is waited for."""
        self._reset = reset
        self._book = Book(wait, lambda: outage.holds)
        self._known = RecentKeys(_KNOWN)
        self._batcher = Batcher(self._ask_ledger)
        self._looks = Batcher(self._look_up)
        self._settling = Settling(
            ledger=ledger,
            book=self._book,
            known=self._known,
            stats=stats,
            names=names,
            outage=outage,
            spool=spool,
        )

    @property
    def open(self) -> list[Claim]:
        """The claims that are not settled."""
        return self._book.claims

    @property
    def held(self) -> int:
        """How many they are."""
        return self._book.size

    def find(self, key: Key) -> Claim:
        """The claim on a key that is not settled, or one that stands for none."""
        return self._book.find(key)

    # -- asking ----------------------------------------------------------------------------------

    async def claim(self, key: Key) -> Claim | Verdict:
        """Asks until the answer is final. Returns the claim; or, if there is none, why.

        ``SEEN``: it is remembered. ``HELD``: another run, or another item of this one, has been at
        it for longer than ``WAIT``. ``NEW``: it was recorded at once, there is nothing to settle.
        """
        verdict = Verdict.NEW
        if key in self._book:
            verdict = await self._book.wait_for_twin(key)
            if verdict is Verdict.SEEN:
                self._stats.count(self._names.duplicate)
        if verdict is Verdict.NEW:
            wait = Wait(self._wait, longest_step=self._heartbeat.grace)
            outcome = await self._obtain(key, lambda claim: self._ask_until_final(claim, wait))
            if isinstance(outcome, Claim):
                return outcome
            verdict = outcome.verdict
        if verdict is Verdict.HELD:
            self._stats.count(self._names.in_flight)
        return verdict

    async def attempt(self, key: Key, dead: Token = b"") -> Claim | Answer:
        """Asks once; the claim ``dead`` is taken over. Does not wait for anybody."""
        if key in self._book:
            return _MINE
        return await self._obtain(key, lambda claim: self._batcher.ask((claim, dead)))

    def look_at_own(self, key: Key) -> Verdict:
        """Whether this run has met a post before; asks nobody."""
        if key in self._known:
            self._stats.count(self._names.duplicate)
            return Verdict.SEEN
        self._known.add(key)
        self._stats.count(self._names.new)
        return Verdict.NEW

    async def look(self, key: Key) -> Verdict:
        """Asks whether a post is remembered, and claims nothing; what was asked for is ``SEEN``."""
        if key in self._known:
            self._stats.count(self._names.duplicate)
            return Verdict.SEEN
        self._known.add(key)
        while True:
            try:
                seen = await self._looks.ask(key)
            except DedupError:
                if await self._outage.over():
                    continue
                self._stats.count(self._names.unchecked)
                return Verdict.NEW
            self._stats.count(self._names.duplicate if seen else self._names.new)
            return Verdict.SEEN if seen else Verdict.NEW

    async def _look_up(self, keys: Sequence[Key]) -> list[bool]:
        self._outage.check()
        self._stats.batch(len(keys))
        try:
            return await self._ledger.seen_many(keys)
        except DedupError as error:
            self._outage.failed(error)
            raise

    async def _obtain(self, key: Key, ask: _Ask) -> Claim | Answer:
        claim = Claim(key, self._settle)
        self._book.enter(claim)
        try:
            answer = await self._answer_to(claim, ask)
        except BaseException:
            # Cancelled. The question may be on its way to Valkey, and the release must not be there
            # before it.
            self._batcher.after_call(claim.release)
            raise
        if answer is None:
            self._stats.count(self._names.unchecked)
            return claim
        if answer.verdict is Verdict.SEEN:
            self._known.add(key)
            self._stats.count(self._names.duplicate)
        elif answer.verdict is Verdict.NEW:
            self._stats.count(self._names.new)
            if not self._remembers_at_once:
                return claim
            self._known.add(key)
        if claim.in_doubt and answer.verdict is not Verdict.NEW:
            # A copy of its question may have claimed the post, or would do so when it is free.
            self._settling.give_back(claim)
        remembered = answer.verdict is Verdict.NEW
        self._book.strike(key, Verdict.SEEN if remembered else answer.verdict)
        return answer

    async def _answer_to(self, claim: Claim, ask: _Ask) -> Answer | None:
        """The answer; None if Valkey cannot be asked. During an outage the run asks itself."""
        if self._reset and claim.key in self._known:
            return _KNOWN_ANSWER
        while True:
            try:
                return await ask(claim)
            except DedupError as error:
                if claim.key in self._known:
                    return _KNOWN_ANSWER
                # What is remembered at once may be so by this very question, whose reply was lost:
                # if it was put again, nobody would store the post.
                lost = self._remembers_at_once and not isinstance(error, OutageError)
                if lost or not await self._outage.over():
                    return None

    async def _ask_until_final(self, claim: Claim, wait: Wait) -> Answer:
        """Asks until the answer is final: waits for a live run, takes over from a dead one.

        Only a heartbeat that goes on after all of the time to wait is a sign of life: a run that
        was killed a moment ago has one still, and no post of a dead run must be dropped.
        """
        dead = b""
        while (answer := await self._batcher.ask((claim, dead))).verdict is Verdict.HELD:
            if wait.is_over(answer.holder):
                break
            beat = await self._heartbeat.of(run_of(answer.holder))
            dead = wait.look(beat)
            if not dead and not wait.lives:
                self.waiting.look(claim.key, run_of(answer.holder), beat or b"")
                await asyncio.sleep(wait.pause())
        if wait.waits:
            self.waiting.over(claim.key)
        return answer

    async def _ask_ledger(self, questions: Sequence[tuple[Claim, Token]]) -> list[Answer]:
        self._outage.check()
        self._stats.batch(len(questions))

        number = next(self._numbers) % CLAIM_NUMBERS
        for claim, _ in questions:
            claim.number = number

        def lost() -> None:
            for claim, _ in questions:
                claim.in_doubt = True

        try:
            await self._heartbeat.be_alive()
            answers = await self._ledger.claim_many(
                [claim.key for claim, _ in questions],
                {dead for _, dead in questions if dead},
                number,
                lost,
            )
        except DedupError as error:
            self._outage.failed(error)
            raise
        taken_over = sum(answer.taken_over for answer in answers)
        self._stats.count_nonzero(self._names.taken_over, taken_over)
        return answers

    # -- settling --------------------------------------------------------------------------------

    def accept(self, claim: Claim) -> None:
        """Every pipeline has accepted the item, and its storing comes later."""
        self._book.accept(claim)

    def _settle(self, claim: Claim, stored: bool) -> None:  # noqa: FBT001 (the shape Claim calls)
        self._settling.tell(claim, stored=stored)

    async def renew(self) -> None:
        """Claims have a lifetime of their own; a feed may be stored days after its posts came."""
        if self._remembers_at_once:
            return
        claims = self._book.claims
        for start in range(0, len(claims), _RENEWED_AT_ONCE):
            some = [claim for claim in claims[start : start + _RENEWED_AT_ONCE] if claim.is_open]
            keys, numbers = [claim.key for claim in some], [claim.number for claim in some]
            try:
                await self._ledger.renew_many(keys, numbers)
            except DedupError as error:
                self._outage.failed(error)
                return

    @property
    def delivered(self) -> int:
        """How many settlements Valkey has acknowledged: who waits sees that it goes on."""
        return self._settling.delivered

    async def deliver_kept(self) -> None:
        """Delivers what could not be delivered before; raises if it still cannot."""
        await self._settling.deliver_kept()

    @property
    def can_tell_kept(self) -> bool:
        """Whether the outage may end before Valkey knows of what came while that was delivered."""
        return self._settling.can_tell_kept

    def tell_kept(self) -> None:
        """Sends that the usual way, when the outage is over."""
        self._settling.tell_kept()

    async def deliver_spool(self, ledger: str) -> None:
        """Delivers what earlier runs could not; raises if it still cannot be."""
        await self._settling.deliver_spool(ledger)

    async def save_now_and_then(self) -> None:
        """Has what could not be delivered written to disk once a minute."""
        await self._settling.save_now_and_then()

    async def save(self) -> None:
        """Has it written to disk now: the end is near."""
        await self._settling.save()

    async def flush(self, patience: float) -> None:
        """Delivers what is settled; gives up when nothing was taken for ``patience`` seconds."""
        await self._batcher.given_up(patience)
        await self._settling.flush(patience)

    def count(self) -> None:
        """Writes into the stats what Valkey has not acknowledged so far."""
        self._settling.count()

    async def close(self) -> None:
        """Ends the work; what is stored and not delivered by now is left to the next run."""
        await self._settling.close()
