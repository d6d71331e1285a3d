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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import applied
import examples
import protection
import scan
from breakages import BREAKAGES, Breakage, must_be_noticed
from commands import MODULE, Failure, copied, init, run
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
            run("terraform", "validate", "-no-color", place=folder)
    # Mostly waits, as the provider does before it asks AWS whether a cache is ready.
    with ThreadPoolExecutor(1) as aside:
        applying = aside.submit(applied.check, copied_with_providers(module, place / "applied"))
        with step("tests"):
            tests = run("terraform", "test", "-no-color", place=module)
        print(tests.splitlines()[-1])
        with step("plans over an applied state"):
            protection.check(module)
        with step(f"{len(BREAKAGES)} breakages"):
            break_all(
                [
                    module,
                    *(
                        copied_with_providers(module, place / f"module-{i}")
                        for i in range(1, WORKERS)
                    ),
                ]
            )
        with step("plans of both examples"):
            examples.check(module)
        with step("checkov"):
            summary = scan.check(place / "scanned")
        print(summary)
        with step("apply, plan again and destroy, against a stand-in for AWS; waited for"):
            applying.result()


def copied_with_providers(module: Path, place: Path) -> Path:
    """Another copy that needs no ``init``."""
    return Path(shutil.copytree(module, place, symlinks=True))


def break_all(modules: list[Path]) -> None:
    """Each breakage, in whichever copy of the module is free."""
    free: queue.Queue[Path] = queue.Queue()
    for module in modules:
        free.put(module)

    def one(breakage: Breakage) -> None:
        module = free.get()
        try:
            must_be_noticed(breakage, module)
        finally:
            free.put(module)

    with ThreadPoolExecutor(len(modules)) as pool:
        list(pool.map(one, BREAKAGES))


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
