"""What Valkey remembers of posts: claim, confirm, release, look and forget, for many at a time.

Of a key's 128 bits, 4 choose a partition (a hash tag, so a slot of a cluster), 29 a path through
buckets that grow by levels (8 bits for the first, 3 for each below), and the last 64 are the
integer in the bucket's set: a lookup meets a stranger's with a chance of less than 2 to the -50.
The scripts in ``lua/`` do the rest; ``lua/layout.lua`` describes the keys.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib.resources import files
from itertools import count
from math import inf
from secrets import token_hex
from typing import Any

from scrapy_valkey_dedup.model import (
    CLAIM_LIFETIME,
    KEY_BYTES,
    TRIAL_MARK,
    Answer,
    CommandRefusedError,
    DedupError,
    Given,
    Key,
    LedgerRefusedError,
    LedgerReplyError,
    LedgerUnavailableError,
    Token,
    Verdict,
)
from scrapy_valkey_dedup.valkey.client import Server
from scrapy_valkey_dedup.valkey.resp import Argument, Script, ScriptCall, command
from scrapy_valkey_dedup.valkey.topology import slot_of

LAYOUT = "2"
PARTITIONS = 16
"""Few, as each batch needs a call for every partition that it touches: of 80 posts, 16 with 16
partitions, 46 with 64."""
PARTITION_NAMES = tuple(f"{2 * (number >> 2)}{number & 3}" for number in range(PARTITIONS))
"""As hash tags end so, each sixteenth of a cluster's slots has one, whatever stands before."""

CALL_LIMIT = 500  # posts in one script call; ElastiCache allows 3,999 arguments
_BEATS_LIMIT = 1000
OLDEST = (7, 0)
"""The oldest server that knows ``SET NX GET``: Redis 7.0, of which Valkey 7.2 is the successor."""
STEPS_IN_RETENTION = 2
"""A generation begins every half of the retention. Quarters would hold a post 12 % shorter on
average, and make a lookup visit five generations in place of three (15 us in place of 9)."""

_FOREVER = 100 * 365 * 86400.0
"""As good as that: the end of a generation has 13 digits, which last until the year 2286."""

_TRIAL = re.compile(rf"(.+)({re.escape(TRIAL_MARK)}[A-Za-z0-9._-]{{1,32}})", re.DOTALL)
IDLE = "idle"
RUN_BYTES, _NUMBER_BYTES = 9, 3
END = 13
"""Digits of the end of a generation in a list of them; one more says how many levels it has."""
_PATH_BITS, _LOWER_BITS = 29, 21
NUMBERS = 1 << 8 * _NUMBER_BYTES
"""A run's numbers go round in a circle of so many."""
_TURNED_AWAY = 3_600_000
"""ms: no copy of a question is on its way for longer, be it in a kernel or in a proxy."""
_MOMENT = 1000  # ms: as long as what is written on trial may stay
_REPLY_LIFETIME = 60.0  # as long as a question whose reply was lost may be put again
_NOBODY = b"-" * (RUN_BYTES + _NUMBER_BYTES)
_ANSWERS = {
    0: Answer(Verdict.NEW),
    1: Answer(Verdict.SEEN),
    2: Answer(Verdict.NEW, taken_over=True),
}


_PARTS = {
    "claim": (
        "clock", "find", "claim", "generations", "refresh", "tokens", "contend", "record",
    ),
    "confirm": ("clock", "confirm", "generations", "overflow"),
    "release": ("release", "tokens", "doubt"),
    "renew": ("tokens", "renew"),
    "look": ("find", "look"),
    "inspect": ("find", "inspect"),
    "forget": ("generations", "forget"),
    "restore": ("clock", "generations", "restore"),
}  # fmt: skip
"""What a script consists of, behind the layout: what most calls do comes early, and ends them."""


def _script(name: str) -> Script:
    folder = files("scrapy_valkey_dedup.ledger") / "lua"
    parts = ("layout", *_PARTS[name])
    source = "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in parts)
    # A server keeps the source; without its comments it is half as long.
    return Script(name, re.sub(r"^\s*(--.*)?\n", "", source, flags=re.MULTILINE))


