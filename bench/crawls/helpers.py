"""Starts what a benchmark needs beside its crawls, in processes of its own: a site, a slow line."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack


def helper(stack: ExitStack, module: str, *arguments: object) -> None:
    """Starts a module of ``bench`` as a process that ends with the stack; returns when it is ready.

    The process has a session of its own: Ctrl-C is for the benchmark, whose stack then ends it.
    """
    command = [sys.executable, "-m", f"bench.{module}", *map(str, arguments)]
    process = stack.enter_context(
        subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError(f"bench.{module} does not start: look at its errors above")
