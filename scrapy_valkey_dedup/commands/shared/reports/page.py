"""Makes the page: one file of HTML with its styles, its scripts and its data, for no network.

Whatever a name has in it is text: in HTML it is escaped, and in the data no sign can end the script
element. The page's policy runs only the scripts that it was made with, and allows no request.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from scrapy_valkey_dedup.commands.shared.moments import moment
from scrapy_valkey_dedup.commands.shared.reports.charts import sections
from scrapy_valkey_dedup.commands.shared.reports.gathering import Report
from scrapy_valkey_dedup.commands.shared.reports.periods import DAY
from scrapy_valkey_dedup.commands.shared.reports.section import Section
from scrapy_valkey_dedup.commands.shared.reports.words import Figure, date, figures, headline

NO_HISTORY = (
    "Nothing has been counted yet. Each run writes what it counts into the ledger, every two "
    "minutes and at its end: run a spider, and make this report again."
)
_PATTERNS = (
    "",
    '<path d="M-2,2 l4,-4 M0,8 l8,-8 M6,10 l4,-4"/>',
    '<circle cx="4" cy="4" r="1.5"/>',
    '<path d="M0,4 h8"/>',
    '<path d="M-2,6 l4,4 M0,0 l8,8 M6,-2 l4,4"/>',
    '<path d="M4,0 v8"/>',
    '<path d="M0,4 h8 M4,0 v8"/>',
)
"""The texture of each series, over its colour: colours alone do not tell them apart for all."""


def page_of(report: Report) -> str:
    """The page, as HTML."""
    listed, data = sections(report)
    library, script = _file("vendor/plot.js"), _file("page.js")
    sources = " ".join(f"'sha256-{_digest(text)}'" for text in (library, script))
    policy = (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _filled(
        _file("page.html"),
        {
            "policy": policy,
            "title": escape(f"Deduplication report of {report.namespace}, {date(report.made)}"),
            "css": _file("page.css"),
            "patterns": _patterns(),
            "namespace": escape(report.namespace),
            "headline": _headline(report),
            "when": _when(report),
            "notices": _notices(report),
            "figures": _figures(report),
            "sections": "\n".join(map(_section, listed)),
            "footer": _footer(report),
            "data": inert(data),
            "library": library,
            "script": script,
        },
    )


def inert(data: Any) -> str:
    """Data as JSON in which nothing can end the script element that it stands in."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with its values; a value that has such a name in it is not filled again."""
    before, *rest = template.split("{{")
    parts = [before]
    for each in rest:
        name, _, text = each.partition("}}")
        parts += [values[name], text]
    return "".join(parts)


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


def _patterns() -> str:
    return "\n".join(
        f'<pattern id="s{at}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" class="c{at}"/><g class="texture">{shape}</g></pattern>'
        for at, shape in enumerate(_PATTERNS)
    )


def _headline(report: Report) -> str:
    if report.periods.is_empty:
        return "No history yet."
    parts = headline(report)
    return "".join(f"<b>{escape(text)}</b>" if stress else escape(text) for text, stress in parts)


def _when(report: Report) -> str:
    periods = report.periods
    text = f"Made {moment(report.made)}"
    if not periods.is_empty:
        first = moment(periods.listed[0].start)
        first = first[:10] if periods.length == DAY else first.removesuffix(" UTC")
        text = f"{first} to {moment(report.made)}"
    source = "Scrapy's stats in the files given" if report.from_files else "the ledger's history"
    where = f", ledger at {report.state.location}" if report.state is not None else ""
    return escape(f"{text}, from {source}{where}")


def _notices(report: Report) -> str:
    found = []
    if report.periods.is_empty:
        how = "scrapy dedup report --stats FILE... report.html"
        found.append(
            f"{escape(NO_HISTORY)} If you have kept Scrapy's stats of earlier runs as JSON: "
            f"<code>{how}</code>"
        )
    if report.error:
        found.append(f"The ledger was not asked what it holds: {escape(report.error)}")
    return "\n".join(f'<p class="notice">{text}</p>' for text in found)


def _figures(report: Report) -> str:
    if report.periods.is_empty:
        return ""
    listed = "\n".join(map(_figure, figures(report)))
    return f'<ul class="figures" aria-label="Key figures">\n{listed}\n</ul>'


def _figure(figure: Figure) -> str:
    bad = ' class="bad"' if figure.is_bad else ""
    note = f'<span class="note">{escape(figure.note)}</span>' if figure.note else ""
    return (
        f"<li{bad}><strong>{escape(figure.value)}</strong>"
        f'<span class="name">{escape(figure.name)}</span>{note}</li>'
    )


def _section(section: Section) -> str:
    chart = ""
    if section.has_chart:
        label = escape(f"{section.title}. Use the arrow keys to read the values.", quote=True)
        chart = (
            f'<div class="legend" data-legend="{section.name}"></div>'
            f'<div class="chart" data-chart="{section.name}" tabindex="0" role="group" '
            f'aria-roledescription="chart" aria-label="{label}"></div>'
            '<p class="said" aria-live="polite"></p>'
        )
    body = section.html + chart + _table(section)
    wide = " wide" if section.is_wide else ""
    return (
        f'<section class="card{wide}" aria-labelledby="t-{section.name}">'
        f'<h2 id="t-{section.name}">{escape(section.title)}</h2>'
        f'<p class="about">{escape(section.about)}</p>{body}</section>'
    )


def _table(section: Section) -> str:
    if not section.rows:
        return ""
    heads = "".join(f'<th scope="col">{escape(each)}</th>' for each in section.columns)
    rows = "\n".join(_row(row) for row in section.rows)
    label = f"Table: {escape(section.title, quote=True)}"
    table = f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
    table += f"<table><thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    if not section.has_chart:
        return table
    return f"<details open><summary>The numbers as a table</summary>{table}</details>"


def _row(row: Sequence[str]) -> str:
    head, *cells = row
    rest = "".join(f"<td>{escape(each)}</td>" for each in cells)
    return f'<tr><th scope="row">{escape(head)}</th>{rest}</tr>'


def _footer(report: Report) -> str:
    parts = [
        "Made by <code>scrapy dedup report</code> of scrapy-valkey-dedup.",
        "The page needs no network. All times are UTC.",
    ]
    if not report.from_files:
        parts.append(
            "The newest numbers may be two minutes old; those of a run that was killed may be "
            "missing for as long."
        )
    return f"<p>{' '.join(parts)}</p>"
