"""The ``VALKEY_DEDUP_...`` settings, read once into one frozen object, and only here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scrapy.settings import BaseSettings
from scrapy.utils.conf import closest_scrapy_cfg

from scrapy_valkey_dedup.identity.links import tracking
from scrapy_valkey_dedup.identity.normalise import NORMALISERS, normalisers
from scrapy_valkey_dedup.identity.rules import ClassRule, Known, class_rules
from scrapy_valkey_dedup.model import CLAIM_LIFETIME, TRIAL_MARK, SettingsError
from scrapy_valkey_dedup.parsing import (
    choice,
    count,
    decoded,
    duration,
    flag,
    limit,
    loaded,
    patterns,
    retention,
    short_name,
    text,
)
from scrapy_valkey_dedup.valkey.client_options import SENTINEL_KWARGS, option_faults
from scrapy_valkey_dedup.valkey.credentials import Provider, conflicts, provider
from scrapy_valkey_dedup.valkey.urls import NOT_SHOWN, redacted, refuse_reserved, server_url

PREFIX = "VALKEY_DEDUP_"

_NEAR = 0.65  # of difflib's 1 for the same name: "URI" is near "URL", "PASSWORD" near nothing


@dataclass(frozen=True)
class Context:
    """What the values of settings may refer to."""

    bot: str = "scrapybot"
    spider: str = "spider"
    feeds: bool = False
    normalisers: Known = field(default_factory=lambda: NORMALISERS)


def _options(value: Any) -> Mapping[str, Any]:
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


def _named(value: Any, context: Context) -> str:
    """A text in which ``{bot}`` and ``{spider}`` stand for their names."""
    names = {"bot": context.bot, "spider": context.spider}

    def expanded(match: re.Match[str]) -> str:
        if match[1] not in names:
            raise ValueError(f"{match[0]} is not known; it may use {{bot}} and {{spider}}")
        return names[match[1]]

    return re.sub(r"\{(.*?)\}", expanded, text(value))


def _job(value: Any, context: Context) -> str | None:
    if value is None or value == "":
        return None
    return _named(str(value) if type(value) is int else value, context)


def _fields(value: Any, context: Context) -> Mapping[type | None, ClassRule]:
    return class_rules(value, context.normalisers)


def _function(value: Any) -> Callable[..., Any] | None:
    if value is None or value == "":
        return None
    found = loaded(value)
    if not callable(found):
        raise ValueError("it is not a function of (item, spider)")  # noqa: TRY004
    return found  # type: ignore[no-any-return]


def _confirm(value: Any, context: Context) -> str | None:
    if value is None or value == "":
        return None
    mode = choice("scraped", "exported", "manual", "claimed")(value)
    if mode == "exported" and not context.feeds:
        raise ValueError(
            'there are no FEEDS, so nothing would ever be confirmed; set FEEDS or "scraped"'
        )
    return mode


def _directory(value: Any) -> Path:
    """Relative to the folder of scrapy.cfg: a crawl started elsewhere finds the same ledger."""
    project = closest_scrapy_cfg()
    base = Path(project).parent if project else Path.cwd()
    if value == "":
        raise ValueError("write the path of a folder")
    try:
        return base / Path(value).expanduser()
    except RuntimeError as error:  # "~somebody" who is not known
        raise ValueError(f"{error}; write the whole path") from error


def _shown_url(value: Any) -> str:
    return repr(redacted(value.strip())) if isinstance(value, str) else NOT_SHOWN


def _not_shown(_: Any) -> str:
    return NOT_SHOWN


def _plain(parse: Callable[[Any], Any]) -> Callable[[Any, Context], Any]:
    """A parser that needs no context."""
    return lambda value, _: parse(value)


_retention = _plain(retention)  # by another name: fields of the class below hide it


def _setting(
    default: Any, parse: Callable[[Any, Context], Any], show: Callable[[Any], str] = repr
) -> Any:
    """A setting; ``show`` writes its value into messages, without secrets."""
    return field(repr=show is repr, metadata={"default": default, "parse": parse, "show": show})


@dataclass(frozen=True)
class DedupSettings:
    """The parsed settings. Field names are the settings' names in lower case; times are in seconds.

    ``docs/settings.md`` says what each means.
    """

    enabled: bool = _setting(True, _plain(flag))
    url: str | None = _setting(None, _plain(server_url), _shown_url)
    client_options: Mapping[str, Any] = _setting({}, _plain(_options), _not_shown)
    credentials: Provider | None = _setting(None, _plain(provider), _not_shown)
    namespace: str = _setting("{bot}", _named)
    fields: Mapping[type | None, ClassRule] = _setting(None, _fields)  # None: any other class
    identity: Callable[..., Any] | None = _setting(None, _plain(_function))
    scope: str = _setting("spider", _plain(choice("spider", "project")))
    tracking_parameters: Mapping[str, tuple[str, ...]] = _setting(None, _plain(tracking))
    retention: float | None = _setting("90d", _retention)
    refresh: bool = _setting(True, _plain(flag))
    confirm: str | None = _setting(None, _confirm)  # None: as the crawl's storages need it
    on_duplicate: str = _setting("drop", _plain(choice("drop", "mark")))
    mark_field: str = _setting("duplicate", _plain(text))
    on_unkeyed: str = _setting("pass", _plain(choice("pass", "drop", "error")))
    on_outage: str = _setting("pass", _plain(choice("pass", "pause", "close")))
    pause_limit: float | None = _setting("1h", _plain(limit))
    wait: float = _setting(5, _plain(duration(0)))
    timeout: float = _setting(5, _plain(duration(0.1)))
    lease: float = _setting(30, _plain(duration(1)))
    reset: bool = _setting(False, _plain(flag))
    trial: str | None = _setting(None, _plain(short_name))
    requests: str = _setting("job", _plain(choice("job", "stored", "off")))
    job: str | None = _setting(None, _job)
    requests_match: tuple[re.Pattern[str], ...] = _setting(None, _plain(patterns))  # (): all
    request_retention: float | None = _setting("7d", _retention)
    empty_pages: int | None = _setting(10, _plain(count))
    data_dir: Path = _setting(".scrapy/valkey-dedup", _plain(_directory))

    @property
    def tried_namespace(self) -> str:
        """The namespace that a trial tries: what it remembers is known to the trial, too."""
        return self.namespace.removesuffix(f"{TRIAL_MARK}{self.trial}")

    @property
    def pages_are_shared(self) -> bool:
        """Whether Valkey is asked about requests."""
        return self.requests == "stored" or (self.requests == "job" and self.job is not None)

    @staticmethod
    def wanted(settings: BaseSettings) -> bool:
        """Whether the plugin is switched on; what else is set does not matter while it is off."""
        try:
            return flag(settings.get(PREFIX + "ENABLED", True))
        except ValueError:
            return True  # and parse names the fault

    @classmethod
    def parse(cls, settings: BaseSettings, spider: str) -> DedupSettings:
        """Reads and checks all settings for a spider's name.

        Raises:
            SettingsError: names every fault: the setting, the value found, the cure.

        """
        feeds = bool(settings.getdict("FEEDS") or settings.get("FEED_URI"))
        own = _own_normalisers(settings)
        context = Context(str(settings.get("BOT_NAME")), spider, feeds, own)
        names = {PREFIX + entry.name.upper(): entry for entry in fields(cls)}
        faults = [
            _unknown(name, settings[name], names)
            for name in sorted(str(name) for name in settings)
            if name.startswith(PREFIX) and name not in names
        ]
        values: dict[str, Any] = {}
        for name, entry in names.items():
            # Not settings.get, for which a None is not there: a retention of None is for ever.
            value = settings[name] if name in settings else entry.metadata["default"]
            try:
                values[entry.name] = entry.metadata["parse"](value, context)
            except (TypeError, ValueError) as error:
                faults.append(f"{name} = {entry.metadata['show'](value):.200}: {error}")
        if {"url", "client_options", "credentials"} <= values.keys():
            faults += [
                f"{PREFIX}CREDENTIALS = {NOT_SHOWN}: {fault}"
                for fault in conflicts(
                    values["url"], values["client_options"], values["credentials"]
                )
            ]
        faults += _too_slow(values)
        if faults:
            raise SettingsError(faults)
        if values["trial"] is not None:  # what it stores is remembered in a namespace of its own
            values["namespace"] += f"{TRIAL_MARK}{values['trial']}"
        return cls(**values)


def _own_normalisers(settings: BaseSettings) -> Known:
    """With the user's tracking parameters, before the rules that use them are parsed."""
    try:
        return normalisers(tracking(settings.get(PREFIX + "TRACKING_PARAMETERS")))
    except ValueError:
        return NORMALISERS  # the fault is named where the setting itself is parsed


