"""One client's connection to the front: each command is judged, then answered here or passed on."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

from bench.serverless import rules as law
from bench.serverless.backends import Entry, Link
from bench.serverless.wire import Requests, bulk, error, packed

if TYPE_CHECKING:
    from bench.serverless.front import Front

_OK = b"+OK\r\n"
_NOAUTH = "NOAUTH Authentication required."
_WRONG = "WRONGPASS invalid username-password pair or user is disabled."
_KEY_OF_SCRIPT = 3


class Connection:
    """From the first byte to the last."""

    def __init__(
        self, front: Front, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._front = front
        self._reader, self._writer = reader, writer
        self._links: list[Link] = []
        self._waiting: deque[Entry] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._instead: bytes | None = None
        self._user = ""
        self._name = b""

    async def serve(self) -> None:
        """Until the client, a backend or the service ends it."""
        loop = asyncio.get_running_loop()
        life = self._front.rules.life
        end = loop.call_later(life, self._end) if life else None
        requests = Requests()
        try:
            for number, backend in enumerate(self._front.backends):
                _, link = await loop.create_unix_connection(
                    lambda number=number: Link(  # type: ignore[misc]
                        lambda entry, reply: self._replied(number, entry, reply),
                        self._flush, self._abort,
                    ),
                    backend.socket,
                )  # fmt: skip
                self._links.append(link)
            while data := await self._reader.read(1 << 18):
                for words, raw in requests.feed(data):
                    await self._take(words, raw)
                await self._writer.drain()
        except (OSError, ValueError):
            pass
        finally:
            if end is not None:
                end.cancel()
            self._abort()

    def _end(self) -> None:
        """Its time is over: replies that have come are still sent."""
        self._flush()
        self._writer.close()

    def _abort(self) -> None:
        for link in self._links:
            link.transport.abort()
        self._writer.transport.abort()

    # -- replies -----------------------------------------------------------------------------------

    def _replied(self, number: int, entry: Entry, reply: bytes) -> None:
        entry.reply = entry.instead or law.as_the_service_says(reply, self._front.rules.refused)
        if entry.held is not None:
            size = entry.sent + len(reply)
            self._front.meter.charge(size, number, entry.held, script=entry.script)
        if entry.heard is not None and not entry.heard.done():
            entry.heard.set_result(reply)

    def _flush(self) -> None:
        """Sends the replies whose turn it is."""
        ready: list[bytes] = []
        while self._waiting and (reply := self._waiting[0].reply) is not None:
            ready.append(reply)
            self._waiting.popleft()
        if ready and not self._writer.is_closing():
            self._writer.write(b"".join(ready))
        if not self._waiting and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _answer(self, reply: bytes) -> None:
        self._waiting.append(Entry(reply))
        self._flush()

    def _pass_on(self, number: int, raw: bytes, *, script: bool = False) -> Entry:
        entry = Entry(None, len(raw), script=script)
        entry.held = self._front.meter.hold(len(raw))
        entry.instead, self._instead = self._instead, None
        self._waiting.append(entry)
        self._links[number].ask(raw, entry)
        return entry

    async def _all_answered(self) -> None:
        """What the front does for a client must not overtake what backends still do for them."""
        if self._waiting:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    # -- commands ----------------------------------------------------------------------------------

    async def _take(self, words: list[bytes], raw: bytes) -> None:
        name = law.name_of(words)
        front, now = self._front, self._front.rules
        front.meter.calls[name] += 1
        if name in ("auth", "hello"):
            await self._let_in(name, words)
        elif name == "quit":
            self._answer(_OK)
            self._writer.close()
        elif not self._user:
            self._answer(error(_NOAUTH))
        elif (refusal := self._refusal(name, words, raw)) is not None:
            self._answer(error(refusal))
        elif await self._is_throttled():
            front.meter.answers["throttled"] += 1
            self._answer(error(now.throttle_text))
        elif self._strikes(name):
            front.meter.answers["internal"] += 1
            if now.errors_after and name in law.DATA | law.SCRIPTS:
                self._instead = error(now.error_text)
                await self._do(name, words, raw)
            else:
                self._answer(error(now.error_text))
        else:
            await self._do(name, words, raw)

    def _refusal(self, name: str, words: list[bytes], raw: bytes) -> str | None:
        """Why the service would not do it; None if it would."""
        if name == "select":
            return law.NO_DATABASES
        known = name in law.DATA | law.SCRIPTS | law.KEYLESS or name.startswith("script|")
        if not known or name == "script|kill" or name in self._front.rules.refused:
            return law.unknown(words)
        if len(words) > law.MOST_ARGUMENTS:
            return law.TOO_MANY
        if len(raw) > law.MOST_BYTES:
            return law.TOO_LARGE
        if name in law.SCRIPTS and len(words) > 2 and words[2] == b"0":
            return law.NO_KEYS
        return None

    async def _is_throttled(self) -> bool:
        now, meter = self._front.rules, self._front.meter
        while now.ecpu_limit and (seconds := meter.wait(now.ecpu_limit)) > 0:
            if now.throttle == "error":
                return True
            await asyncio.sleep(seconds)
        return False

    def _strikes(self, name: str) -> bool:
        now = self._front.rules
        if not now.error_chance or (now.errors_hit and name not in now.errors_hit):
            return False
        return random.random() < now.error_chance

    async def _do(self, name: str, words: list[bytes], raw: bytes) -> None:
        if name in law.SCRIPTS:
            self._run(name, words, raw)
        elif name.startswith("script|"):
            self._manage_scripts(name, words, raw)
        elif name in law.DATA:
            self._pass_on(self._front.owner(words[1] if len(words) > 1 else b""), raw)
        else:
            await self._all_answered()
            reply = await self._front.backends[0].may(self._user, words)
            if not reply and name.startswith("client|"):
                reply = self._named(words)
            self._front.meter.charge(len(raw), 0, 0.0, script=False)
            self._answer(reply or await self._front.whole.answer(name, words, self._user))

    def _named(self, words: list[bytes]) -> bytes:
        if len(words) > 2:
            self._name = words[2]
            return _OK
        return bulk(self._name)

    def _run(self, name: str, words: list[bytes], raw: bytes) -> None:
        chance = self._front.rules.noscript_chance
        if chance and name.startswith("evalsha") and random.random() < chance:
            self._front.meter.answers["noscript"] += 1
            self._answer(error(law.NO_SCRIPT))
            return
        key = words[_KEY_OF_SCRIPT] if len(words) > _KEY_OF_SCRIPT else b""
        self._pass_on(self._front.owner(key), raw, script=True)

    def _manage_scripts(self, name: str, words: list[bytes], raw: bytes) -> None:
        """LOAD reaches some backends only; FLUSH does nothing, as the service manages its cache."""
        numbers = range(len(self._links))
        reaches = self._front.rules.load_reaches
        if name == "script|flush":
            self._answer(_OK)
        elif name == "script|load":
            first = 0 if reaches == "first" else random.choice(numbers)
            self._pass_on(first, raw)
            for number in numbers if reaches == "all" else ():
                if number != first:
                    self._links[number].ask(raw, Entry(None, len(raw)))
        elif name in ("script|exists", "script|show"):
            self._pass_on(random.choice(numbers), raw)
        else:
            self._answer(error(law.unknown(words)))

    async def _let_in(self, name: str, words: list[bytes]) -> None:
        """AUTH, and HELLO with or without it: to all backends; a token is checked here."""
        await self._all_answered()
        at = 1 if name == "auth" else next(
            (i + 1 for i, word in enumerate(words) if word.upper() == b"AUTH" and i), 0
        )  # fmt: skip
        user = ""
        if at:
            if len(words) < at + 2:  # the user "default" does not exist here
                self._answer(error(_WRONG))
                return
            user = words[at].decode("utf-8", "replace")
            password = self._front.password_of(user, words[at + 1].decode("utf-8", "replace"))
            words = [*words[: at + 1], password.encode(), *words[at + 2 :]]
        entries = [self._pass_on(0, packed(*words))]
        for link in self._links[1:]:
            entries.append(Entry(None, 0))
            link.ask(packed(*words), entries[-1])
        for entry in entries:
            entry.heard = asyncio.get_running_loop().create_future()
        replies = [await entry.heard for entry in entries if entry.heard is not None]
        if at and not any(reply.startswith(b"-") for reply in replies):
            self._user = user
