"""One process of the AWS provider for many commands of Terraform.

A command that starts the provider has it describe all of AWS, which takes two seconds of a
processor, and ``terraform test`` starts it again and again. Attached to one that runs, a plan takes
one second in place of two, and ``terraform test`` four in place of twenty.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from commands import ATTACHED, Failure, environment

_TOLD = "TF_REATTACH_PROVIDERS="  # what the provider prints when it is ready, in quotes
_QUIET = {"TF_LOG_SDK": "off", "TF_LOG_PROVIDER": "off"}


@contextmanager
def attached(module: Path) -> Iterator[None]:
    """Commands in the module's folder, or in one below, ask a provider that runs for so long.

    They must come one after the other, as each tells it the account and region that it asks for.
    The folder must be initialised. For the main thread: who ends this program ends the provider.
    """
    log = module / "provider.log"
    with log.open("w") as errors, subprocess.Popen(
        [_binary(module), "-debug"], env=environment(module) | _QUIET, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
    ) as provider:  # fmt: skip
        before = signal.getsignal(signal.SIGTERM)

        def end(*_: object) -> None:
            provider.terminate()
            signal.signal(signal.SIGTERM, before)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)
        try:
            ATTACHED[module] = _address(provider.stdout or (), log)
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            ATTACHED.pop(module, None)
            provider.terminate()


def _binary(module: Path) -> Path:
    """That ``terraform init`` has chosen."""
    chosen = module.glob(".terraform/providers/*/hashicorp/aws/*/*/terraform-provider-aws*")
    found = [path for path in chosen if os.access(path, os.X_OK)]
    if len(found) != 1:
        raise Failure(f"terraform init should have chosen one AWS provider, not {found}")
    return found[0]


def _address(printed: Iterable[str], log: Path) -> str:
    for line in printed:
        _, told, address = line.strip().partition(_TOLD)
        if told:
            return address.strip("'")
    raise Failure(f"the AWS provider ended before it was ready:\n{log.read_text()}")