_SLOWEST = CLAIM_LIFETIME / 4


def _too_slow(values: Mapping[str, Any]) -> list[str]:
    """A claim must outlive the deadlines in which it is looked at, taken over and renewed."""
    if not {"wait", "timeout", "lease"} <= values.keys():
        return []
    wait, timeout, lease = values["wait"], values["timeout"], values["lease"]
    if wait + timeout + lease <= _SLOWEST:
        return []
    found = f"{PREFIX}WAIT = {wait:g}, {PREFIX}TIMEOUT = {timeout:g}, {PREFIX}LEASE = {lease:g}"
    longest, limit = CLAIM_LIFETIME / 3600, _SLOWEST / 3600
    cure = f"let them be {limit:g} hours together at most"
    return [
        f"{found} (seconds): a claim ends after {longest:g} hours, which would be too soon; {cure}"
    ]


def _unknown(name: str, value: Any, known: Mapping[str, Field[Any]]) -> str:
    """Its value is shown if the nearest right name is that of no secret."""
    words = [other.removeprefix(PREFIX) for other in known]
    close = difflib.get_close_matches(name.removeprefix(PREFIX).upper(), words, 1, _NEAR)
    if not close:
        return f"{name} = {NOT_SHOWN}: unknown; this version has no such setting; remove it"
    meant = PREFIX + close[0]
    return f"{name} = {known[meant].metadata['show'](value):.60}: unknown; did you mean {meant}?"
