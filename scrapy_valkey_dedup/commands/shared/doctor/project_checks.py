"""Checks a project's settings and code: how its items are stored and identified."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from scrapy_valkey_dedup.commands.shared.doctor.findings import (
    ADVICE,
    FINE,
    WRONG,
    Finding,
    captured_warnings,
)
from scrapy_valkey_dedup.commands.shared.doctor.spiders import (
    SpiderInfo,
    YieldedDict,
    item_classes,
    yielded_dicts,
)
from scrapy_valkey_dedup.identity.identifier import Identifier
from scrapy_valkey_dedup.identity.item_classes import class_path
from scrapy_valkey_dedup.identity.resolution import ResolvedRule
from scrapy_valkey_dedup.items.pipeline import DedupPipeline
from scrapy_valkey_dedup.items.storage_advice import when_stored
from scrapy_valkey_dedup.items.storages import NOWHERE, storages_in
from scrapy_valkey_dedup.session.advice import warn_of_closing
from scrapy_valkey_dedup.settings import DedupSettings

_STORING = "docs/settings.md#confirm"
_WITH_FEEDS = (
    "if you store with -o, ignore this, or add the feed to this command: "
    """-s 'FEEDS={"posts.jl": {"format": "jsonlines"}}'"""
)
_IDENTITY = "docs/identity.md"
_KINDS = "docs/identity.md#which-posts-are-of-one-kind"


def check_project(spiders: Sequence[SpiderInfo], every: float | None) -> list[Finding]:
    """Checks all spiders. ``every``: seconds between two crawls; None if that is not known."""
    seen = list(spiders)
    found: list[Finding] = []
    for spider in seen:
        found += _storing(spider)
        found += _identities(spider)
        found += _dicts(spider)
        found += _pages(spider, every)
    found += _two_spiders(seen)
    found += _dicts_of_two(seen)
    return _merged(found, len(seen)) or [
        Finding("project", FINE, f"storages and identities of {len(seen)} spiders", docs=_STORING)
    ]


def _merged(found: Sequence[Finding], spiders: int) -> list[Finding]:
    """Merges findings that are the same for several spiders."""
    names: defaultdict[Finding, list[str]] = defaultdict(list)
    for each in found:
        bare = Finding(each.what, each.level, each.said, each.cure, each.docs)
        if each.spider is not None:
            names[bare].append(each.spider)
        else:
            names.setdefault(bare, [])
    return [
        Finding(
            each.what, each.level, each.said, each.cure, each.docs,
            (", ".join(listed) or None) if len(listed) < spiders else None,
        )
        for each, listed in names.items()
    ]  # fmt: skip


def _storing(seen: SpiderInfo) -> Iterator[Finding]:
    settings, crawler = seen.settings, seen.crawler
    if settings is None:
        for fault in seen.faults:
            yield Finding("settings", WRONG, fault, docs="docs/settings.md", spider=seen.name)
        return
    if not settings.enabled:
        yield Finding(
            "settings", WRONG, "VALKEY_DEDUP_ENABLED = False: nothing is deduplicated",
            "remove it", "docs/settings.md", seen.name,
        )  # fmt: skip
        return
    yield from _for_one_run(settings, seen.name)
    try:
        storages = storages_in(crawler, DedupPipeline)
    except ValueError as error:
        cure = 'ADDONS = {"scrapy_valkey_dedup.Addon": 500}'
        yield Finding("pipelines", WRONG, str(error), cure, "README.md#try-it", seen.name)
        return
    except Exception as error:  # noqa: BLE001 (user code may raise anything)
        said = f"pipelines or feeds cannot be loaded: {type(error).__name__}: {error}"
        yield Finding("pipelines", WRONG, said, "", "docs/settings.md", seen.name)
        return
    with captured_warnings() as messages:
        mode = when_stored(storages, settings.confirm, is_fleet=settings.job is not None)
    # Feeds of the command line of `scrapy crawl` cannot be seen here.
    may_use_feeds = mode == NOWHERE and not storages.feeds_wanted
    level, cure = (WRONG, "") if not may_use_feeds else (ADVICE, _WITH_FEEDS)
    if storages.before:  # one of them may store the posts
        level = WRONG
    for message in messages:
        yield Finding("storing", level, message, cure, _STORING, seen.name)
    if settings.on_duplicate != "mark":
        with captured_warnings() as messages:
            warn_of_closing(crawler.settings)
        for message in messages:
            yield Finding("storing", WRONG, message, docs=_STORING, spider=seen.name)


def _for_one_run(settings: DedupSettings, spider: str) -> Iterator[Finding]:
    """Finds settings in the project that are meant for the command line of one run."""
    for name, value, follows in (
        ("TRIAL", settings.trial, "what runs store is remembered for the trial only"),
        ("RESET", settings.reset or None, "each run stores everything once more"),
    ):
        if value is not None:
            said, cure = f"VALKEY_DEDUP_{name} = {value!r}: {follows}", "remove it after this run"
            docs = f"docs/{'operations' if name == 'TRIAL' else 'settings'}.md"
            yield Finding("settings", ADVICE, said, cure, docs, spider)


def _identities(seen: SpiderInfo) -> Iterator[Finding]:
    """Finds item classes whose rule has a fault, or whose identity is all of their fields."""
    if seen.settings is None or seen.settings.identity is not None:
        return
    identifier = Identifier(seen.settings)
    for cls in item_classes(seen):
        with captured_warnings() as messages:
            rule, _ = identifier.rule_for(cls, seen.cls)
        if rule.fault is not None:
            said = f"items of class {class_path(cls)} have no identity: {rule.fault}"
            yield Finding("identity", WRONG, said, docs=_IDENTITY, spider=seen.name)
        for message in messages:
            yield Finding("identity", WRONG, message, docs=_IDENTITY, spider=seen.name)


def _two_spiders(spiders: Sequence[SpiderInfo]) -> Iterator[Finding]:
    """Finds spiders that share a kind of posts, but identify them by different rules."""
    rules: defaultdict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)
    for each in spiders:
        settings = each.settings
        if settings is None or settings.identity is not None:
            continue
        for cls in item_classes(each):
            rule, _ = Identifier(settings).rule_for(cls, each.cls)
            if settings.scope == "project" or rule.kind is not None:
                kind = settings.namespace, rule.kind or class_path(cls)
                rules[kind].setdefault(_written(rule), []).append(each.name)
    for (_, shared), written in rules.items():
        if len(written) > 1:
            listed = "; ".join(f"{', '.join(names)} by {rule}" for rule, names in written.items())
            said = f"two spiders identify the same kind ({shared}) differently: {listed}"
            cure = "use one rule for both, in settings.py; otherwise each stores the same posts"
            yield Finding("identity", WRONG, said, cure, _KINDS)


def _written(rule: ResolvedRule) -> str:
    if rule.fields is None:
        return "all fields"
    return ", ".join(
        f"{field}:{','.join(field.normalisers)}" if field.normalisers else str(field)
        for field in rule.fields
    )


def _dicts(seen: SpiderInfo) -> Iterator[Finding]:
    yield from _of_different_kinds(yielded_dicts(seen), seen, seen.name)


def _dicts_of_two(spiders: Sequence[SpiderInfo]) -> Iterator[Finding]:
    """The same across spiders: with the scope "project" all dicts are of one kind."""
    sharing = [each for each in spiders if each.settings and each.settings.scope == "project"]
    for one, other in combinations(sharing, 2):
        for mine in yielded_dicts(one):
            yield from _of_different_kinds([mine, *yielded_dicts(other)[:1]], one, None)


def _of_different_kinds(
    dicts: Sequence[YieldedDict], seen: SpiderInfo, spider: str | None
) -> Iterator[Finding]:
    """Finds two dicts that have the fields of the identity, and otherwise different fields."""
    settings = seen.settings
    if settings is None or settings.identity is not None:
        return
    rule, _ = Identifier(settings).rule_for(dict, seen.cls)
    if rule.fields is None:
        return
    names = {field.path[0] for field in rule.fields}
    for one, other in combinations(dicts, 2):
        both = names <= one.names and names <= other.names
        if both and one.names - other.names and other.names - one.names:
            fields = ", ".join(sorted(names))
            said = (
                f"dicts of different kinds have one identity ({fields}): {_place(one)} and "
                f"{_place(other)}. If two of them have the same values there, one is lost"
            )
            cure = "give each kind its own item class, or a field in which the kinds differ"
            yield Finding("identity", WRONG, said, cure, _KINDS, spider)
            return


def _place(each: YieldedDict) -> str:
    return f"that of line {each.line} of spider {each.spider} ({', '.join(sorted(each.names))})"


def _pages(seen: SpiderInfo, every: float | None) -> Iterator[Finding]:
    settings = seen.settings
    if settings is None or settings.requests != "stored" or settings.request_retention is None:
        return
    if every is not None and settings.request_retention < every:
        said = (
            f"VALKEY_DEDUP_REQUEST_RETENTION is {_days(settings.request_retention)}, and the crawl "
            f"runs every {_days(every)}: the pages of one are forgotten before the next"
        )
        cure = "set it to several times as long"
        yield Finding("pages", WRONG, said, cure, "docs/requests.md#incremental", seen.name)


def _days(seconds: float) -> str:
    return f"{seconds / 86400:g} days"
