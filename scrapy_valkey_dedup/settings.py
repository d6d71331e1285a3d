"""The ``VALKEY_DEDUP_...`` settings, read once into one frozen object, and only here."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from scrapy.settings import BaseSettings
from scrapy.utils.conf import closest_scrapy_cfg
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.model import SettingsError
from scrapy_valkey_dedup.normalise import Normaliser, compose

PREFIX = "VALKEY_DEDUP_"

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_NEAR = 0.65  # of difflib's 1 for the same name: "URI" is near "URL", "CREDENTIALS" near nothing
_CENTURY = 100 * 365.25 * 86400
_SCHEMES = ("valkey", "valkeys", "redis", "rediss", "unix")
_RESERVED_OPTIONS = {"decode_responses", "protocol", "connection_pool", "retry", "parser_class"}
_NOT_SHOWN = "(not shown)"
_PERCENT_ENCODE = "percent-encode special characters in user, password and options"


@dataclass(frozen=True)
class FieldRule:
    """One field of an identity: the way to its value, and what is done to the value."""

    path: tuple[str, ...]
    normalise: Normaliser | None = None

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True)
class ClassRule:
    """What identifies the items of one class: fields (None: not said), and the kind they are of."""

    fields: tuple[FieldRule, ...] | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Context:
    """What the values of settings may refer to."""

    bot: str = "scrapybot"
    spider: str = "spider"
    feeds: bool = False


def field_rule(text: str) -> FieldRule:
    """Parses ``"author.id"``, ``"url:url"``, ``"text:nfkc,casefold"``.

    Raises:
        ValueError: an empty name or an unknown normaliser.

    """
    path, colon, names = text.partition(":")
    steps = tuple(step.strip() for step in path.split("."))
    if not all(steps):
        raise ValueError(f"{text!r} has an empty field name")
    if not colon:
        return FieldRule(steps)
    return FieldRule(steps, compose([name.strip() for name in names.split(",")]))


def redacted(url: str) -> str:
    """The URL without user, password and query: fit for logs and messages.

    Where a password ends is not certain if its special characters are not percent-encoded: of such
    a URL, and of one that cannot be read, only the scheme is shown.
    """
    scheme = re.match(r"[a-z+]{1,30}://", url)
    hidden = (scheme[0] if scheme else "") + _NOT_SHOWN
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (reading it checks it)
    except ValueError:
        return hidden
    if not scheme or _may_hold_password(parts):
        return hidden
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    if not parts.hostname:
        return hidden
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _may_hold_password(parts: SplitResult) -> bool:
    """Whether an ``@`` after the host may be the real end of the password."""
    return bool(parts.netloc) and "@" in parts.path + parts.query + parts.fragment


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("write a text that is not empty")
    return value.strip()


def _flag(value: Any, _: Context) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "true"):
        return True
    if text in ("0", "false"):
        return False
    raise ValueError("write True or False")


def _choice(*known: str) -> Callable[[Any, Context], str]:
    def parse(value: Any, _: Context) -> str:
        if value in known:
            return str(value)
        close = difflib.get_close_matches(str(value).lower(), known, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"{hint}it knows " + ", ".join(repr(word) for word in known))

    return parse


def _seconds(value: Any) -> float:
    text = str(value).strip().lower()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", text, re.ASCII)
    if isinstance(value, bool) or not match:
        raise ValueError('write seconds, or a duration such as "45s", "30m", "12h", "90d"')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _CENTURY:
        raise ValueError("that is more than a century; None is for ever where a setting allows it")
    return seconds


def _duration(at_least: float) -> Callable[[Any, Context], float]:
    def parse(value: Any, _: Context) -> float:
        seconds = _seconds(value)
        if seconds < at_least:
            raise ValueError(f"it must be at least {at_least:g} seconds")
        return seconds

    return parse


def _retention(value: Any, context: Context) -> float | None:
    if value is None or str(value).strip().lower() == "none":
        return None
    return _duration(1)(value, context)


def _url(value: Any, _: Context) -> str | None:
    if value is None or value == "":
        return None
    text = _text(value)
    try:
        parts = urlsplit(text)
        scheme, place = parts.scheme, parts.path if parts.scheme == "unix" else parts.hostname
        parts.port  # noqa: B018 (reading it checks it)
    except ValueError:  # its message may hold the password
        raise ValueError(f"it cannot be read as a URL; {_PERCENT_ENCODE}") from None
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ValueError(f"this version speaks {known}, for example valkey://localhost:6379")
    if not place:
        raise ValueError("it names no host (or, for unix://, no path of a socket)")
    if _may_hold_password(parts):
        raise ValueError(f"there is an @ after the host; {_PERCENT_ENCODE}")
    if scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path, re.ASCII):
        raise ValueError(
            "after the host only the number of a database may follow, as in valkey://localhost/0"
        )
    _refuse_reserved(parse_qs(parts.query, keep_blank_values=True))
    return scheme + text[len(scheme) :]


def _refuse_reserved(names: Iterable[str]) -> None:
    if reserved := sorted(_RESERVED_OPTIONS.intersection(names)):
        raise ValueError(f"the plugin sets {', '.join(reserved)} itself; leave it out")


def _options(value: Any, _: Context) -> Mapping[str, Any]:
    value = _decoded(value)
    if value is None or value == "":
        value = {}
    if not isinstance(value, Mapping):
        raise ValueError("write a dict of keyword arguments for valkey-py")  # noqa: TRY004
    _refuse_reserved(value)
    return MappingProxyType(dict(value))


def _namespace(value: Any, context: Context) -> str:
    names = {"bot": context.bot, "spider": context.spider}

    def expanded(match: re.Match[str]) -> str:
        if match[1] not in names:
            raise ValueError(f"{match[0]} is not known; it may use {{bot}} and {{spider}}")
        return names[match[1]]

    return re.sub(r"\{(.*?)\}", expanded, _text(value))


def _decoded(value: Any) -> Any:
    """Settings from the command line are texts: JSON, where it looks like it."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"it is not valid JSON: {error}") from error
    return value


