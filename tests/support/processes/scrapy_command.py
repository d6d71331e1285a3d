"""``python -m scrapy ...`` in a folder, started in a tenth of the time of an interpreter."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from scrapy.cmdline import execute
from scrapy.settings import default_settings

from tests.support.patience import PATIENCE
from tests.support.processes.forkserver import processes

_ROOT = Path(__file__).parents[3]
_OF_PYTEST = {str(_ROOT / "tests"), str(_ROOT / "example_project")}


def _obey(
    arguments: tuple[str, ...],
    folder: Path,
    environment: Mapping[str, str],
    out: Path,
    errors: Path,
) -> None:
    """What the process does: what a new interpreter would get from its caller."""
    for number, path in ((1, out), (2, errors)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    added = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [str(folder), *added, *(path for path in sys.path if path not in _OF_PYTEST)]
    sys.argv = ["scrapy", *arguments]
    # All crawls of the machine want a port of the same few, and two that want one at the same time
    # say so in their logs.
    default_settings.TELNETCONSOLE_ENABLED = False
    execute()


class Command:
    """A ``scrapy`` command that runs."""

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        environment: Mapping[str, str],
        out: Path,
        errors: Path | None = None,
    ) -> None:
        given: tuple[Any, ...] = arguments, folder, dict(environment), out, errors or out
        self._process = processes.Process(target=_obey, args=given)
        self._process.start()

    def wait(self) -> int:
        """Waits for its end; returns its exit status."""
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            raise TimeoutError(f"it did not end within {PATIENCE} s")
        return int(self._process.exitcode or 0)


def scrapy(
    *arguments: str, folder: Path, environment: Mapping[str, str], place: Path
) -> CompletedProcess[str]:
    """Runs ``scrapy ...`` to its end; keeps what it prints in ``place``."""
    out, errors = place / "out.txt", place / "errors.txt"
    for file in (out, errors):
        file.unlink(missing_ok=True)
    status = Command(
        *arguments, folder=folder, environment=environment, out=out, errors=errors
    ).wait()
    return CompletedProcess(arguments, status, out.read_text(), errors.read_text())
