"""The command `scrapy dedup VERB`, which reads, fills and repairs the ledger. One module per verb.

A verb's module has ``SUMMARY`` and ``EXAMPLE`` (texts), ``add_options(parser)`` and the coroutine
function ``run(job)``, which returns the exit code. Code that verbs share is in ``shared``.

Scrapy imports this module whenever the `scrapy` command starts, so modules that only one verb needs
are imported when that verb runs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import pkgutil
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from scrapy.commands import ScrapyCommand
from scrapy.exceptions import UsageError
from scrapy.settings import Settings
from scrapy.utils.conf import arglist_to_dict
from scrapy.utils.log import configure_logging

from scrapy_valkey_dedup.commands.shared.screen import Screen
from scrapy_valkey_dedup.commands.shared.usage import FAILED, CommandError, suggestion
from scrapy_valkey_dedup.model import DedupError, SettingsError

if TYPE_CHECKING:
    from scrapy_valkey_dedup.commands.shared.project import Project

_ENDED_BY = 128  # plus the signal's number, as in shells


@dataclass
class Job:
    """One call of a verb: its options, the project's settings and the screen."""

    options: argparse.Namespace
    settings: Settings
    screen: Screen

    @cached_property
    def project(self) -> Project:
        """The project's settings, as the spider of ``--spider`` sees them."""
        from scrapy_valkey_dedup.commands.shared.project import project_of  # noqa: PLC0415

        options = self.options
        return project_of(self.settings, options.spider, options.spider_arguments)


class Verb(Protocol):
    """The interface of a verb's module."""

    SUMMARY: str
    EXAMPLE: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Adds the options that only this verb has."""

    def run(self, job: Job) -> Coroutine[Any, Any, int]:
        """Runs the verb; returns the exit code."""


def verbs() -> list[str]:
    """The names of all verbs, in alphabetical order."""
    found = pkgutil.iter_modules(__path__)
    return sorted(name.rstrip("_") for _, name, is_package in found if not is_package)


def verb(name: str) -> Verb:
    """The module of a verb.

    Raises:
        CommandError: there is no verb of this name.

    """
    if name not in verbs():
        raise CommandError(f"unknown verb {name!r}: {suggestion(name, verbs())}")
    module = f"{name}_" if name == "import" else name  # `import` is a keyword of Python
    return cast("Verb", import_module(f"{__name__}.{module}"))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; see `{self.prog} --help`")


class DedupCommand(ScrapyCommand):
    """Scrapy's command `dedup`, which passes its arguments on to a verb."""

    requires_project = False
    requires_crawler_process = False
    _verb: Verb | None = None
    _options = argparse.Namespace()

    def syntax(self) -> str:
        """The command's arguments, as `scrapy dedup --help` shows them."""
        return "VERB [options]"

    def short_desc(self) -> str:
        """The command's summary in `scrapy --help`."""
        return "Read, fill and repair what scrapy-valkey-dedup remembers"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Adds Scrapy's own options; the rest of the words is parsed by the verb."""
        super().add_options(parser)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        listed = [f"  {name:<8} {verb(name).SUMMARY}" for name in verbs()]
        parser.description = "\n".join(
            [f"{self.short_desc()}.", "", "verbs:", *listed, "", "`scrapy dedup VERB --help`"]
        )
        parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        """Finds the verb, parses its options and copies them into the settings."""
        try:
            self._verb = _first_verb(args, opts.words)
            self._options = self._parsed(self._verb, opts)
            self._read()
        except CommandError as fault:
            sys.exit(_failed(Screen(json_output="--json" in opts.words), fault))

    def _parsed(self, chosen: Verb, opts: argparse.Namespace) -> argparse.Namespace:
        parser = _Parser(
            f"scrapy dedup {opts.words[0]}",
            description=chosen.SUMMARY + ".",
            epilog=chosen.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            conflict_handler="resolve",
            allow_abbrev=False,
        )
        chosen.add_options(parser)
        _add_common(parser)
        super().add_options(parser)
        found = parser.parse_args(opts.words[1:])
        before = {name: value for name, value in vars(opts).items() if name in vars(found)}
        found.set = [*before.pop("set"), *found.set]
        for name, value in before.items():
            if getattr(found, name) is None:
                setattr(found, name, value)
        return found

    def _read(self) -> None:
        from scrapy_valkey_dedup.settings import PREFIX  # noqa: PLC0415

        options = self._options
        try:
            super().process_options([], options)
            options.spider_arguments = arglist_to_dict(options.spider_arguments)
        except (UsageError, ValueError):
            raise CommandError("-s and -a take NAME=VALUE") from None
        assert self.settings is not None  # noqa: S101 (Scrapy sets it)
        for name in ("url", "namespace", "trial"):
            if getattr(options, name) is not None:
                self.settings.set(PREFIX + name.upper(), getattr(options, name), "cmdline")

    def run(self, args: list[str], opts: argparse.Namespace) -> None:  # noqa: ARG002 (Scrapy's)
        """Runs the verb and sets the exit code."""
        assert self._verb is not None  # noqa: S101 (process_options has found it)
        assert self.settings is not None  # noqa: S101 (Scrapy sets it)
        self._log()
        screen = Screen(json_output=self._options.json)
        self.exitcode = _carry_out(self._verb, Job(self._options, self.settings, screen))

    def _log(self) -> None:
        """Configures logging if it was asked for; otherwise only the verb's own output is shown."""
        options = self._options
        if options.loglevel or options.logfile:
            configure_logging(self.settings)
        else:
            logging.getLogger("scrapy_valkey_dedup").addHandler(logging.NullHandler())


def _first_verb(unknown: list[str], words: list[str]) -> Verb:
    if unknown:
        raise CommandError(f"{unknown[0]!r} comes before the verb: write it after the verb")
    if not words:
        raise CommandError(f"no verb: {suggestion('', verbs())}; see `scrapy dedup --help`")
    return verb(words[0])


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the ledger")
    group.add_argument("--url", help="URL of the server (default: VALKEY_DEDUP_URL)")
    group.add_argument("--namespace", help="the namespace (default: VALKEY_DEDUP_NAMESPACE)")
    group.add_argument(
        "--trial", metavar="NAME", help="only this trial (default: VALKEY_DEDUP_TRIAL)"
    )
    group.add_argument("--spider", metavar="NAME", help="use the settings of this spider")
    group.add_argument(
        "-a",
        dest="spider_arguments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument for the spider, if VALKEY_DEDUP_IDENTITY uses it",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object")


def _carry_out(chosen: Verb, job: Job) -> int:
    try:
        return asyncio.run(_until_interrupted(chosen.run(job), job.screen))
    except DedupError as error:
        return _failed(job.screen, error)
    except BrokenPipeError:  # `scrapy dedup check posts.jl | head`
        sys.stdout = None  # or Python complains when it ends
        return FAILED


async def _until_interrupted(work: Coroutine[Any, Any, int], screen: Screen) -> int:
    """Cancels the verb at Ctrl-C or SIGTERM, so that it saves its progress and cleans up."""
    task, received = asyncio.ensure_future(work), [0]

    def end(number: int) -> None:
        received[0] = number
        task.cancel()

    with suppress(NotImplementedError):  # on Windows
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        screen.note("interrupted")
        return _ENDED_BY + received[0]


def _failed(screen: Screen, error: DedupError) -> int:
    text = str(error)
    if isinstance(error, SettingsError) and len(error.faults) == 1:
        (text,) = error.faults
    screen.note(f"scrapy dedup: {text}")
    found: dict[str, Any] = {"error": text}
    screen.result(found)
    return error.code if isinstance(error, CommandError) else FAILED
