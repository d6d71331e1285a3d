"""All that ``make terraform`` checks. Nothing is asked of AWS, and no credentials are used.

Fails, and says why, where ``terraform`` or its AWS provider cannot be had: what was not tested did
not pass.
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import applied
import examples
import protection
import scan
from attached import attached
from breakages import BREAKAGES, plans_must_notice
from commands import MODULE, Failure, copied, init, run
from noticed import OF_PLANS, must_all_be_noticed
from providers import bounds, provider_folder

WORKERS = min(2, os.cpu_count() or 1)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Prints what is done, and how long it took."""
    print(f"{name} ... ", end="", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:.0f} s", flush=True)


def check(place: Path) -> None:
    """Every step; raises Failure at the first that fails."""
    with step("fmt"):
        run("terraform", "fmt", "-check", "-recursive", "-no-color", place=MODULE)
    bounds(MODULE)
    providers = provider_folder()
    module = copied(place / "module")
    with step("init, validate"):
        for folder in (module, *(module / "examples" / name for name in examples.LOOKS)):
            init(folder, providers)
        run("terraform", "validate", "-no-color", place=module)
    # One `init` for all: a copy needs none.
    modules = [copy_of(module, place / f"module-{number}") for number in range(WORKERS)]
    with ThreadPoolExecutor(1) as aside, ExitStack() as running:
        # Mostly waits, as the provider does before it asks AWS whether a cache is ready. Here it
        # is started by Terraform, as it is for everybody.
        applying = aside.submit(applied.check, copy_of(module, place / "applied"))
        for copy in modules:
            running.enter_context(attached(copy))
        with step("tests, plans over an applied state"):
            together([protection.check, tests], modules)
        with step(f"{len(BREAKAGES)} breakages, plans of both examples, checkov"):
            together(
                [
                    examples.check,
                    lambda _: scan.check(place / "scanned"),
                    must_all_be_noticed,
                    *(partial(plans_must_notice, breakage) for breakage in OF_PLANS),
                ],
                modules,
            )
        with step("apply, plan again and destroy, against a stand-in for AWS; waited for"):
            applying.result()


def tests(module: Path) -> None:
    """``terraform test``, which tells how many passed."""
    print(run("terraform", "test", "-no-color", place=module).splitlines()[-1], end=" ", flush=True)


def copy_of(module: Path, place: Path) -> Path:
    """Another copy of the module, initialised like the first."""
    return Path(shutil.copytree(module, place, symlinks=True))


def together(jobs: list[Callable[[Path], object]], modules: list[Path]) -> None:
    """Each job, with whichever copy of the module is free. Fails with all that failed."""
    free: queue.Queue[Path] = queue.Queue()
    for module in modules:
        free.put(module)

    def failure(job: Callable[[Path], object]) -> str:
        module = free.get()
        try:
            job(module)
        except Failure as failed:
            return str(failed)
        finally:
            free.put(module)
        return ""

    with ThreadPoolExecutor(len(modules)) as pool:
        failed = [text for text in pool.map(failure, jobs) if text]
    if failed:
        raise Failure("\n\n".join(failed))


def main() -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory() as place:
        try:
            check(Path(place))
        except Failure as failure:
            print(f"\n\nFAILED\n\n{failure}", flush=True)
            return 1
    print(f"terraform: all passed, {len(BREAKAGES)} breakages noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
