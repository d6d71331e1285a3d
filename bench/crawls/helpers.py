"""Starts what a benchmark needs beside its crawls, each in a process: a site, a slow line."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack


def helper(stack: ExitStack, module: str, *arguments: object) -> None:
    """Starts a module of ``bench`` as a process that ends with the stack; returns when it is ready.

    Its session is another: Ctrl-C reaches only the benchmark, whose stack then ends the process.
    """
    command = [sys.executable, "-m", f"bench.{module}", *map(str, arguments)]
    process = stack.enter_context(
        subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError(f"bench.{module} does not start: look at its errors above")
