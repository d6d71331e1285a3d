"""The claims of one run: asked for in batches, waited for where others hold them, settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from scrapy_valkey_dedup.batching import Batcher
from scrapy_valkey_dedup.book import Book
from scrapy_valkey_dedup.heartbeat import UNKNOWN
from scrapy_valkey_dedup.keyset import RecentKeys
from scrapy_valkey_dedup.ledger import Ledger
from scrapy_valkey_dedup.model import Answer, Claim, DedupError, Key, OutageError, Verdict
from scrapy_valkey_dedup.outage import Outage
from scrapy_valkey_dedup.settling import Settling
from scrapy_valkey_dedup.spool import Spool
from scrapy_valkey_dedup.stats import ITEMS, Names, Stats
from scrapy_valkey_dedup.waiting import Waiting

_FIRST_LOOK, _LONGEST_LOOK = 0.05, 0.5  # seconds between two looks at a claim of another run
_AT_ONCE = 10_000
_MINE = Answer(Verdict.HELD)
_KNOWN_ANSWER = Answer(Verdict.SEEN)
_KNOWN = 1_000_000
"""Of so many posts, at most, a run knows by itself that they are stored: 20 bytes each."""


class Claims:
    """The claims of one run in one ledger. Knows the run's own twins, and waits for other runs."""

    def __init__(  # noqa: PLR0913 (all but three are keywords)
        self,
        ledger: Ledger,
        stats: Stats,
        names: Names,
        *,
        outage: Outage,
        spool: Spool,
        beat_of: Callable[[str], Awaitable[bytes | None]],
        wait: float,
        lease: float,
        grace: float,
        remembers_at_once: bool = False,
        reset: bool = False,
    ) -> None:
        """``beat_of`` tells a run's last heartbeat; ``wait`` and ``lease`` are the settings.

        With ``reset`` only what this run itself has stored is a duplicate.

        ``grace``: seconds for which a missing heartbeat may mean nothing, after an outage.
        """
        self._ledger = ledger
        self._stats = stats
        self._names = names
        self._outage = outage
        self._beat_of = beat_of
        self._wait = wait
        self._longest_wait = wait + 2 * lease + grace
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
            outcome = await self._obtain(key, self._ask_until_final)
            if isinstance(outcome, Claim):
                return outcome
            verdict = outcome.verdict
        if verdict is Verdict.HELD:
            self._stats.count(self._names.in_flight)
        return verdict

    async def attempt(self, key: Key, dead: str = "") -> Claim | Answer:
        """Asks once; a claim of the run ``dead`` is taken over. Does not wait for anybody."""
        if key in self._book:
            return _MINE
        return await self._obtain(key, lambda key: self._batcher.ask((key, dead)))

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

    async def _obtain(self, key: Key, ask: Callable[[Key], Awaitable[Answer]]) -> Claim | Answer:
        claim = Claim(key, self._settle)
        self._book.enter(claim)
        try:
            answer = await self._answer_to(key, ask)
        except BaseException:
            claim.release()  # cancelled: the question may have reached Valkey
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
        remembered = answer.verdict is Verdict.NEW
        self._book.strike(key, Verdict.SEEN if remembered else answer.verdict)
        return answer

    async def _answer_to(self, key: Key, ask: Callable[[Key], Awaitable[Answer]]) -> Answer | None:
        """The answer; None if Valkey cannot be asked. During an outage the run asks itself."""
        if self._reset and key in self._known:
            return _KNOWN_ANSWER
        while True:
            try:
                return await ask(key)
            except DedupError as error:
                if key in self._known:
                    return _KNOWN_ANSWER
                # What is remembered at once may be so by this very question, whose reply was lost:
                # if it was put again, nobody would store the post.
                lost = self._remembers_at_once and not isinstance(error, OutageError)
                if lost or not await self._outage.over():
                    return None

    async def _ask_until_final(self, key: Key) -> Answer:
        """Asks until the answer is final: waits for a live run, takes over from a dead one.

        Only a heartbeat that changes is a sign of life: a run that was killed a moment ago has one
        still, and what it held must not be dropped by all the others.
        """
        clock = asyncio.get_running_loop().time
        began, pause = clock(), _FIRST_LOOK
        holder, first_beat, dead = "", b"", ""
        while (answer := await self._batcher.ask((key, dead))).verdict is Verdict.HELD:
            beat = await self._beat_of(answer.holder)
            if answer.holder != holder:
                holder, first_beat = answer.holder, beat or b""
            waited = clock() - began
            alive = beat not in (None, UNKNOWN, first_beat)
            if (alive and waited >= self._wait) or waited >= self._longest_wait:
                break
            dead = holder if beat is None else ""
            if not dead:
                self.waiting.look(key, holder, beat or b"")
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, _LONGEST_LOOK)
        if holder:
            self.waiting.over(key)
        return answer

    async def _ask_ledger(self, questions: Sequence[tuple[Key, str]]) -> list[Answer]:
        self._outage.check()
        self._stats.batch(len(questions))
        dead = {run for _, run in questions if run}
        try:
            answers = await self._ledger.claim_many([key for key, _ in questions], dead)
        except DedupError as error:
            self._outage.failed(error)
            raise
        taken_over = sum(answer.taken_over for answer in answers)
        self._stats.count_some(self._names.taken_over, taken_over)
        return answers

    # -- settling --------------------------------------------------------------------------------

    def accept(self, claim: Claim) -> None:
        """Every pipeline has accepted the item, and its storing comes later."""
        self._book.accept(claim)

    def _settle(self, claim: Claim, stored: bool) -> None:  # noqa: FBT001 (the shape Claim calls)
        self._settling.tell(claim.key, stored=stored)

    async def renew(self) -> None:
        """Claims have a lifetime of their own; a feed may be stored days after its posts came."""
        keys = [claim.key for claim in self._book.claims]
        try:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                await self._ledger.claim_many(some)
                # What was settled meanwhile must not be left claimed.
                await self._ledger.release_many([key for key in some if key not in self._book])
        except DedupError as error:
            self._outage.failed(error)

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
        await self._settling.flush(patience)

    def count(self) -> None:
        """Writes into the stats what Valkey has not acknowledged so far."""
        self._settling.count()

    async def close(self) -> None:
        """Ends the work; what is stored and not delivered by now is left to the next run."""
        await self._settling.close()
