"""Computes the keys of blocks of records, and counts the records that have none."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from scrapy.utils.conf import arglist_to_dict

from scrapy_valkey_dedup.commands.shared.project import Project
from scrapy_valkey_dedup.commands.shared.records.explain import rule_of
from scrapy_valkey_dedup.commands.shared.records.item_builder import (
    CONVERSIONS,
    BadRecordError,
    ItemBuilder,
    item_class,
)
from scrapy_valkey_dedup.commands.shared.records.record import UnreadableRecord
from scrapy_valkey_dedup.commands.shared.records.sources import FORMATS, Block, records_of
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.model import Key, UnkeyedError

_MOST_LINES = 20
"""Lines of skipped records to list; further ones are only counted."""
_MOST_REASONS = 50
"""Different reasons to count one by one; further ones are counted together."""
_OTHERS = "for other reasons"


@dataclass
class SkippedRecords:
    """Why records were skipped: how many for each reason, and where the first one is."""

    counts: Counter[str] = field(default_factory=Counter)
    """How many, by reason."""
    first: dict[str, int] = field(default_factory=dict)
    """The line of the first one, by reason."""
    lines: list[int] = field(default_factory=list)
    """The lines of the first few, for any reason."""

    def add(self, line: int, reason: str) -> None:
        """Counts one skipped record."""
        if reason not in self.counts and len(self.counts) >= _MOST_REASONS:
            reason = _OTHERS
        self.counts[reason] += 1
        self.first.setdefault(reason, line)
        if len(self.lines) < _MOST_LINES:
            self.lines.append(line)

    def join(self, later: SkippedRecords) -> None:
        """Adds the skipped records of a later block."""
        for found, line in later.first.items():
            is_full = found not in self.counts and len(self.counts) >= _MOST_REASONS
            reason = _OTHERS if is_full else found
            self.counts[reason] += later.counts[found]
            self.first.setdefault(reason, line)
        self.lines += later.lines[: _MOST_LINES - len(self.lines)]

    @property
    def total(self) -> int:
        """How many records were skipped."""
        return self.counts.total() if hasattr(self.counts, "total") else sum(self.counts.values())

    def listed(self) -> dict[str, dict[str, int]]:
        """As JSON: for each reason ``count`` and ``first_line``."""
        return {
            reason: {"count": count, "first_line": self.first[reason]}
            for reason, count in self.counts.most_common()
        }


@dataclass
class IdentifiedBlock:
    """The keys of a block's records, and the records that have none."""

    keys: list[Key] = field(default_factory=list)
    records: int = 0
    """All records of the block, with or without a key."""
    bad: SkippedRecords = field(default_factory=SkippedRecords)
    """Records that cannot be read, or from which no item can be built."""
    unkeyed: SkippedRecords = field(default_factory=SkippedRecords)
    """Items without identity: a field that identifies them is empty or missing."""
    names: tuple[str, ...] = ()
    """Field names of a record without identity, or of any if ``unused_renames`` has names."""
    unused_renames: tuple[str, ...] = ()
    """Names in ``--rename`` that no record has had so far."""

    def check_usable(self, name: str) -> None:
        """Checks the first block of a source: at least one of its records must have a key.

        Raises:
            CommandError: no record has one. The message says what is missing.

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
    """Computes the keys of records, as the spider's pipeline computes those of items."""

    def __init__(self, project: Project, builder: ItemBuilder) -> None:
        project.require_spider(builder.cls)
        self.builder = builder
        self._identifier = project.identifier
        self._spider = project.spider
        scope = project.settings.scope
        self.rule = rule_of(self._identifier, builder.cls, project.spider, scope)
        """How the posts are identified, for display."""

    def identify_block(self, block: Block) -> IdentifiedBlock:
        """The keys of a block's records, in order."""
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
    """Adds the options that say how posts are read, for the verbs that take posts."""
    group = parser.add_argument_group("the posts")
    group.add_argument(
        "--item", metavar="CLASS", help="import path of their item class (default: dict)"
    )
    group.add_argument(
        "--format", metavar="FORMAT", help=f"format of the file: {', '.join(FORMATS)}"
    )
    group.add_argument(
        "--query", default="", metavar="SQL", help="the query, if the source is a database"
    )
    group.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="NAME=FIELD",
        help="use the column NAME as the item's field FIELD",
    )
    group.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="FIELD=TYPE",
        help="type of a field that is not text in the items, if the class does not declare it: "
        + ", ".join(CONVERSIONS),
    )


def item_builder(options: argparse.Namespace) -> ItemBuilder:
    """The item builder that ``--item``, ``--rename`` and ``--type`` describe."""
    pairs: dict[str, Mapping[str, str]] = {}
    for name in ("rename", "type"):
        try:
            pairs[name] = arglist_to_dict(getattr(options, name))
        except ValueError:
            raise CommandError(f"--{name} takes NAME=VALUE") from None
    return ItemBuilder(item_class(options.item), pairs["rename"], pairs["type"])
