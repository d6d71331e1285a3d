"""Where the AWS provider is: in a folder of this machine, or in the registry.

A folder of providers holds ``registry.terraform.io/hashicorp/aws/VERSION/PLATFORM``.
``TERRAFORM_PROVIDERS`` names one; else the places where Terraform itself looks are searched, then
/opt, /usr and the home folder. Where there is none, the registry is asked, once: what it gave is
kept in ``.terraform-providers`` beside the Makefile.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from commands import MODULE, Failure, run

KEPT = MODULE.parent / ".terraform-providers"
REGISTRY = "registry.terraform.io"
DEPTH = 5  # folders below /opt, /usr and the home folder
CONSTRAINT = ">= 5.100, < 7"  # of versions.tf, and of the examples
OLDEST, BEYOND = (5, 100), (7,)
ADVICE = f"""\
There is no AWS provider, so nothing of terraform/ was tested.

Neither did a folder of this machine hold {REGISTRY}/hashicorp/aws {CONSTRAINT},
nor did the registry give one: see above. Either let this machine reach {REGISTRY}, or name a
folder that holds the provider:

    TERRAFORM_PROVIDERS=/path/to/folder make terraform
"""


def provider_folder() -> Path:
    """The folder to hand to ``terraform init -plugin-dir``. Fails where no provider can be had."""
    named = os.environ.get("TERRAFORM_PROVIDERS")
    if named:
        if holds_provider(Path(named)):
            return Path(named)
        raise Failure(
            f"TERRAFORM_PROVIDERS={named} holds no {REGISTRY}/hashicorp/aws of use.\n\n{ADVICE}"
        )
    return next(filter(holds_provider, candidates()), None) or downloaded()


def candidates() -> Iterator[Path]:
    """Folders that may hold providers, the likely ones first."""
    home = Path.home()
    yield KEPT
    cache = os.environ.get("TF_PLUGIN_CACHE_DIR")
    if cache:
        yield Path(cache)
    yield home / ".terraform.d" / "plugins"
    yield home / ".local" / "share" / "terraform" / "plugins"
    for top in (Path("/opt"), Path("/usr"), home):
        for folder, inside, _ in os.walk(top):
            if REGISTRY in inside:
                yield Path(folder)
            if len(Path(folder).relative_to(top).parts) >= DEPTH:
                inside.clear()


def bounds(module: Path) -> None:
    """Fails unless the module and each example accept the same providers, with an upper end."""
    for path in (module / "versions.tf", *sorted(module.glob("examples/*/main.tf"))):
        found = re.findall(r'aws = \{[^}]*?^ +version += "([^"]+)"', path.read_text(), re.MULTILINE)
        if found != [CONSTRAINT]:
            raise Failure(
                f"{path.parent.name}/{path.name} should want aws {CONSTRAINT!r}, not {found}"
            )


def holds_provider(folder: Path) -> bool:
    """Whether it holds a version that the module accepts, for this machine."""
    return any(
        _accepted(version.name) and (version / _platform()).is_dir()
        for version in folder.joinpath(REGISTRY, "hashicorp", "aws").glob("*")
    )


def downloaded() -> Path:
    """The registry's provider, kept for the next time."""
    print("No AWS provider on this machine; asking the registry", flush=True)
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(MODULE / "versions.tf", place)
        try:
            run(
                "terraform",
                "init",
                "-backend=false",
                "-input=false",
                "-no-color",
                place=Path(place),
            )
        except Failure as failure:
            raise Failure(f"{failure}\n\n{ADVICE}") from None
        shutil.copytree(Path(place) / ".terraform" / "providers", KEPT, dirs_exist_ok=True)
    return KEPT


def _accepted(version: str) -> bool:
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    return OLDEST <= numbers < BEYOND


def _platform() -> str:
    machine = platform.machine().lower()
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return f"{platform.system().lower()}_{names.get(machine, machine)}"
