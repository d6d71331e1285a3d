"""Refuses to run without asyncio: the plugin awaits Valkey in the event loop of the crawl."""

from __future__ import annotations

import asyncio

from scrapy.settings import BaseSettings
from scrapy.utils.asyncio import is_asyncio_available

from scrapy_valkey_dedup.model import SettingsError


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop of asyncio.

    Raises:
        SettingsError: none is running, as the reactor was installed after the components were
            built.

    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise _refusal("TWISTED_REACTOR names a reactor without it") from None


def refuse_without_asyncio(settings: BaseSettings) -> None:
    """Refuses a reactor without asyncio.

    Where nothing runs yet and no reactor is installed, as in a unit test that builds a component,
    it cannot be known: there :func:`running_loop` looks when the session is opened.

    Raises:
        SettingsError: see there.

    """
    try:
        refused = not is_asyncio_available()
    except RuntimeError:
        return
    if refused:
        raise _refusal(f"TWISTED_REACTOR = {settings.get('TWISTED_REACTOR')!r}")


def _refusal(found: str) -> SettingsError:
    cure = "remove it, or set 'twisted.internet.asyncioreactor.AsyncioSelectorReactor'"
    return SettingsError([f"{found}: the plugin needs asyncio; {cure}"])
