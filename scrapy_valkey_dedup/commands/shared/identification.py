"""From blocks of records to keys, and what was wrong with those that have none."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from scrapy.utils.conf import arglist_to_dict

from scrapy_valkey_dedup.commands.shared.explain import rule_of
from scrapy_valkey_dedup.commands.shared.item_builder import (
    CONVERSIONS,
    BadRecordError,
    ItemBuilder,
    item_class,
)
from scrapy_valkey_dedup.commands.shared.project import Project
from scrapy_valkey_dedup.commands.shared.records import UnreadableRecord
from scrapy_valkey_dedup.commands.shared.sources import FORMATS, Block, records_of
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.model import Key, UnkeyedError

_NAMED = 20
"""Records that are named by line, of each kind of fault; the others are counted."""
_REASONS = 50
_OTHERS = "for other reasons"


@dataclass
class SkippedRecords:
    """Records that were skipped: why, how many, and where the first of them stands."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    """Of the first ones."""

    def add(self, line: int, reason: str) -> None:
        """One more."""
        if reason not in self.counts and len(self.counts) >= _REASONS:
            reason = _OTHERS
        self.counts[reason] += 1
        self.first.setdefault(reason, line)
        if len(self.lines) < _NAMED:
            self.lines.append(line)

    def join(self, later: SkippedRecords) -> None:
        """Those of a later block."""
        for found, line in later.first.items():
            is_full = found not in self.counts and len(self.counts) >= _REASONS
            reason = _OTHERS if is_full else found
            self.counts[reason] += later.counts[found]
            self.first.setdefault(reason, line)
        self.lines += later.lines[: _NAMED - len(self.lines)]

    @property
    def total(self) -> int:
        """How many."""
        return self.counts.total() if hasattr(self.counts, "total") else sum(self.counts.values())

    def listed(self) -> dict[str, dict[str, int]]:
        """For machines."""
        return {
            reason: {"count": count, "first_line": self.first[reason]}
            for reason, count in self.counts.most_common()
        }


@dataclass
class IdentifiedBlock:
    """What came of a block."""

    keys: list[Key] = field(default_factory=list)
    records: int = 0
    bad: SkippedRecords = field(default_factory=SkippedRecords)
    unkeyed: SkippedRecords = field(default_factory=SkippedRecords)
    names: tuple[str, ...] = ()
    """The names of the last record without identity; or of any, if some are ``unmet``."""
    unused_renames: tuple[str, ...] = ()
    """Names of ``--rename`` that no record has had."""

    def check_usable(self, name: str) -> None:
        """Of the first block of a source: nothing in it is a post of this kind, or named so.

        Raises:
            CommandError: says what is missing.

        """
        listed = f"{', '.join(self.names):.200}"
        if self.unused_renames and self.names:
            column = self.unused_renames[0]
            raise CommandError(
                f"{name}: none of the first {self.records} records has a {column!r}, as "
                f"--rename {column}=... says; they have {listed}"
            )
        if self.keys or not self.records or (self.bad.total and self.unkeyed.total):
            return
        found = self.bad if self.bad.total else self.unkeyed
        ((reason, _),) = found.counts.most_common(1)
        said = f"{name}: none of the first {self.records} records can be used: {reason}"
        if self.names:
            said += f"; they have {listed}. --rename NAME=FIELD, --item and FIELDS may help"
        raise CommandError(said)


class RecordIdentifier:
    """Computes keys as the spider's pipeline does."""

    def __init__(self, project: Project, builder: ItemBuilder) -> None:
        project.require_spider(builder.cls)
        self.builder = builder
        self._identifier = project.identifier
        self._spider = project.spider
        scope = project.settings.scope
        self.rule = rule_of(self._identifier, builder.cls, project.spider, scope)
        """What identifies the posts."""

    def identify_block(self, block: Block) -> IdentifiedBlock:
        """The keys of a block, in order."""
        made = IdentifiedBlock()
        make, identify, spider = self.builder.build, self._identifier.identify, self._spider
        keys, record = made.keys, None
        for line, record in records_of(block):
            made.records += 1
            if type(record) is UnreadableRecord:
                made.bad.add(line, record.reason)
                continue
            try:
                keys.append(identify(make(record), spider))
            except BadRecordError as error:
                made.bad.add(line, str(error))
            except UnkeyedError as error:
                made.unkeyed.add(line, str(error))
                made.names = tuple(map(str, record))
        if self.builder.unused_renames and type(record) is dict:
            made.unused_renames, made.names = (
                tuple(self.builder.unused_renames),
                tuple(map(str, record)),
            )
        return made


def add_options(parser: argparse.ArgumentParser) -> None:
    """How posts are read: common to the verbs that take some."""
    group = parser.add_argument_group("the posts")
    group.add_argument("--item", metavar="CLASS", help="import path of their class (default: dict)")
    group.add_argument("--format", metavar="FORMAT", help=f"of a file: {', '.join(FORMATS)}")
    group.add_argument("--query", default="", metavar="SQL", help="of a database: what to read")
    group.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="NAME=FIELD",
        help="a column whose name differs from the item's field",
    )
    group.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="FIELD=TYPE",
        help="a field that is not a text in the spider's items, if the class does not say so: "
        + ", ".join(CONVERSIONS),
    )


def item_builder(options: argparse.Namespace) -> ItemBuilder:
    """What makes items, as the options say."""
    pairs: dict[str, Mapping[str, str]] = {}
    for name in ("rename", "type"):
        try:
            pairs[name] = arglist_to_dict(getattr(options, name))
        except ValueError:
            raise CommandError(f"--{name} takes NAME=VALUE") from None
    return ItemBuilder(item_class(options.item), pairs["rename"], pairs["type"])
