"""Reads the settings that a spider of the project would have, without a crawl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import scrapy
from scrapy.addons import AddonManager
from scrapy.crawler import Crawler
from scrapy.settings import Settings
from scrapy.spiderloader import SpiderLoaderProtocol, get_spider_loader
from scrapy.utils.project import inside_project

from scrapy_valkey_dedup.commands.shared.usage import CommandError, suggestion
from scrapy_valkey_dedup.identity.identifier import Identifier
from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.settings import PREFIX, DedupSettings

_OUTSIDE = "; there is no project here, so give its other settings, too: -s VALKEY_DEDUP_FIELDS=..."
_CURE = "name the spider that scraped the posts: --spider NAME"


def is_outside(settings: Settings) -> bool:
    """Whether there is no project in this folder, or in one above it, or in the settings."""
    return not (inside_project() or settings.getlist("SPIDER_MODULES"))


@dataclass(frozen=True)
class Project:
    """The settings of a project, as one of its spiders has them."""

    settings: DedupSettings
    spider: scrapy.Spider
    is_named: bool
    """Whether the spider was named with ``--spider``, or is the only one of the project."""
    spiders: tuple[str, ...] = ()
    """The names of all spiders of the project."""

    @property
    def identifier(self) -> Identifier:
        """Computes identities, as the spider's pipeline does."""
        return Identifier(self.settings)

    def require_spider(self, cls: type) -> None:
        """Requires ``--spider`` if the spider is part of the identity of items of this class.

        Raises:
            CommandError: no spider is named. The message says what to add.

        """
        if self.is_named:
            return
        rule, _ = self.identifier.rule_for(cls, self.spider)
        if self.settings.identity is not None:
            asks = "VALKEY_DEDUP_IDENTITY is called with a spider"
            raise CommandError(f"{asks}: {_CURE}{self._names}")
        if self.settings.scope == "spider" and rule.kind is None:
            raise CommandError(
                "with VALKEY_DEDUP_SCOPE = 'spider' each spider has its own posts; "
                f"{_CURE}{self._names or _OUTSIDE}"
            )

    @property
    def _names(self) -> str:
        return f" ({', '.join(self.spiders)})" if self.spiders else ""


def project_of(
    settings: Settings, spider: str | None = None, arguments: Mapping[str, str] | None = None
) -> Project:
    """Reads the settings, with the changes that add-ons and the spider make.

    ``arguments``: the spider's, as ``-a`` of ``scrapy crawl`` gives them. The spider is built only
    if ``VALKEY_DEDUP_IDENTITY`` is a function, which is called with it.

    Raises:
        CommandError: there is no such spider, or it cannot be imported.
        SettingsError: some settings are invalid. The message names all of them.

    """
    settings = settings.copy()
    # CONFIRM has no effect on a command, and "exported" would need the feeds of a crawl.
    settings.set(PREFIX + "CONFIRM", None, "cmdline")
    settings.set(PREFIX + "ENABLED", "True", "cmdline")
    try:
        if hasattr(AddonManager, "load_pre_crawler_settings"):
            AddonManager.load_pre_crawler_settings(settings)
        loader = get_spider_loader(settings)
        cls, is_named = _spider_class(loader, spider)
        crawler = Crawler(cls, settings)
        crawler.addons.load_settings(crawler.settings)
    except DedupError:
        raise
    except Exception as error:
        raise CommandError(
            f"the project's spiders and add-ons cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not is_named:
        _refuse_spider_in_namespace(crawler.settings)
    parsed = DedupSettings.parse(crawler.settings, cls.name)
    made = _built(cls, crawler, arguments or {}) if parsed.identity else scrapy.Spider(cls.name)
    return Project(parsed, made, is_named, tuple(loader.list()))


def _spider_class(
    loader: SpiderLoaderProtocol, spider: str | None
) -> tuple[type[scrapy.Spider], bool]:
    names = loader.list()
    if spider is None and len(names) == 1:
        spider = names[0]
    if spider is None:
        return type("NoSpider", (scrapy.Spider,), {"name": "spider"}), False
    if not names:  # outside a project
        return type("NamedSpider", (scrapy.Spider,), {"name": spider}), True
    if spider not in names:
        raise CommandError(f"--spider {spider}: no such spider; {suggestion(spider, names)}")
    return loader.load(spider), True


def _refuse_spider_in_namespace(settings: Settings) -> None:
    value = settings.get(PREFIX + "NAMESPACE")
    if isinstance(value, str) and "{spider}" in value:
        raise CommandError(f"VALKEY_DEDUP_NAMESPACE = {value!r} depends on the spider; {_CURE}")


def _built(
    cls: type[scrapy.Spider], crawler: Crawler, arguments: Mapping[str, Any]
) -> scrapy.Spider:
    try:
        return cls.from_crawler(crawler, **arguments)
    except Exception as error:
        raise CommandError(
            f"the spider {cls.name!r}, which VALKEY_DEDUP_IDENTITY is called with, cannot be "
            f"built: {type(error).__name__}: {error}; give it its arguments: -a NAME=VALUE"
        ) from error
