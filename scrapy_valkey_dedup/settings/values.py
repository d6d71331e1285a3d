"""The values of single settings that other settings, the crawl or the project have a say in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scrapy.utils.conf import closest_scrapy_cfg

from scrapy_valkey_dedup.identity.normalise import NORMALISERS
from scrapy_valkey_dedup.identity.rules import ClassRule, Normalisers, class_rules
from scrapy_valkey_dedup.parsing import choice, decoded, loaded, text
from scrapy_valkey_dedup.valkey.client_options import SENTINEL_KWARGS, option_faults
from scrapy_valkey_dedup.valkey.urls import NOT_SHOWN, redacted, refuse_reserved


@dataclass(frozen=True)
class Context:
    """What the values of settings may refer to."""

    bot: str = "scrapybot"
    spider: str = "spider"
    feeds: bool = False
    normalisers: Normalisers = field(default_factory=lambda: NORMALISERS)


def client_options(value: Any) -> Mapping[str, Any]:
    """Keyword arguments for valkey-py, without those that the plugin sets."""
    value = decoded(value)
    if value is None or value == "":
        value = {}
    if not isinstance(value, Mapping):
        raise ValueError("write a dict of keyword arguments for valkey-py")  # noqa: TRY004
    refuse_reserved(value)
    if faults := list(option_faults(value)):
        raise ValueError("; ".join(faults))
    refuse_reserved(value.get(SENTINEL_KWARGS) or {})
    return MappingProxyType(dict(value))


def named(value: Any, context: Context) -> str:
    """A text in which ``{bot}`` and ``{spider}`` stand for their names."""
    names = {"bot": context.bot, "spider": context.spider}

    def expanded(match: re.Match[str]) -> str:
        if match[1] not in names:
            raise ValueError(f"{match[0]} is not known; it may use {{bot}} and {{spider}}")
        return names[match[1]]

    return re.sub(r"\{(.*?)\}", expanded, text(value))


def job(value: Any, context: Context) -> str | None:
    """The name of a job, a text or a whole number; None: there is none."""
    if value is None or value == "":
        return None
    return named(str(value) if type(value) is int else value, context)


def field_rules(value: Any, context: Context) -> Mapping[type | None, ClassRule]:
    """The rules of identity, with the normalisers that the user has changed."""
    return class_rules(value, context.normalisers)


def identity_function(value: Any) -> Callable[..., Any] | None:
    """A function of item and spider; None: there is none."""
    if value is None or value == "":
        return None
    found = loaded(value)
    if not callable(found):
        raise ValueError("it is not a function of (item, spider)")  # noqa: TRY004
    return found  # type: ignore[no-any-return]


def confirm(value: Any, context: Context) -> str | None:
    """When a post is confirmed; None: as the storages of the crawl need it."""
    if value is None or value == "":
        return None
    mode = choice("scraped", "exported", "manual", "claimed")(value)
    if mode == "exported" and not context.feeds:
        raise ValueError(
            'there are no FEEDS, so nothing would ever be confirmed; set FEEDS or "scraped"'
        )
    return mode


def directory(value: Any) -> Path:
    """Relative to the folder of scrapy.cfg: a crawl started elsewhere finds the same ledger."""
    project = closest_scrapy_cfg()
    base = Path(project).parent if project else Path.cwd()
    if value == "":
        raise ValueError("write the path of a folder")
    try:
        return base / Path(value).expanduser()
    except RuntimeError as error:  # "~somebody" who is not known
        raise ValueError(f"{error}; write the whole path") from error


def shown_url(value: Any) -> str:
    """A URL as a message may show it."""
    return repr(redacted(value.strip())) if isinstance(value, str) else NOT_SHOWN


def not_shown(_: Any) -> str:
    """What a message shows instead of a value that may hold a secret."""
    return NOT_SHOWN
