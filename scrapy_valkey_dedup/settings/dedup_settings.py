"""The ``VALKEY_DEDUP_...`` settings, read once into one frozen object, and only here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from scrapy.settings import BaseSettings

from scrapy_valkey_dedup.identity.links import parse_tracking
from scrapy_valkey_dedup.identity.normalise import NORMALISERS, normalisers
from scrapy_valkey_dedup.identity.rules import ClassRule, Normalisers
from scrapy_valkey_dedup.model import CLAIM_LIFETIME, TRIAL_MARK, SettingsError
from scrapy_valkey_dedup.parsing import (
    choice,
    count,
    duration,
    flag,
    limit,
    patterns,
    retention,
    short_name,
    text,
)
from scrapy_valkey_dedup.settings import values
from scrapy_valkey_dedup.settings.names import PREFIX, mistyped_prefix, nearest_setting
from scrapy_valkey_dedup.settings.values import Context
from scrapy_valkey_dedup.valkey.provider import Provider, credential_conflicts, parse_provider
from scrapy_valkey_dedup.valkey.urls import NOT_SHOWN, server_url


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
    url: str | None = _setting(None, _plain(server_url), values.shown_url)
    client_options: Mapping[str, Any] = _setting(
        {}, _plain(values.client_options), values.not_shown
    )
    credentials: Provider | None = _setting(None, _plain(parse_provider), values.not_shown)
    namespace: str = _setting("{bot}", values.named)
    fields: Mapping[type | None, ClassRule] = _setting(None, values.field_rules)
    identity: Callable[..., Any] | None = _setting(None, _plain(values.identity_function))
    scope: str = _setting("spider", _plain(choice("spider", "project")))
    tracking_parameters: Mapping[str, tuple[str, ...]] = _setting(None, _plain(parse_tracking))
    retention: float | None = _setting("90d", _retention)
    refresh: bool = _setting(True, _plain(flag))
    confirm: str | None = _setting(None, values.confirm)  # None: as the crawl's storages need it
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
    job: str | None = _setting(None, values.job)
    requests_match: tuple[re.Pattern[str], ...] = _setting(None, _plain(patterns))  # (): all
    request_retention: float | None = _setting("7d", _retention)
    empty_pages: int | None = _setting(10, _plain(count))
    data_dir: Path = _setting(".scrapy/valkey-dedup", _plain(values.directory))

    @property
    def tried_namespace(self) -> str:
        """The namespace that a trial tries: what it remembers is known to the trial, too."""
        return self.namespace.removesuffix(f"{TRIAL_MARK}{self.trial}")

    @property
    def pages_are_shared(self) -> bool:
        """Whether Valkey is asked about requests."""
        return self.requests == "stored" or (self.requests == "job" and self.job is not None)

    @staticmethod
    def is_enabled(settings: BaseSettings) -> bool:
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
        faults = list(_wrong_names(settings, names))
        parsed: dict[str, Any] = {}
        for name, entry in names.items():
            # Not settings.get, which takes None for a missing setting: here it may mean forever.
            value = settings[name] if name in settings else entry.metadata["default"]
            try:
                parsed[entry.name] = entry.metadata["parse"](value, context)
            except (TypeError, ValueError) as error:
                faults.append(f"{name} = {entry.metadata['show'](value):.200}: {error}")
        faults += _contradictions(parsed)
        if faults:
            raise SettingsError(faults)
        if parsed["trial"] is not None:  # what it stores is remembered in a namespace of its own
            parsed["namespace"] += f"{TRIAL_MARK}{parsed['trial']}"
        return cls(**parsed)


def _own_normalisers(settings: BaseSettings) -> Normalisers:
    """With the user's tracking parameters, before the rules that use them are parsed."""
    try:
        return normalisers(parse_tracking(settings.get(PREFIX + "TRACKING_PARAMETERS")))
    except ValueError:
        return NORMALISERS  # the fault is named where the setting itself is parsed


def _wrong_names(settings: BaseSettings, known: Mapping[str, Field[Any]]) -> Iterator[str]:
    """A fault for each name that is nearly one of ours."""
    for name in sorted(map(str, settings)):
        if name in known:
            continue
        if name.startswith(PREFIX):
            meant = nearest_setting(name, known)
        elif (meant := mistyped_prefix(name, known)) is None:
            continue
        if meant is None:
            yield f"{name} = {NOT_SHOWN}: unknown; this version has no such setting; remove it"
        else:  # the value is shown if that of the right name may be
            shown = known[meant].metadata["show"](settings[name])
            yield f"{name} = {shown:.60}: unknown; did you mean {meant}?"


def _contradictions(parsed: Mapping[str, Any]) -> Iterator[str]:
    """A fault for each group of settings that do not go together. Wrong ones are left out."""
    if {"url", "client_options", "credentials"} <= parsed.keys():
        for fault in credential_conflicts(
            parsed["url"], parsed["client_options"], parsed["credentials"]
        ):
            yield f"{PREFIX}CREDENTIALS = {NOT_SHOWN}: {fault}"
    if {"wait", "timeout", "lease"} <= parsed.keys():
        yield from _too_slow(parsed["wait"], parsed["timeout"], parsed["lease"])


_SLOWEST = CLAIM_LIFETIME / 4


def _too_slow(wait: float, timeout: float, lease: float) -> Iterator[str]:
    """A claim must outlive the deadlines in which it is looked at, taken over and renewed."""
    if wait + timeout + lease > _SLOWEST:
        lifetime, longest = CLAIM_LIFETIME / 3600, _SLOWEST / 3600
        yield (
            f"{PREFIX}WAIT = {wait:g}, {PREFIX}TIMEOUT = {timeout:g}, {PREFIX}LEASE = {lease:g} "
            f"(seconds): a claim ends after {lifetime:g} hours, which would be too soon; let them "
            f"be {longest:g} hours together at most"
        )
