"""Runs commands of others, away from the checkout and from any credentials."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

MODULE = Path(__file__).resolve().parent.parent
_DEADLINE = 600  # seconds
ATTACHED: dict[Path, str] = {}
"""By folder: the address of the provider that its commands ask, in place of one that they start."""


class Failure(Exception):  # noqa: N818 (the end of a check, not a fault of the program)
    """Something that must hold does not; its text is for the reader."""


class CommandFailure(Failure):
    """A command failed, whatever it was to show."""


def environment(place: Path) -> dict[str, str]:
    """The caller's, for a folder, without what makes a result depend on whose machine it is."""
    of_others = ("AWS_", "TF_VAR_", "TF_CLI_ARGS", "TF_REATTACH_PROVIDERS")
    found = {name: text for name, text in os.environ.items() if not name.startswith(of_others)}
    for folder in (place, *place.parents):
        if folder in ATTACHED:
            found["TF_REATTACH_PROVIDERS"] = ATTACHED[folder]
    # Terraform warns of a file that is named and is not there.
    if not Path(found.get("TF_CLI_CONFIG_FILE", os.devnull)).exists():
        found["TF_CLI_CONFIG_FILE"] = os.devnull
    # Terraform spends half its time on collecting garbage, unless it may let some lie.
    found.setdefault("GOGC", "400")
    return found | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}


def attempt(*command: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder; what it printed is in ``stdout``, errors among it."""
    return subprocess.run(
        command, cwd=place, env=environment(place), text=True, check=False, timeout=_DEADLINE,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run(*command: str, place: Path) -> str:
    """Returns what a command printed. Fails if the command does."""
    if shutil.which(command[0]) is None:
        raise Failure(f"{command[0]} is not installed, so nothing of terraform/ was tested.")
    ended = attempt(*command, place=place)
    if ended.returncode:
        raise CommandFailure(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}")
    return ended.stdout


def copied(place: Path) -> Path:
    """A copy of the module, examples and tests, in which Terraform may leave its files."""
    left = shutil.ignore_patterns(".terraform*", "*.tfstate*", "__pycache__")
    return Path(shutil.copytree(MODULE, place, ignore=left))


def init(place: Path, providers: Path) -> None:
    """Prepares a folder for the other commands of Terraform."""
    run(
        "terraform",
        "init",
        "-backend=false",
        "-input=false",
        "-no-color",
        f"-plugin-dir={providers}",
        place=place,
    )
    # With a hash there, each command would read all of the provider, 700 MB, to compare it.
    lock = place / ".terraform.lock.hcl"
    lock.write_text(
        re.sub(r"^ +hashes = \[.*?\]\n", "", lock.read_text(), flags=re.MULTILINE | re.DOTALL)
    )