def tag(namespace: str) -> str:
    """The namespace as it stands in key names: itself if it is plain and short, else its digest.

    A trial's stays what it is behind the namespace that it tries: who may use that may try.
    """
    if trial := _TRIAL.fullmatch(namespace):
        return tag(trial[1]) + trial[2]
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", namespace):
        return namespace
    return "%" + blake2b(namespace.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def split(key: Key) -> tuple[int, bytes]:
    """A key as its partition, and the rest as the scripts read it: path and member in one text."""
    path = int.from_bytes(key[:5], "big") >> 7 & (1 << _PATH_BITS) - 1
    member = int.from_bytes(key[8:], "big", signed=True)
    return key[0] >> 4, b"%02x%07o%d" % (path >> _LOWER_BITS, path & (1 << _LOWER_BITS) - 1, member)


def token(run: str, number: int = 0) -> Token:
    """What stands in Valkey for a claim of a run."""
    return run.encode().ljust(RUN_BYTES) + _number(number)


def _number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def run_of(holder: Token) -> str:
    """The run that a token belongs to."""
    return holder[:RUN_BYTES].rstrip().decode("utf-8", "replace")


def is_held(claim: bytes) -> bool:
    """Whether somebody holds a claim, as what stands in it says; ``b""``: there is none."""
    return bool(claim) and not claim.startswith(_NOBODY)


def _moment(ends: bytes) -> float | None:
    if not ends:
        return None
    return int(ends) / 1000 or inf


@dataclass(frozen=True)
class Standing:
    """What the ledger keeps of one post."""

    until: float | None
    """The time, in seconds, until which it is remembered: ``inf`` forever, None: it is not."""
    holder: str | None
    """The run that has claimed it."""


_NOBODYS = split(blake2b(b"nobody's", digest_size=KEY_BYTES, person=b"vd1").digest())[1]
"""A post that there is not; in every partition, though its key would belong in one."""
_NOBODYS_NAME = _NOBODYS.decode()
_NOBODYS_CLAIM = _NOBODYS + bytes(_NUMBER_BYTES)


class Ledger:
    """The ledger of one namespace, as one run sees it. Times are in seconds.

    A run tells its claims on a post apart by numbers, of which the later counts.
    Every method may be repeated: what a lost reply had done already is done once. Errors are those
    of :class:`~scrapy_valkey_dedup.valkey.client.Server`.
    """

    def __init__(  # noqa: PLR0913 (all but three are keywords)
        self,
        server: Server,
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
        """``run``: 9 letters at most. With ``record`` a claim counts as confirmed at once.

        ``retention`` None is forever.

        With ``reset`` nothing counts as remembered; what is confirmed is remembered anew. A
        ``shelf`` keeps other things than posts apart from them: layout and heartbeats are those
        of the namespace.
        """
        self.claim_lifetime = claim_lifetime
        self.identity = ""
        """Once it is open: what tells it from one that was emptied, or has the same address."""
        self._server = server
        self.run = run
        name = run.encode().ljust(RUN_BYTES)
        if len(name) != RUN_BYTES:
            raise ValueError(f"{run!r} is no name of a run")
        root = tag(namespace)
        self._root = f"vd1:{{{root}}}"
        # A namespace's tag has no plus sign, so a shelf is no other namespace's.
        part = f"{root}+{shelf}" if shelf else root
        self._partitions = [f"vd1:{{{part}:{name}}}" for name in PARTITION_NAMES]
        self._rehearsal = f"vd1:{{{part}:{run}}}"
        if retention is not None and retention >= _FOREVER:
            retention = None
        kept = 0 if retention is None else max(int(retention * 1000), 1)
        self._remember: tuple[Argument, ...] = (name, kept, kept // STEPS_IN_RETENTION)
        self._sure: tuple[Argument, ...] = (name, "sure", _TURNED_AWAY)
        self._in_doubt: tuple[Argument, ...] = (name, "doubt", _TURNED_AWAY)
        self._renew: tuple[Argument, ...] = (name, int(claim_lifetime * 1000))
        self._record = record
        self._reset = reset
        self._questions = count()
        lifetime = int((_REPLY_LIFETIME if record else claim_lifetime) * 1000)
        self._name = name
        known = "ignore" if reset else "refresh" if refresh else "keep"
        self._acquire = (*self._remember[1:], lifetime, known)
        self._scripts = {name: _script(name) for name in _PARTS}

    @property
    def answered(self) -> int:
        """How many script calls were answered so far: who waits sees whether it goes on."""
        return self._server.answered

    async def open(self, *, again: bool = False) -> None:
        """Checks that this run may use the ledger, and that this version can read it.

        ``again``: it has been open before, at a server that may have lost everything since.

        Raises:
            LedgerRefusedError: a permission is missing, the server is too old, or the layout is
                another version's.

        """
        if not again:
            await self._check_version()
        name, identity = f"{self._root}:layout", f"{self._root}:id"
        # MGET, as heartbeats are read: whoever may not is told now.
        look = command("MGET", name, identity)
        found, known = _two(await self._server.ask(look, key=name))
        if found in (None, LAYOUT.encode()) and None in (found, known):
            begin = [
                command("SET", each, value, "NX")
                for each, value in ((name, LAYOUT), (identity, token_hex(8)))
            ]
            found, known = _two(await self._server.ask(*begin, look, key=name))
        self._check_layout(found)
        self.identity = (known or b"").decode("utf-8", "replace")
        if not again:
            await self.rehearse()

    async def answers(self) -> bool:
        """Whether the server answers the plainest question that the plugin has."""
        key = f"{self._root}:layout"
        try:
            await self._server.ask(command("GET", key), key=key)
        except LedgerUnavailableError:
            return False
        return True

    async def look_at(self) -> bool:
        """Checks that this version can read the ledger; returns whether there is one.

        Changes nothing, and needs no permission to.

        Raises:
            LedgerRefusedError: as :meth:`open` does.

        """
        await self._check_version()
        names = f"{self._root}:layout", f"{self._root}:id"
        found, _ = _two(await self._server.ask(command("MGET", *names), key=names[0]))
        self._check_layout(found or LAYOUT.encode())
        return found is not None

    @property
    def names_of_all(self) -> tuple[str, str]:
        """The keys that stand for the namespace as a whole: what it is, and its layout."""
        return f"{self._root}:id", f"{self._root}:layout"

    def _check_layout(self, found: bytes | None) -> None:
        if found != LAYOUT.encode():
            raise LedgerRefusedError(
                f"the ledger {self._root} has layout {found!r:.20}; this version of "
                f"scrapy-valkey-dedup writes layout {LAYOUT}: install the version that wrote it, "
                "or choose another VALKEY_DEDUP_NAMESPACE"
            )

    async def _check_version(self) -> None:
        """HELLO without arguments changes nothing and needs no permission."""
        try:
            (about,) = await self._server.ask(command("HELLO"), key=self._root)
        except (LedgerReplyError, CommandRefusedError):
            return  # a proxy that does not know it: the rehearsal shows what the scripts can do
        facts = _facts(about)
        product, version = facts.get("server", ""), facts.get("version", "")
        if facts.get("mode") == "sentinel":
            raise LedgerRefusedError(
                "it is a Sentinel that VALKEY_DEDUP_URL names: write valkey+sentinel:// (with TLS "
                "valkeys+sentinel://) and the name of the service, as in "
                "valkey+sentinel://one:26379,two:26379/posts"
            )
        if facts.get("mode") == "cluster":
            await self._check_slots()
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
            raise LedgerRefusedError(
                f"the server is {product or 'redis'} {version}, which is too old: Valkey 7.2 is "
                "the oldest that works (or Redis 7.0). Upgrade it, or let VALKEY_DEDUP_URL name "
                "another"
            )

    async def _check_slots(self) -> None:
        """Meets the MOVED of a node of a cluster that is addressed as one server.

        Reads at both ends of the range of slots: where there are several nodes, one has the first
        slots and another one the last.
        """
        ends = min(self._partitions, key=slot_of), max(self._partitions, key=slot_of)
        names = [f"{partition}:c:{_NOBODYS_NAME}" for partition in ends]
        await self._server.ask_each({name: command("GET", name) for name in names})

    async def rehearse(self) -> None:
        """Does with a post that nobody has all that is ever done: what is forbidden shows now.

        Raises:
            LedgerRefusedError: a permission is missing.

        """
        place, name = self._rehearsal, self._name
        # For a moment, also by a run that remembers forever: the rest is needed when it meets what
        # others remember for a while.
        remember = (name, _MOMENT, _MOMENT // STEPS_IN_RETENTION)
        claim = (*remember[1:], _MOMENT, "refresh", "", "")
        recorded = (*remember[1:], 1, "refresh", "rehearsal", "")  # its reply goes by itself
        question = [self._name + bytes(_NUMBER_BYTES), _NOBODYS]
        deeds: tuple[tuple[str, tuple[Argument, ...], list[bytes]], ...] = (
            ("claim", claim, question),
            ("renew", (name, _MOMENT), [_NOBODYS_CLAIM]),
            ("release", self._sure, question[::-1]),
            ("confirm", remember, [_NOBODYS]),
            # Of what is remembered: it reads the clock.
            ("claim", recorded if self._record else claim, question),
            ("forget", (), [_NOBODYS]),
        )
        calls = [ScriptCall(self._scripts[deed], place, head, rest) for deed, head, rest in deeds]
        try:
            await self._server.run(calls)
        except LedgerRefusedError:
            with suppress(DedupError):
                await self._server.ask(command("DEL", place), key=place)
            raise
        # With its source, although it is there: else only a server that has lost its scripts would
        # ask for this permission, in the middle of a crawl.
        look = ScriptCall(self._scripts["look"], place, (), [_NOBODYS]).command(with_source=True)
        await self._server.ask(look, command("DEL", place), key=place)

    async def try_keys(self) -> None:
        """Reads and writes one key of this shelf: what the user may, the keys apart, is known.

        Raises:
            LedgerRefusedError: its keys are not permitted.

        """
        name = f"{self._rehearsal}:c:{_NOBODYS_NAME}"
        await self._server.ask(command("SET", name, "", "PX", 1, "GET"), key=name)

    async def try_partitions(self, *, everywhere: bool = True, rehearsed: bool = False) -> None:
        """Sees that each server that serves partitions takes a write in one of them.

        That is one whose last question was given up, where there is such; with ``everywhere`` off
        these alone are tried. ``rehearsed``: the server of the rehearsal has shown it just now.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: at least one does not.

        """
        failed = [name for name in self._partitions if name in self._server.failed]
        of_place = {self._server.place_of(name): name for name in failed}
        shown = {self._server.place_of(self._rehearsal)} if rehearsed else set()
        for name in self._partitions if everywhere else ():
            place = self._server.place_of(name)
            if place not in shown:
                of_place.setdefault(place, name)
        claim = (*self._remember[1:], _MOMENT, "keep", "", "")
        question = [self._name + bytes(_NUMBER_BYTES), _NOBODYS]
        deeds: tuple[tuple[str, tuple[Argument, ...], list[bytes]], ...] = (
            ("claim", claim, question),
            ("release", self._sure, question[::-1]),
        )
        await self._server.run(
            [
                ScriptCall(self._scripts[name], partition, head, rest)
                for partition in of_place.values()
                for name, head, rest in deeds
            ]
        )

    async def claim_many(
        self,
        keys: Sequence[Key],
        dead: Iterable[Token] = (),
        number: int = 0,
        on_lost: Callable[[], None] | None = None,
    ) -> list[Answer]:
        """Asks for posts; claims that were seen ``dead`` may be taken over.

        ``number``: of the claims, greater than those of earlier questions.
        ``on_lost`` is called when an attempt may have arrived, or may still, that has no reply.
        Returns one answer for each, in order.
        """
        question = f"{self.run}:{next(self._questions)}" if self._record else ""
        within = _REPLY_LIFETIME if self._record else None
        head = (*self._acquire, question, b"".join(dead))
        calls = self._calls("claim", head, keys, first=(self._name + _number(number),))
        found = await self._server.run([call for call, _ in calls], within, on_lost)
        return [
            _ANSWERS[reply] if isinstance(reply, int) else Answer(Verdict.HELD, reply)
            for reply in _in_order(calls, found, len(keys))
        ]

    async def settle_many(self, stored: Sequence[Key], not_stored: Sequence[Given]) -> None:
        """Confirms some and releases others, in one round trip."""
        calls = self._calls("confirm", self._remember, stored)
        for head, in_doubt in ((self._sure, False), (self._in_doubt, True)):
            given = [each for each in not_stored if each.in_doubt is in_doubt]
            calls += self._releases(head, given)
        await self._server.run([call for call, _ in calls])

    def _releases(
        self, head: tuple[Argument, ...], given: Sequence[Given]
    ) -> list[tuple[ScriptCall, list[int]]]:
        """The calls that give claims back: each post with its token behind it."""
        numbers = [each.number for each in given]
        calls = self._calls("release", head, [each.key for each in given], numbers)
        return [
            (replace(call, rest=[part for each in call.rest for part in self._apart(each)]), places)
            for call, places in calls
        ]

    def _apart(self, numbered: bytes) -> tuple[bytes, bytes]:
        """A post with its number, as the post and the token."""
        return numbered[:-_NUMBER_BYTES], self._name + numbered[-_NUMBER_BYTES:]

    async def renew_many(self, keys: Sequence[Key], numbers: Sequence[int]) -> int:
        """Lengthens the life of claims; returns how many of them were still this run's."""
        calls = self._calls("renew", self._renew, keys, numbers)
        return sum(await self._server.run([call for call, _ in calls]))

    async def confirm_many(self, keys: Sequence[Key]) -> None:
        """Remembers posts, whether claimed or not: they are stored."""
        await self.settle_many(keys, ())

    async def release_many(self, keys: Sequence[Key]) -> None:
        """Gives this run's claims back, those with the number 0."""
        await self.settle_many((), [Given(key) for key in keys])

    async def seen_many(self, keys: Sequence[Key]) -> list[bool]:
        """Tells which posts are remembered; changes nothing."""
        if self._reset:
            return [False] * len(keys)
        calls = self._calls("look", (), keys)
        found = await self._server.run([call for call, _ in calls])
        return [reply == 1 for reply in _in_order(calls, found, len(keys))]

    async def inspect_many(self, keys: Sequence[Key]) -> list[Standing]:
        """Tells all that is kept of posts; changes nothing."""
        calls = self._calls("inspect", (), keys)
        found = await self._server.run([call for call, _ in calls])
        return [
            Standing(_moment(ends), run_of(claim) if is_held(claim) else None)
            for ends, claim in _in_order(calls, found, len(keys))
        ]

    async def forget_many(self, keys: Sequence[Key]) -> int:
        """Forgets posts; returns how many of them were remembered. Claims stay."""
        calls = self._calls("forget", (), keys)
        return sum(await self._server.run([call for call, _ in calls]))

    async def beat(self, count: int, lease: float, *, idle: bool = False) -> bytes | None:
        """Tells the other runs that this one lives, for ``lease`` seconds.

        ``idle``: it has nothing left to do but to wait for what they hold.
        Returns the heartbeat that stood there before.
        """
        name, beat = self._heartbeat(self.run), f"{count} {IDLE}" if idle else count
        lifetime = int(lease * 1000)
        set_and_get = command("SET", name, beat, "PX", lifetime, "GET")
        (before,) = await self._server.ask(set_and_get, key=name)
        return None if before is None else bytes(before)

    async def beats(self, runs: Sequence[str]) -> list[bytes | None]:
        """The last heartbeat of each run, None if it is over; of an idle one it ends in IDLE."""
        return await self._each(self._heartbeat, runs)

    async def _each(self, name: Callable[[str], str], runs: Sequence[str]) -> list[bytes | None]:
        """The value of a key of each run, all at one moment as long as they are not too many."""
        questions = [
            command("MGET", *map(name, runs[start : start + _BEATS_LIMIT]))
            for start in range(0, len(runs), _BEATS_LIMIT)
        ]
        found = await self._server.ask(*questions, key=self._root)
        return [value for some in found for value in some]

    async def leave(self) -> None:
        """Ends this run's heartbeat: what it still claims is free."""
        name = self._heartbeat(self.run)
        both = name, self._note(self.run)
        await self._server.ask(*(command("DEL", each) for each in both), key=name)

    async def note(self, written: bytes, lifetime: float) -> None:
        """Says what this run is doing, for ``lifetime`` seconds. Nothing is decided by it."""
        name = self._note(self.run)
        await self._server.ask(command("SET", name, written, "PX", int(lifetime * 1000)), key=name)

    async def notes(self, runs: Sequence[str]) -> list[bytes | None]:
        """What each run has said last; None: nothing, or long ago."""
        return await self._each(self._note, runs)

    def _heartbeat(self, run: str) -> str:
        return f"{self._root}:run:{run}"

    def _note(self, run: str) -> str:
        return f"{self._root}:info:{run}"

    def _calls(
        self,
        script: str,
        head: tuple[Argument, ...],
        keys: Sequence[Key],
        numbers: Sequence[int] | None = None,
        first: tuple[bytes, ...] = (),
    ) -> list[tuple[ScriptCall, list[int]]]:
        """One call for each partition (more, if one has many posts), with the keys' positions.

        Each post goes with its number, if there are any; ``first`` goes before the posts.
        """
        posts: defaultdict[int, list[bytes]] = defaultdict(list)
        places: defaultdict[int, list[int]] = defaultdict(list)
        found: Iterable[tuple[int, bytes]] = map(split, keys)
        if numbers is not None:
            found = (
                (partition, post + _number(number))
                for (partition, post), number in zip(found, numbers, strict=True)
            )
        for position, (partition, post) in enumerate(found):
            posts[partition].append(post)
            places[partition].append(position)
        lua = self._scripts[script]
        return [
            (
                ScriptCall(lua, self._partitions[partition], head, [*first, *some]),
                places[partition][at : at + CALL_LIMIT],
            )
            for partition, of_partition in posts.items()
            for at in range(0, len(of_partition), CALL_LIMIT)
            if (some := of_partition[at : at + CALL_LIMIT])
        ]


def _facts(about: Any) -> dict[str, str]:
    """What HELLO answers, of which proxies make what they like."""
    words = about if isinstance(about, list) else []
    texts = [str(word, "utf-8", "replace") if isinstance(word, bytes) else "" for word in words]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _two(replies: Sequence[Any]) -> tuple[bytes | None, bytes | None]:
    """The two values of an MGET, the last of these replies."""
    values = replies[-1]
    if not (isinstance(values, list) and len(values) == 2):  # noqa: PLR2004
        raise LedgerRefusedError(
            f"MGET of two keys was answered with {values!r:.60}: something else than Valkey "
            "answers there. Check VALKEY_DEDUP_URL"
        )
    return values[0], values[1]


def _in_order(
    calls: Sequence[tuple[ScriptCall, list[int]]], found: Sequence[Sequence[Any]], size: int
) -> list[Any]:
    """The replies of several calls, each in its key's place."""
    replies: list[Any] = [None] * size
    for (_, positions), answers in zip(calls, found, strict=True):
        for position, answer in zip(positions, answers, strict=True):
            replies[position] = answer
    return replies
