"""A process in which `scrapy dedup` runs, forked from one that has imported Scrapy."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from scrapy import cmdline

from tests.support.patience import make_all_patient


def carry_out(given: list[str], directory: str, files: list[str], env: Mapping[str, str]) -> Any:
    """Runs the command with these files as standard input, output and error.

    If they are a terminal, it becomes that of the command: Ctrl-C there reaches nobody else.
    """
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(directory)
    # As `python -m scrapy` has it.
    sys.path[:0] = [directory, *env["PYTHONPATH"].split(os.pathsep)]
    own = {file.stem for file in Path(directory).glob("*.py")}  # come before those of the machine
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]
    for number, name in enumerate(files):
        opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), "utf-8")
        for number in (1, 2)
    )
    make_all_patient()
    _exit_after(["scrapy", "dedup", *given])


def _exit_after(argv: list[str]) -> NoReturn:
    code: Any = 0
    try:
        cmdline.execute(argv)
    except SystemExit as ended:
        code = ended.code
    if sys.stdout is not None:
        sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
