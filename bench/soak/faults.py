"""What happens to the server, to the line and to the spiders, at random moments."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import valkey

from bench.servers import FaultyProxy, ValkeyServer
from bench.soak.runs import Run, Span

_AGAIN = 0.1  # seconds between two actions of a fault that lasts


def nothing() -> None:
    """Nothing to do."""


@dataclass(frozen=True)
class Fault:
    """Something that begins, may be repeated, and ends after some seconds."""

    words: str
    seconds: float
    begin: Callable[[], object] = nothing
    again: Callable[[], object] = nothing
    end: Callable[[], object] = nothing

    def inflict(self, stop: threading.Event) -> None:
        """Returns when it is over."""
        over = time.monotonic() + self.seconds
        self.begin()
        try:
            while not stop.is_set() and (left := over - time.monotonic()) > 0:
                self.again()
                stop.wait(min(left, _AGAIN))
        finally:
            self.end()


Maker = Callable[[random.Random, float], Fault]
"""Makes a fault of some kind, of a strength and a length chosen at random, within a scale."""


def of_the_server(server: ValkeyServer) -> Sequence[Maker]:
    """What may happen to the server itself."""

    def ask(*words: str | int) -> object:
        with suppress(valkey.ValkeyError, OSError):  # "all clients" are these, too
            return server.ask(*map(str, words))

    def killed(chance: random.Random, scale: float) -> Fault:
        away = scale * chance.uniform(0.1, 6)
        words = f"server: kill -9, started again after {away:.1f} s"
        return Fault(words, away, server.kill, end=server.start)

    def frozen(chance: random.Random, scale: float) -> Fault:
        away = scale * chance.uniform(0.2, 10)
        return Fault(f"server: SIGSTOP for {away:.1f} s", away, server.freeze, end=server.thaw)

    def cut_off(chance: random.Random, scale: float) -> Fault:
        seconds = scale * chance.uniform(0.1, 3)
        words = f"server: all clients killed every 100 ms for {seconds:.1f} s"
        return Fault(words, seconds, again=lambda: ask("CLIENT", "KILL", "TYPE", "normal"))

    def forgetful(chance: random.Random, scale: float) -> Fault:
        seconds = scale * chance.uniform(0.1, 3)
        words = f"server: SCRIPT FLUSH every 100 ms for {seconds:.1f} s"
        return Fault(words, seconds, again=lambda: ask("SCRIPT", "FLUSH"))

    def full(chance: random.Random, scale: float) -> Fault:
        seconds, less = scale * chance.uniform(0.5, 6), chance.choice([0, 0, 10_000])

        def fill() -> None:
            used = int(server.info().get("used_memory", 1 << 20))
            ask("CONFIG", "SET", "maxmemory", used - less)

        words = f"server: maxmemory reached for {seconds:.1f} s"
        return Fault(words, seconds, fill, end=lambda: ask("CONFIG", "SET", "maxmemory", 0))

    return killed, frozen, cut_off, forgetful, full


def of_the_line(proxy: FaultyProxy) -> Sequence[Maker]:
    """What may happen between the spiders and the server."""

    def set_to(name: str, value: float) -> Callable[[], None]:
        return lambda: setattr(proxy, name, value)

    def on(name: str) -> Callable[[], None]:
        return lambda: setattr(proxy, name, True)

    def off(name: str) -> Callable[[], None]:
        return lambda: setattr(proxy, name, False)

    def slow(chance: random.Random, scale: float) -> Fault:
        delay, seconds = chance.choice([0.02, 0.2, 0.7, 1.5]), scale * chance.uniform(1, 6)
        words = f"line: {delay * 1000:.0f} ms longer each way for {seconds:.1f} s"
        return Fault(words, seconds, set_to("delay", delay), end=set_to("delay", 0.0))

    def torn(chance: random.Random, scale: float) -> Fault:
        share, seconds = chance.choice([0.01, 0.05, 0.3]), scale * chance.uniform(1, 8)
        words = f"line: {share:.0%} of all chunks torn and reset for {seconds:.1f} s"
        return Fault(words, seconds, set_to("reset_chance", share), end=set_to("reset_chance", 0.0))

    def half_open(chance: random.Random, scale: float) -> Fault:
        seconds = scale * chance.uniform(0.2, 6)
        words = f"line: swallows everything for {seconds:.1f} s"
        return Fault(words, seconds, on("swallow"), end=off("swallow"))

    def deaf(chance: random.Random, scale: float) -> Fault:
        seconds = scale * chance.uniform(0.2, 4)
        words = f"line: swallows all replies for {seconds:.1f} s"
        return Fault(words, seconds, on("swallow_replies"), end=off("swallow_replies"))

    def closed(chance: random.Random, scale: float) -> Fault:
        seconds = scale * chance.uniform(0.1, 4)
        words = f"line: all connections reset, new ones refused for {seconds:.1f} s"
        return Fault(words, seconds, on("refuse"), proxy.cut, off("refuse"))

    return slow, torn, half_open, deaf, closed


def of_the_spiders(running: Callable[[int], Run], places: Sequence[int]) -> Sequence[Maker]:
    """What may happen to a spider's process; ``running`` tells which one a place has now."""

    def killed(chance: random.Random, _: float) -> Fault:
        place = chance.choice(places)
        words = f"spider {place}: kill -9"
        return Fault(words, 0, lambda: running(place).kill())

    def frozen(chance: random.Random, scale: float) -> Fault:
        place, seconds = chance.choice(places), scale * chance.choice([0.5, 2, 5, 12])
        run: list[Run] = []
        begin: list[float] = []

        def freeze() -> None:
            run.append(running(place))
            begin.append(time.monotonic())
            run[0].freeze()

        def thaw() -> None:
            run[0].thaw()
            run[0].freezes.append(Span(begin[0], time.monotonic()))

        return Fault(f"spider {place}: SIGSTOP for {seconds:.1f} s", seconds, freeze, end=thaw)

    return killed, frozen


@dataclass
class Series:
    """Faults one after the other, each of a kind that is not the last one's, with calm between."""

    makers: Sequence[Maker]
    chance: random.Random
    calm: tuple[float, float]
    """Seconds between two."""
    scale: float
    """Of the lengths of the faults: a short soak has shorter ones."""
    say: Callable[[str], None]
    stop: threading.Event
    inflicted: int = 0
    error: BaseException | None = None
    _bag: list[Maker] = field(default_factory=list)

    def run(self) -> None:
        """Runs until it is stopped; for a thread."""
        try:
            while not self.stop.wait(self.chance.uniform(*self.calm)):
                fault = self._next()(self.chance, self.scale)
                self.say(fault.words)
                self.inflicted += 1
                fault.inflict(self.stop)
        except BaseException as error:  # noqa: BLE001 (for the thread that waits for this one)
            self.error = error

    def _next(self) -> Maker:
        """Each kind comes once before one comes again."""
        if not self._bag:
            self._bag = self.chance.sample(list(self.makers), len(self.makers))
        return self._bag.pop()
