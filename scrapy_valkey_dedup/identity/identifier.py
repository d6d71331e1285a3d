"""From an item to its key, by the rule for its class; what is wrong is told once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from scrapy_valkey_dedup.identity.absent import absent_fields, lacks_fields
from scrapy_valkey_dedup.identity.compiled import key_function
from scrapy_valkey_dedup.identity.encoding import key_of
from scrapy_valkey_dedup.identity.extraction import (
    from_all_fields,
    from_function,
    raised,
)
from scrapy_valkey_dedup.identity.normalise import normalisers
from scrapy_valkey_dedup.identity.resolution import ResolvedRule, resolve
from scrapy_valkey_dedup.identity.rules import ClassRule
from scrapy_valkey_dedup.model import Key, UnkeyedError

logger = logging.getLogger(__name__)

_WARNINGS = 100
_NO_RULE = (ResolvedRule(), b"")


_CONSEQUENCES = {
    "pass": "Such items are stored unchecked, again in every run",
    "drop": "Such items are dropped",
    "error": "Such items end as item_error",
}


class IdentitySettings(Protocol):
    """What the settings say of identities: those of these names, in lower case."""

    @property
    def fields(self) -> Mapping[type | None, ClassRule]: ...  # noqa: D102
    @property
    def identity(self) -> Callable[..., Any] | None: ...  # noqa: D102
    @property
    def on_unkeyed(self) -> str: ...  # noqa: D102
    @property
    def scope(self) -> str: ...  # noqa: D102
    @property
    def tracking_parameters(self) -> Mapping[str, tuple[str, ...]]: ...  # noqa: D102


class Identifier:
    """Finds the key of an item, as the settings and the item's class say.

    What decides, in this order: ``IDENTITY``; ``FIELDS`` for the class or an ancestor; field
    metadata; ``FIELDS`` for all classes; all fields of the item.
    """

    def __init__(self, settings: IdentitySettings) -> None:
        self._settings = settings
        self._function = settings.identity
        self._known = normalisers(settings.tracking_parameters)
        self._by_class: dict[type, tuple[ResolvedRule, bytes]] = {}
        self._key_functions: dict[type, Callable[[Any], Key]] = {}
        self._inside: dict[type, bool] = {}
        self._told: set[tuple[str, str]] = set()

    def announce(self) -> None:
        """Says at the start which spiders share the posts of this run."""
        rules = self._settings.fields
        every_kind_is_named = None in rules and all(rule.kind for rule in rules.values())
        if self._settings.scope == "spider" and not every_kind_is_named:
            logger.info(
                "VALKEY_DEDUP_SCOPE = 'spider': what another spider has stored is stored here too. "
                "If an identity is the same post in every spider (a URL, or an id with its "
                'platform), set it to "project".'
            )

    def key(self, item: Any, spider: Any) -> Key | None:
        """Returns the key, or None if the item has no identity: why is logged once a reason.

        Never raises: items, normalisers and functions of the user's may hold any code.
        """
        try:
            return self._key(item, spider)
        except UnkeyedError as error:
            self._warn(item, str(error))
        except Exception as error:  # noqa: BLE001
            self._warn(item, raised(error))
        return None

    def identify(self, item: Any, spider: Any) -> Key:
        """Returns the key, as :meth:`key` does.

        Raises:
            UnkeyedError: says why the item has none.

        """
        try:
            return self._key(item, spider)
        except UnkeyedError:
            raise
        except Exception as error:  # noqa: BLE001 (as in key)
            raise UnkeyedError(raised(error)) from None

    def rule_for(self, cls: type, spider: Any) -> tuple[ResolvedRule, bytes]:
        """What identifies the items of a class, and their encoded kind."""
        known = self._by_class.get(cls)
        if known is None:
            known = self._by_class[cls] = self._resolve(cls, spider)
        return known

    def looks_inside(self, cls: type) -> bool:
        """Whether the key of an item may depend on what lies inside a value of a field."""
        found = self._inside.get(cls)
        if found is None:
            fields = self._by_class[cls][0].fields
            found = self._inside[cls] = (
                self._function is not None
                or fields is None
                or any(len(field.path) > 1 for field in fields)
            )
        return found

    def _key(self, item: Any, spider: Any) -> Key:
        cls = type(item)
        key_of_item = self._key_functions.get(cls)
        if key_of_item is not None:
            return key_of_item(item)
        rule, kind = self.rule_for(cls, spider)
        if rule.fault is not None:
            raise UnkeyedError(rule.fault)
        if self._function is not None:
            return key_of(kind, from_function(self._function, item, spider))
        if rule.fields is not None:
            made = self._key_functions[cls] = key_function(cls, kind, rule.fields)
            return made(item)
        return key_of(kind, from_all_fields(item))

    def _resolve(self, cls: type, spider: Any) -> tuple[ResolvedRule, bytes]:
        by_function = self._function is not None
        found = resolve(cls, self._settings.fields, self._known, by_function=by_function)
        if found.overruled:
            self._tell(
                logging.INFO,
                cls.__qualname__,
                "Items of class %s are identified by %s; %s says otherwise, and does not apply to "
                "them.",
                ", ".join(map(repr, map(str, found.fields or ()))),
                found.overruled,
            )
        if found.fields is None and found.fault is None and not by_function:
            self._tell(
                logging.WARNING,
                cls.__qualname__,
                "Items of class %s are identified by all their fields: a field that changes, such "
                "as a count of likes, makes the same post a new one in every run. Name the fields "
                'that identify it: VALKEY_DEDUP_FIELDS = ["platform", "post_id"], for example.',
            )
        named = getattr(spider, "name", None) if self._settings.scope == "spider" else None
        return found, found.encoded_kind(cls, None if named is None else str(named))

    def _warn(self, item: Any, reason: str) -> None:
        """Reasons name fields and types, never values."""
        cls, policy = type(item), self._settings.on_unkeyed
        rule, _ = self._by_class.get(cls, _NO_RULE)
        fields = (rule.fields or ()) if rule.fault is None else ()
        # A field that is not there and one that is empty have two causes, and so two lines.
        kind = "absent: " if lacks_fields(item, fields) else ""
        if not self._is_first(cls.__qualname__, kind + reason):
            return
        logger.warning(
            "An item of class %s has no identity: %s. %s (VALKEY_DEDUP_ON_UNKEYED = %r); from here "
            "on the stat dedup/items/unkeyed counts them.",
            cls.__qualname__,
            absent_fields(item, fields) or reason,
            _CONSEQUENCES[policy],
            policy,
        )

    def _tell(self, level: int, cls: str, message: str, *arguments: str) -> None:
        if self._is_first(cls, " ".join((message, *arguments))):
            logger.log(level, message, cls, *arguments)

    def _is_first(self, cls: str, words: str) -> bool:
        """Once for each class and reason."""
        if (cls, words) in self._told or len(self._told) >= _WARNINGS:
            return False
        self._told.add((cls, words))
        return True