def _field_rules(value: Any) -> tuple[FieldRule, ...]:
    if isinstance(value, str):
        if ":" in value and "," in value:
            raise ValueError(
                "write a list: a comma between names cannot be told from one between normalisers"
            )
        value = value.split(",")
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError('write a list of field names such as ["platform", "post_id"]')
    return tuple(field_rule(_text(name)) for name in value)


def _class_rule(value: Any) -> ClassRule:
    if not isinstance(value, Mapping):
        return ClassRule(_field_rules(value))
    if unknown := sorted(set(value) - {"fields", "kind"}):
        raise ValueError(f"{unknown[0]!r} is not known here; a class may have 'fields' and 'kind'")
    listed = value.get("fields")
    return ClassRule(
        _field_rules(listed) if listed is not None else None,
        _text(value["kind"]) if "kind" in value else None,
    )


def _loaded(path: Any) -> Any:
    try:
        return load_object(path)
    except Exception as error:  # an import may run any code
        raise ValueError(f"it cannot be imported: {error}") from error


def _item_class(name: Any) -> type | None:
    if name == "*":
        return None
    found = dict if name == "dict" else _loaded(name)
    if not isinstance(found, type):
        raise ValueError(f"{name!r} is not a class")  # noqa: TRY004
    return found


def _fields(value: Any, _: Context) -> Mapping[type | None, ClassRule]:
    value = _decoded(value)
    if value is None or value == "":
        value = {}
    if not isinstance(value, Mapping):
        value = {"*": value}
    rules = {}
    for name, rule in value.items():
        try:
            rules[_item_class(name)] = _class_rule(rule)
        except (TypeError, ValueError) as error:
            raise ValueError(f"for the item class {name!r}: {error}") from error
    return MappingProxyType(rules)


def _function(value: Any, _: Context) -> Callable[..., Any] | None:
    if value is None or value == "":
        return None
    found = _loaded(value)
    if not callable(found):
        raise ValueError("it is not a function of (item, spider)")  # noqa: TRY004
    return found  # type: ignore[no-any-return]


def _confirm(value: Any, context: Context) -> str:
    mode = _choice("scraped", "exported", "manual", "claimed")(value, context)
    if mode == "exported" and not context.feeds:
        raise ValueError(
            'there are no FEEDS, so nothing would ever be confirmed; set FEEDS or "scraped"'
        )
    return mode


def _directory(value: Any, _: Context) -> Path:
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
    return repr(redacted(value.strip())) if isinstance(value, str) else _NOT_SHOWN


def _not_shown(_: Any) -> str:
    return _NOT_SHOWN


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

    enabled: bool = _setting(True, _flag)
    url: str | None = _setting(None, _url, _shown_url)
    client_options: Mapping[str, Any] = _setting({}, _options, _not_shown)
    namespace: str = _setting("{bot}", _namespace)
    fields: Mapping[type | None, ClassRule] = _setting(None, _fields)  # None: any other class
    identity: Callable[..., Any] | None = _setting(None, _function)
    retention: float | None = _setting("90d", _retention)
    refresh: bool = _setting(True, _flag)
    confirm: str = _setting("scraped", _confirm)
    on_duplicate: str = _setting("drop", _choice("drop", "mark"))
    mark_field: str = _setting("duplicate", lambda value, _: _text(value))
    on_unkeyed: str = _setting("pass", _choice("pass", "drop", "error"))
    on_outage: str = _setting("pass", _choice("pass"))
    wait: float = _setting(5, _duration(0))
    timeout: float = _setting(5, _duration(0.1))
    lease: float = _setting(30, _duration(1))
    data_dir: Path = _setting(".scrapy/valkey-dedup", _directory)

    @staticmethod
    def wanted(settings: BaseSettings) -> bool:
        """Whether the plugin is switched on; what else is set does not matter while it is off."""
        try:
            return _flag(settings.get(PREFIX + "ENABLED", True), Context())
        except ValueError:
            return True  # and parse names the fault

    @classmethod
    def parse(cls, settings: BaseSettings, spider: str) -> DedupSettings:
        """Reads and checks all settings for a spider's name.

        Raises:
            SettingsError: names every fault: the setting, the value found, the cure.

        """
        context = Context(str(settings.get("BOT_NAME")), spider, bool(settings.getdict("FEEDS")))
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
        if faults:
            raise SettingsError(faults)
        return cls(**values)


def _unknown(name: str, value: Any, known: Mapping[str, Field[Any]]) -> str:
    """Its value is shown if the nearest right name is that of no secret."""
    words = [other.removeprefix(PREFIX) for other in known]
    close = difflib.get_close_matches(name.removeprefix(PREFIX).upper(), words, 1, _NEAR)
    if not close:
        return f"{name} = {_NOT_SHOWN}: unknown; this version has no such setting; remove it"
    meant = PREFIX + close[0]
    return f"{name} = {known[meant].metadata['show'](value):.60}: unknown; did you mean {meant}?"
