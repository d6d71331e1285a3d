"""What Valkey remembers of posts: claim, confirm, release, look up and forget, many at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import TypeAlias

from scrapy_valkey_dedup.ledger.answers import answer_to_claim, answer_to_look, post_state
from scrapy_valkey_dedup.ledger.history import History
from scrapy_valkey_dedup.ledger.keys import KeyNames
from scrapy_valkey_dedup.ledger.opening import Opening, namespace_exists
from scrapy_valkey_dedup.ledger.probe import Probe
from scrapy_valkey_dedup.ledger.retention import retention_and_step
from scrapy_valkey_dedup.ledger.runs import Runs
from scrapy_valkey_dedup.ledger.scripts import Calls, all_scripts, calls_for, in_order
from scrapy_valkey_dedup.ledger.tokens import (
    NUMBER_BYTES,
    number_bytes,
    padded,
)
from scrapy_valkey_dedup.model import (
    CLAIM_LIFETIME,
    Answer,
    Key,
    LedgerUnavailableError,
    PostState,
    ReleasedClaim,
    Token,
)
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import Argument, ScriptCall, command

_STALE_AFTER = 3_600_000
"""ms: no copy of a question is on its way for longer, be it in a kernel or in a proxy."""
_COUNTED_AT_ONCE = 4
"""Partitions: in all, four times as long as Valkey takes to answer, which may be far away."""
_REPLY_LIFETIME = 60.0
"""Seconds in which a recorded question whose reply was lost may be asked again."""
Also: TypeAlias = Callable[[], Awaitable[object]]


class Ledger:
    """The ledger of one namespace, as one run sees it. Times are in seconds.

    A run tells its claims on a post apart by numbers; the later one counts.
    Every method may be repeated: what a lost reply had done already is done once. Errors are those
    of :class:`~scrapy_valkey_dedup.valkey.client.Client`.
    """

    def __init__(  # noqa: PLR0913 (all but three are keywords)
        self,
        client: Client,
        namespace: str,
        run: str,
        *,
        retention: float | None,
        refresh: bool = True,
        record: bool = False,
        reset: bool = False,
        claim_lifetime: float = CLAIM_LIFETIME,
        shelf: str = "",
    ) -> None:
        """``run``: 9 letters at most. ``retention`` None is forever.

        With ``record`` a claim counts as confirmed at once. With ``reset`` nothing counts as
        remembered; what is confirmed is remembered again. A ``shelf`` keeps other things than posts
        apart from them: layout and heartbeats are those of the namespace.
        """
        self.run, self.claim_lifetime = run, claim_lifetime
        self.identity = ""
        """Once it is open: what tells it from one that was emptied, or has the same address."""
        self._client = client
        self._names = names = KeyNames(namespace, shelf)
        self._name = name = padded(run)
        kept, step = retention_and_step(retention)
        lifetime = _REPLY_LIFETIME if record else claim_lifetime
        known = "ignore" if reset else "refresh" if refresh else "keep"
        self._acquire: tuple[Argument, ...] = (kept, step, int(lifetime * 1000), known)
        self._remember: tuple[Argument, ...] = (name, kept, step)
        self._sure: tuple[Argument, ...] = (name, "sure", _STALE_AFTER)
        self._in_doubt: tuple[Argument, ...] = (name, "doubt", _STALE_AFTER)
        self._renew: tuple[Argument, ...] = (name, int(claim_lifetime * 1000))
        self._record, self._reset = record, reset
        self._questions = count()
        self._scripts = all_scripts()
        self.runs = Runs(client, names, run)
        self.history = History(client, names, run)
        self.probe = Probe(
            client, names, run, self._scripts, self._remember, release=self._sure, record=record
        )

    @property
    def calls_answered(self) -> int:
        """How many script calls were answered so far: it grows while Valkey works."""
        return self._client.calls_answered

    @property
    def root(self) -> str:
        """What the names of all keys begin with that belong to the namespace as a whole."""
        return self._names.root

    @property
    def namespace_keys(self) -> tuple[str, str]:
        """The keys that stand for the namespace as a whole: what it is, and its layout."""
        return self._names.identity, self._names.layout

    async def open(self, *, again: bool = False, also: Sequence[Also] = ()) -> None:
        """Checks that this run may use the ledger, and that this version can read it.

        ``again``: it has been open before, at a server that may have lost everything since.
        ``also`` is done with the last check: what it asks takes no further round trip.

        Raises:
            LedgerRefusedError: a permission is missing, the server is too old, or the layout is
                another version's.

        """
        opening = Opening(self._client, self._names)
        await opening.look(is_known=again)
        checks = () if again else (self.probe.check_permissions,)
        await self._client.together(opening.begin(), *(check() for check in (*checks, *also)))
        self.identity = opening.identity

    async def exists(self) -> bool:
        """Whether there is such a ledger; checks that this version can read it.

        Changes nothing, and needs no permission to.

        Raises:
            LedgerRefusedError: as :meth:`open` does.

        """
        return await namespace_exists(self._client, self._names)

    async def ping(self) -> bool:
        """Whether the server answers the plainest question that the plugin has."""
        key = self._names.layout
        try:
            await self._client.ask(command("GET", key), key=key)
        except LedgerUnavailableError:
            return False
        return True

    async def claim_many(
        self,
        keys: Sequence[Key],
        dead: Iterable[Token] = (),
        number: int = 0,
        on_lost: Callable[[], None] | None = None,
    ) -> list[Answer]:
        """Asks for posts; claims whose runs are known to be ``dead`` may be taken over.

        ``number``: of the claims, greater than those of earlier questions.
        ``on_lost`` is called when an attempt without a reply may have arrived, or may still.
        Returns one answer for each, in order.
        """
        question = f"{self.run}:{next(self._questions)}" if self._record else ""
        within = _REPLY_LIFETIME if self._record else None
        head = (*self._acquire, question, b"".join(dead))
        calls = self._calls("claim", head, keys, first=(self._name + number_bytes(number),))
        found = await self._client.run([call for call, _ in calls], within, on_lost)
        return [answer_to_claim(reply) for reply in in_order(calls, found, len(keys))]

    async def settle_many(self, stored: Sequence[Key], not_stored: Sequence[ReleasedClaim]) -> None:
        """Confirms some and releases others, in one round trip."""
        calls = self._calls("confirm", self._remember, stored)
        for head, in_doubt in ((self._sure, False), (self._in_doubt, True)):
            claims = [each for each in not_stored if each.in_doubt is in_doubt]
            calls += self._releases(head, claims)
        await self._client.run([call for call, _ in calls])

    async def renew_many(self, keys: Sequence[Key], numbers: Sequence[int]) -> int:
        """Lengthens the life of claims; returns how many of them were still this run's."""
        calls = self._calls("renew", self._renew, keys, numbers=numbers)
        return sum(await self._client.run([call for call, _ in calls]))

    async def confirm_many(self, keys: Sequence[Key]) -> None:
        """Remembers posts, whether claimed or not: they are stored."""
        await self.settle_many(keys, ())

    async def release_many(self, keys: Sequence[Key]) -> None:
        """Gives back this run's claims with the number 0."""
        await self.settle_many((), [ReleasedClaim(key) for key in keys])

    async def seen_many(self, keys: Sequence[Key]) -> list[bool]:
        """Tells which posts are remembered; changes nothing."""
        if self._reset:
            return [False] * len(keys)
        calls = self._calls("look", (), keys)
        found = await self._client.run([call for call, _ in calls])
        return [reply == 1 for reply in in_order(calls, found, len(keys))]

    async def look_many(self, keys: Sequence[Key]) -> list[Answer]:
        """Tells what :meth:`claim_many` would answer; changes nothing. Own claims count as none."""
        calls = self._calls("inspect", (), keys)
        found = await self._client.run([call for call, _ in calls])
        replies = in_order(calls, found, len(keys))
        return [answer_to_look(*reply, run=self._name, reset=self._reset) for reply in replies]

    async def inspect_many(self, keys: Sequence[Key]) -> list[PostState]:
        """Tells all that is kept of posts; changes nothing."""
        calls = self._calls("inspect", (), keys)
        found = await self._client.run([call for call, _ in calls])
        return [post_state(*reply) for reply in in_order(calls, found, len(keys))]

    async def forget_many(self, keys: Sequence[Key]) -> int:
        """Forgets posts; returns how many of them were remembered. Claims stay."""
        calls = self._calls("forget", (), keys)
        return sum(await self._client.run([call for call, _ in calls]))

    async def count_posts(self) -> int:
        """About how many posts are remembered: exact up to two million in a generation.

        One that is in two generations counts twice. A few partitions at a time: no run waits long.
        """
        script, names = self._scripts["count"], self._names.partitions
        calls = [ScriptCall(script, name, (), ()) for name in names]
        found = 0
        for start in range(0, len(calls), _COUNTED_AT_ONCE):
            found += sum(await self._client.run(calls[start : start + _COUNTED_AT_ONCE]))
        return found

    def _releases(self, head: tuple[Argument, ...], claims: Sequence[ReleasedClaim]) -> Calls:
        """The calls that release claims: each post is followed by its token."""
        numbers = [claim.number for claim in claims]
        calls = self._calls("release", head, [claim.key for claim in claims], numbers=numbers)
        return [
            (replace(call, rest=[part for each in call.rest for part in self._apart(each)]), places)
            for call, places in calls
        ]

    def _apart(self, numbered: bytes) -> tuple[bytes, bytes]:
        """A post with its number, as the post and the token."""
        return numbered[:-NUMBER_BYTES], self._name + numbered[-NUMBER_BYTES:]

    def _calls(
        self,
        name: str,
        head: tuple[Argument, ...],
        keys: Sequence[Key],
        *,
        numbers: Sequence[int] | None = None,
        first: tuple[bytes, ...] = (),
    ) -> Calls:
        return calls_for(
            self._scripts[name], self._names.partitions, head, keys, numbers=numbers, first=first
        )
