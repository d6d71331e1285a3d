"""How figures are written."""

from __future__ import annotations

from bench.suite.results import Figure

NONE = "-"


def number(value: float | None) -> str:
    """With as many digits as say something."""
    if value is None:
        return NONE
    size = abs(value)
    if size >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def ratio(value: float | None) -> str:
    """Two digits after the point, as all ratios have them."""
    return NONE if value is None else f"{value:.2f}"


def spread(figure: Figure | None) -> str:
    """A ratio, with the least and the most of the rounds."""
    if figure is None:
        return NONE
    if len(figure.values) == 1:
        return ratio(figure.median)
    return f"{ratio(figure.median)} ({min(figure.values):.2f} to {max(figure.values):.2f})"


def short(count: float) -> str:
    """A number of posts, as people say it."""
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:g} {word}"
    return f"{count:,.0f}"
