"""The tables of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable

from bench.publish.blocks import table
from bench.publish.words import NONE, number, ratio, short, spread
from bench.suite.measures import cores, costs, fleets, growth, ledger, lost
from bench.suite.results import COST, OF_PLAIN, OF_PLAIN_CPU, RATE, Key, Results
from bench.suite.targets import judge
from bench.suite.ways import OURS, PLAIN, WAYS

_ASKS = {way.name: way.asks for way in WAYS}
_FAULTS = (lost.STORAGE, lost.KILLED, lost.OUTAGE, lost.RACE)


def ways_of(results: Results, row: str, what: str, case: str | None = None) -> list[str]:
    """The ways of some figures, in the order in which they are compared."""
    listed = list(dict.fromkeys(each.way for each in results.figures(row, what, case)))
    order = [way.name for way in WAYS]
    return sorted(listed, key=lambda name: order.index(name) if name in order else len(order))


def steps_of(results: Results, row: str, what: str, case: str | None = None) -> list[float]:
    """What a curve runs over."""
    return sorted({each.at for each in results.figures(row, what, case)})


def bold(name: str) -> str:
    """The name of this plugin stands out."""
    return f"**{name}**" if name.startswith(OURS.name) else name


def targets(results: Results) -> str:
    """All targets; a missed one links to what says why."""
    rows = []
    for verdict in judge(results):
        target = verdict.target
        word = f"[missed]({target.why})" if verdict.word == "missed" else verdict.word
        rows.append([target.what, number(verdict.value), target.words, word])
    return table(["what", "found", "target", ""], rows)


def losses(results: Results) -> str:
    """Posts lost and stored twice, by way and fault: the most in any trial."""
    head = [
        "",
        "the storage fails",
        "the spider is killed",
        "Valkey is away for 2 s",
        "eight at once",
    ]
    names = ways_of(results, "lost", lost.LOST)
    return table(head, [[bold(name), *_losses(results, name)] for name in names])


def _losses(results: Results, name: str) -> list[str]:
    cells = []
    for fault in _FAULTS:
        gone, twice = (
            results.find(Key("lost", what, fault, name)) for what in (lost.LOST, lost.DOUBLED)
        )
        if gone is None or twice is None:
            cells.append(NONE)
            continue
        most_gone, most_twice = max(gone.values), max(twice.values)
        parts = [f"{most_gone:,.0f} lost"] if most_gone else []
        parts += [f"{most_twice:,.0f} twice"] if most_twice else []
        cells.append(", ".join(parts) or "0")
    return cells


def crawl(row: str, case: str) -> Callable[[Results], str]:
    """Posts a second through a crawl; ratios first."""

    def write(results: Results) -> str:
        rows = []
        for name in ways_of(results, row, RATE, case):
            by_clock, by_processor = (
                spread(results.find(Key(row, what, case, name)))
                for what in (OF_PLAIN, OF_PLAIN_CPU)
            )
            rate, cost = (number(results.median(row, what, case, name)) for what in (RATE, COST))
            asks = _ASKS.get(name, "nothing")
            rows.append([bold(name), asks, by_clock, by_processor, rate, cost])
        head = [
            "",
            "asks about",
            "of plain Scrapy",
            "by processor time",
            "posts a second",
            "us a post",
        ]
        return table(head, rows)

    return write


def curve(
    row: str, what: str, case: str, write: Callable[[float | None], str]
) -> Callable[[Results], str]:
    """A figure of each way at each distance."""

    def made(results: Results) -> str:
        steps = steps_of(results, row, what, case)
        rows = [
            [bold(name), *(write(results.median(row, what, case, name, at)) for at in steps)]
            for name in ways_of(results, row, what, case)
        ]
        return table(["", *(f"{at:g} ms" for at in steps)], rows)

    return made


def fleet(results: Results) -> str:
    """A fleet with Valkey near and far, by the size of the site."""
    rows = []
    for times in (each for each in results.figures("fleets", fleets.TIMES) if each.at):
        seconds, cpu = (
            [results.median("fleets", what, times.case, times.way, at) for at in (0, times.at)]
            for what in (fleets.SECONDS, fleets.CPU)
        )
        rows.append([times.case, spread(times), *map(number, (*seconds, *cpu))])
    head = ["", "of the time near", "seconds near", "100 ms away"]
    return table([*head, "processor seconds near", "100 ms away"], rows)


def sizes(results: Results) -> str:
    """Bytes of Valkey memory a post."""
    found = {
        (each.way, each.case, each.at): each.median
        for row in (ledger.LARGE, ledger.ROW)  # where both have a size, the latter counts
        for each in results.figures(row, ledger.BYTES)
    }
    steps = sorted({at for _, _, at in found})
    rows = []
    for name in ways_of(results, ledger.ROW, ledger.BYTES):
        for case in dict.fromkeys(case for way, case, _ in found if way == name):
            label = f"{bold(name)}, {case}" if name == OURS.name else name
            rows.append([label, *(number(found.get((name, case, at))) for at in steps)])
    return table(["bytes a post", *map(short, steps)], rows)


def server_time(results: Results) -> str:
    """Microseconds of the server a post."""
    row = ledger.row_of_times(results)
    steps = steps_of(results, row, ledger.TIME)
    rows = []
    for case in (ledger.CLAIM, ledger.CONFIRM, ledger.KNOWN):
        medians = [results.median(row, ledger.TIME, case, OURS.name, at) for at in steps]
        times = medians[-1] / medians[0] if medians and medians[0] and medians[-1] else None
        rows.append([case, ratio(times), *map(number, medians)])
    return table(["us of the server a post", "growth", *map(short, steps)], rows)


def server_cores(results: Results) -> str:
    """Posts a second of a core."""
    rows = []
    for case in (cores.SERVER, cores.CLUSTER):
        of_one = results.find(Key("cores", cores.OF_ONE, case, OURS.name))
        cells = [
            number(results.median("cores", what, case, OURS.name))
            for what in (cores.A_CORE, cores.BY_THE_CLOCK)
        ]
        rows.append([case, spread(of_one) if of_one else "1.00", *cells])
    return table(["", "of one server's core", "posts a second of a core", "by the clock"], rows)


def process_memory(results: Results) -> str:
    """The memory of a spider."""
    steps = steps_of(results, "growth", growth.MEMORY)
    shown = [at for number_, at in enumerate(steps) if number_ in (0, 1, 4, len(steps) - 1)]
    rows = [
        [label, *(number(results.median("growth", what, growth.CASE, name, at)) for at in shown)]
        for label, what, name in (
            (PLAIN.name, growth.MEMORY, PLAIN.name),
            (bold(OURS.name), growth.MEMORY, OURS.name),
            ("the difference", growth.ADDED, OURS.name),
        )
    ]
    return table(["MB after", *(f"{short(at)} posts" for at in shown)], rows)


def money(results: Results) -> str:
    """What a month costs."""
    rows = []
    steps = steps_of(results, "costs", costs.USD)
    for name in ways_of(results, "costs", costs.USD):
        cells = []
        for at in steps:
            usd, ecpu = (
                results.median("costs", what, costs.CASE, name, at)
                for what in (costs.USD, costs.ECPU)
            )
            cells.append(f"{number(usd)} USD ({number(ecpu)})")
        rows.append([bold(name), *cells])
    return table(["USD a month (million ECPU)", *(f"{short(at)} posts" for at in steps)], rows)
