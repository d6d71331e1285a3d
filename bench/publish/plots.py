"""The plots of docs/benchmarks.md, as SVG for light and for dark pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.publish.words import short
from bench.suite.measures import crawls, growth, ledger
from bench.suite.results import OF_PLAIN, Figure, Results
from bench.suite.ways import BLOGS, BLOOM, OURS, PLAIN, REDIS, SADD


@dataclass(frozen=True)
class Theme:
    """The colours of a page."""

    name: str
    ink: str
    grid: str
    ours: str
    others: tuple[str, ...]


LIGHT = Theme("light", "#1f2328", "#d1d9e0", "#0969da",
              ("#6e7781", "#8250df", "#1a7f37", "#9a6700", "#cf222e", "#bc4c00"))  # fmt: skip
DARK = Theme("dark", "#e6edf3", "#3d444d", "#58a6ff",
             ("#8b949e", "#bc8cff", "#3fb950", "#d29922", "#ff7b72", "#f0883e"))  # fmt: skip
_MARKERS = "sD^vPX"
_DASHES = ("-", "--", ":")
_ORDER = (PLAIN.name, BLOGS.name, SADD.name, REDIS.name, BLOOM.name)
_STYLE = {
    "svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "figure.constrained_layout.use": True,
}  # fmt: skip


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Draws all plots; returns their files."""
    paths = []
    folder.mkdir(exist_ok=True)
    for name, draw in PLOTS.items():
        for theme in (LIGHT, DARK):
            paths.append(folder / f"{name}-{theme.name}.svg")
            _save(paths[-1], theme, lambda axes, draw=draw, theme=theme: draw(axes, theme, results))
    return paths


def _save(path: Path, theme: Theme, draw: Callable[[Any], None]) -> None:
    # Only `make bench` draws plots; the tables need no matplotlib.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    colours = dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), theme.ink
    )
    with mpl.rc_context(
        {**_STYLE, **colours, "axes.edgecolor": theme.grid, "grid.color": theme.grid}
    ):
        figure, axes = plt.subplots(figsize=(7.2, 3.8))
        axes.grid(visible=True, axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
        draw(axes)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", "utf-8")


def _lines(
    axes: Any, theme: Theme, figures: Iterable[Figure], label: Callable[[Figure], str]
) -> None:
    """One line for each label; ours is drawn last and thickest."""
    curves: dict[str, list[Figure]] = {}
    for figure in figures:
        curves.setdefault(label(figure), []).append(figure)
    others = [name for name in curves if not name.startswith(OURS.name)]
    for name, number in _numbered(others).items():
        style = {"color": theme.others[number], "marker": _MARKERS[number], "linewidth": 1.4}
        _line(axes, name, curves.pop(name), style)
    for (name, points), dashes in zip(curves.items(), _DASHES, strict=False):
        style = {"color": theme.ours, "marker": "o", "linewidth": 2.4, "linestyle": dashes}
        _line(axes, name, points, style)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _line(axes: Any, name: str, figures: Iterable[Figure], style: dict[str, Any]) -> None:
    points = sorted(figures, key=lambda each: each.at)
    along, medians = [each.at for each in points], [each.median for each in points]
    axes.plot(along, medians, label=name, markersize=5, **style)


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """A colour for each: those that are in several plots have the same everywhere."""
    numbered = {name: number for number, name in enumerate(_ORDER) if name in names}
    free = (number for number in range(len(_MARKERS)) if number not in numbered.values())
    return numbered | {name: next(free) for name in names if name not in numbered}


def far(axes: Any, theme: Theme, results: Results) -> None:
    """Posts a second by distance."""
    listed = [each for each in results.figures("far", OF_PLAIN) if each.way != PLAIN.name]
    _lines(axes, theme, listed, lambda each: each.way)
    _distances(axes, "posts a second, of plain Scrapy")
    axes.set_ylim(bottom=0)


def stalls(axes: Any, theme: Theme, results: Results) -> None:
    """The longest stall by distance."""
    _lines(axes, theme, results.figures("far", crawls.STALL_MAX), lambda each: each.way)
    _distances(axes, "longest stall of the event loop, ms")
    axes.set_yscale("log")


def pages(axes: Any, theme: Theme, results: Results) -> None:
    """Pages a second by distance."""
    listed = [each for each in results.figures("pages", OF_PLAIN) if each.way != PLAIN.name]
    _lines(axes, theme, listed, lambda each: each.way)
    _distances(axes, "pages a second, of plain Scrapy")
    axes.set_ylim(bottom=0)


def _distances(axes: Any, label: str) -> None:
    axes.set_xlabel("round trip to Valkey, ms")
    axes.set_ylabel(label)


def memory(axes: Any, theme: Theme, results: Results) -> None:
    """Bytes a post by the number of posts."""

    def label(figure: Figure) -> str:
        return f"{figure.way}, {figure.case}" if figure.way == OURS.name else figure.way

    _lines(axes, theme, results.figures("ledger", ledger.BYTES), label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("posts")
    axes.set_ylabel("bytes of Valkey memory a post")


def spider(axes: Any, theme: Theme, results: Results) -> None:
    """Memory of a spider by the posts it has stored."""
    _lines(axes, theme, results.figures("growth", growth.MEMORY), lambda each: each.way)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("posts stored")
    axes.set_ylabel("memory of the process, MB")
    axes.xaxis.set_major_formatter(lambda value, _: short(value))


PLOTS = {"far": far, "stalls": stalls, "pages": pages, "memory": memory, "spider": spider}
