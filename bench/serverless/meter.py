"""How many ECPU a cache has used, and whether it may use more in this second.

A plain command costs its kilobytes, sent and received, and 1 at least. A script costs the larger of
these and of the time that it has taken over 3 us: AWS publishes no formula, its own estimator takes
this one. The time is the backends' own (``INFO commandstats``, several times a second), shared
equally by the scripts of that moment; never more than the processor time of their main thread, so
that a busy machine, on which a script may be suspended, does not make scripts dear.
"""

from __future__ import annotations

from collections import Counter
from time import monotonic

US_PER_ECPU = 3.0


def read_info(info: bytes) -> tuple[float, int, float]:
    """Of INFO commandstats and cpu: the microseconds and the number of scripts; all seconds."""
    spent, calls, seconds = 0.0, 0, 0.0
    for line in info.decode().splitlines():
        name, _, rest = line.partition(":")
        if name.startswith("cmdstat_eval"):
            facts = dict(fact.split("=") for fact in rest.split(","))
            spent += float(facts["usec"])
            calls += int(facts["calls"])
        elif name in ("used_cpu_sys_main_thread", "used_cpu_user_main_thread"):
            seconds += float(rest)
    return spent, calls, seconds


class Meter:
    """Counts ECPU; a bucket that holds what may be used, of a second at most."""

    def __init__(self, backends: int) -> None:
        self.plain = 0.0
        """ECPU of everything but scripts."""
        self.scripts = 0.0
        self.calls: Counter[str] = Counter()
        """How often each command was asked for."""
        self.answers: Counter[str] = Counter()
        """How often the front answered by itself, by what: internal, noscript, throttled."""
        self._sizes: list[list[float]] = [[] for _ in range(backends)]
        self._seen: list[tuple[float, int, float] | None] = [None] * backends
        self._left = 0.0
        self._filled = monotonic()

    def wait(self, limit: float) -> float:
        """Seconds until another command is within the limit."""
        now = monotonic()
        self._left = min(self._left + (now - self._filled) * limit, limit)
        self._filled = now
        return max(-self._left / limit, 0.0)

    def refill(self, limit: float) -> None:
        """A new limit: a whole second of it may be used at once."""
        self._left, self._filled = limit, monotonic()

    def hold(self, size: int) -> float:
        """A command of so many bytes is on its way: its minimal cost is reserved.

        What a script costs beyond that is known when its backend has told its time, in a moment.
        """
        held = max(size / 1024, 1.0)
        self._left -= held
        return held

    def charge(self, size: int, backend: int, held: float, *, script: bool) -> None:
        """It was served; ``size`` counts its bytes and those of the reply."""
        kilobytes = max(size / 1024, 1.0)
        self._left += held - kilobytes
        if script:
            self._sizes[backend].append(kilobytes)
        else:
            self.plain += kilobytes

    def told(self, backend: int, info: bytes) -> None:
        """What a backend says of its scripts."""
        seen, now = self._seen[backend], read_info(info)
        self._seen[backend] = now
        sizes = self._sizes[backend]
        if not sizes:
            return
        before = seen or (0.0, 0, 0.0)
        spent, calls, seconds = (b - a for a, b in zip(before, now, strict=True))
        if calls <= 0:
            return
        each = min(spent, seconds * 1e6) / US_PER_ECPU / calls
        cost = sum(max(each, kilobytes) for kilobytes in sizes)
        self._left -= cost - sum(sizes)
        self.scripts += cost
        sizes.clear()

    def read(self) -> dict[str, object]:
        """All of it, as JSON can have it."""
        return {
            "ecpu": self.plain + self.scripts, "plain": self.plain, "scripts": self.scripts,
            "calls": dict(self.calls), "answers": dict(self.answers),
        }  # fmt: skip

    def reset(self) -> None:
        """Counts from zero."""
        self.plain = self.scripts = 0.0
        self.calls.clear()
        self.answers.clear()
