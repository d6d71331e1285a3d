"""The claims of one run: asked for in batches, waited for where others hold them, settled."""

from __future__ import annotations

from time import monotonic

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Answer, DedupError, Key, OutageError, Token, Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.heartbeat import Heartbeat
from scrapy_valkey_dedup.session.holder_wait import Ask, HeldPosts
from scrapy_valkey_dedup.session.in_flight import InFlightClaims
from scrapy_valkey_dedup.session.keyset import KNOWN, KNOWN_TO_NONE_ELSE, RecentKeys
from scrapy_valkey_dedup.session.lookups import Lookups
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.questions import Questions
from scrapy_valkey_dedup.session.settlements import Settlements
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.session.wait_notice import WaitNotice
from scrapy_valkey_dedup.stats import ITEMS, StatNames, Stats

_RENEWED_AT_ONCE = 1000
_MINE = Answer(Verdict.HELD)
_KNOWN_ANSWER = Answer(Verdict.SEEN)
_FREE = Answer(Verdict.NEW)


class Claims:
    """The claims of one run in one ledger. Waits for other items of the run, and for other runs."""

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
        calls_at_once: int = 1,
    ) -> None:
        """``wait`` and ``lease`` are the settings.

        With ``reset`` only what this run itself has stored is a duplicate. ``calls_at_once``: so
        many questions for claims may be on their way to Valkey at once, and as many settlements.
        """
        self._ledger, self._stats, self._names = ledger, stats, names
        self._outage = outage
        self._remembers_at_once = remembers_at_once
        subject = "posts" if names is ITEMS else "pages"
        self.wait_notice = WaitNotice(subject, wait=wait, lease=lease)
        """Says when a run that seems to have ended is waited for."""
        self._reset = reset
        self._in_flight = InFlightClaims(wait, lambda: outage.holds)
        self._known = RecentKeys(KNOWN_TO_NONE_ELSE if reset else KNOWN)
        self._questions = Questions(
            ledger, stats, names, outage, heartbeat, calls_at_once=calls_at_once
        )
        self._held_posts = HeldPosts(self._questions, heartbeat, self.wait_notice, wait)
        self.lookups = Lookups(self._questions, outage, stats, names)
        """For posts that nothing will store."""
        self.settlements = Settlements(
            ledger=ledger,
            in_flight=self._in_flight,
            known=self._known,
            stats=stats,
            names=names,
            outage=outage,
            spool=spool,
            calls_at_once=calls_at_once,
        )

    @property
    def open(self) -> list[Claim]:
        """The claims that are not settled."""
        return self._in_flight.open

    @property
    def open_count(self) -> int:
        """How many they are."""
        return self._in_flight.open_count

    def get(self, key: Key) -> Claim:
        """The claim on a key that is not settled; if there is none, :data:`NO_CLAIM`."""
        return self._in_flight.get(key)

    # -- asking ----------------------------------------------------------------------------------

    async def claim(self, key: Key) -> Claim | Verdict:
        """Asks until the answer is final. Returns the claim; or, if there is none, why.

        ``SEEN``: it is remembered. ``HELD``: another run, or another item of this one, has been at
        it for longer than ``WAIT``. ``NEW``: it was recorded at once, there is nothing to settle.
        """
        if key in self._in_flight:
            verdict = await self._in_flight.wait_for_other_item(key)
            if verdict is not Verdict.NEW:
                held = verdict is Verdict.HELD
                self._stats.count(self._names.in_flight if held else self._names.duplicate)
                return verdict
        outcome = await self._obtain(key, waits=True)
        if isinstance(outcome, Claim):
            return outcome
        if outcome.verdict is Verdict.HELD:
            self._stats.count(self._names.in_flight)
        return outcome.verdict

    async def attempt(self, key: Key, dead: Token = b"") -> Claim | Answer:
        """Asks once; the claim ``dead`` is taken over. Never waits for another item or run."""
        if key in self._in_flight:
            return _MINE
        return await self._obtain(key, dead)

    async def look(self, key: Key) -> Answer:
        """What :meth:`attempt` would be answered; claims nothing, and counts nothing.

        ``NEW`` is no more than a guess: it is also the answer if Valkey cannot be asked.
        """
        if key in self._in_flight:
            return _FREE
        try:
            return await self._questions.look(key)
        except DedupError:
            return _FREE

    def heed_look(self, key: Key, answer: Answer) -> None:
        """What was looked up is not claimed, because of this answer: counts it like a claim's."""
        if answer.verdict is Verdict.SEEN:
            self._known.add(key)
            self._stats.count(self._names.duplicate)

    async def _obtain(self, key: Key, dead: Token = b"", *, waits: bool = False) -> Claim | Answer:
        """Asks; ``waits``: until the answer is final. Items are many: they all pass here."""
        began = monotonic()
        claim = Claim(key, self._settle)
        self._in_flight.add(claim)
        try:
            answer, error = None, None
            try:
                if self._reset and key in self._known:
                    answer = _KNOWN_ANSWER
                else:
                    answer = await self._questions.claim(claim, dead)
            except DedupError as failure:
                error = failure
            if answer is None or (waits and answer.verdict is Verdict.HELD):
                ask = self._held_posts.asker(began) if waits else self._attempter(dead)
                answer = await self._answer_in_the_end(claim, ask, answer, error)
        except BaseException:
            # Cancelled. The question may be on its way to Valkey, and the release must not be there
            # before it.
            self._questions.after_call(claim.release)
            raise
        return self._outcome(claim, answer)

    def _outcome(self, claim: Claim, answer: Answer | None) -> Claim | Answer:
        """What an answer means; None: Valkey could not be asked."""
        if answer is None:
            self._stats.count(self._names.unchecked)
            return claim
        if answer.verdict is Verdict.SEEN:
            self._known.add(claim.key)
            self._stats.count_soon(self._names.duplicate)
        elif answer.verdict is Verdict.NEW:
            self._stats.count_soon(self._names.new)
            if not self._remembers_at_once:
                return claim
            self._known.add(claim.key)
        if claim.in_doubt and answer.verdict is not Verdict.NEW:
            # A copy of its question may have claimed the post, or would do so when it is free.
            self.settlements.give_back(claim)
        remembered = answer.verdict is Verdict.NEW
        self._in_flight.remove(claim.key, Verdict.SEEN if remembered else answer.verdict)
        return answer

    async def _answer_in_the_end(
        self, claim: Claim, ask: Ask, answer: Answer | None, error: DedupError | None
    ) -> Answer | None:
        """Goes on after a first ``answer`` or ``error``. None: Valkey cannot be asked.

        In an outage the run answers from memory.
        """
        while True:
            try:
                if error is None:
                    return await ask(claim, answer)
            except DedupError as failure:
                error = failure
            if claim.key in self._known:
                return _KNOWN_ANSWER
            # What is remembered at once may be so by this very question, whose reply was lost: if
            # it was asked again, the answer would be SEEN, and the post lost.
            lost = self._remembers_at_once and not isinstance(error, OutageError)
            if lost or not await self._outage.over():
                return None
            answer, error = None, None

    def _attempter(self, dead: Token) -> Ask:
        return lambda claim, _: self._questions.claim(claim, dead)

    # -- settling --------------------------------------------------------------------------------

    def accept(self, claim: Claim) -> None:
        """Every pipeline has accepted the item, and it will be stored later."""
        self._in_flight.accept(claim)

    def _settle(self, claim: Claim, stored: bool) -> None:  # noqa: FBT001 (the shape Claim calls)
        self.settlements.tell(claim, stored=stored)

    async def renew(self) -> None:
        """Renews the claims, which expire; a feed may be stored days after its posts came."""
        if self._remembers_at_once:
            return
        claims = self._in_flight.open
        for start in range(0, len(claims), _RENEWED_AT_ONCE):
            some = [claim for claim in claims[start : start + _RENEWED_AT_ONCE] if claim.is_open]
            keys, numbers = [claim.key for claim in some], [claim.number for claim in some]
            try:
                await self._ledger.renew_many(keys, numbers)
            except DedupError as error:
                self._outage.failed(error)
                return

    async def flush(self, patience: float) -> None:
        """Delivers what is settled; gives up when nothing was taken for ``patience`` seconds."""
        await self._questions.given_up(patience)
        await self.settlements.flush(patience)
