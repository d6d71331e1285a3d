"""``make terraform`` fails, and says why, where it cannot test: it never skips."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.patience import PATIENCE, wait_until

SCRIPTS = Path(__file__).parents[2] / "terraform" / "tests"
UNREACHABLE = "could not connect to registry.terraform.io"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """check.py, on a machine without a provider and without a way to the registry."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import check
    import providers

    terraform = tmp_path / "bin" / "terraform"
    terraform.parent.mkdir()
    # All that a terraform without its provider can do.
    terraform.write_text(f'#!/bin/sh\ntest "$1" = fmt && exit 0\necho "{UNREACHABLE}"\nexit 1\n')
    terraform.chmod(0o755)
    monkeypatch.setenv("PATH", f"{terraform.parent}:/usr/bin:/bin")
    monkeypatch.delenv("TERRAFORM_PROVIDERS", raising=False)
    monkeypatch.setattr(providers, "candidates", lambda: iter([tmp_path]))
    monkeypatch.setattr(providers, "KEPT", tmp_path / "kept")
    return check


def provider(folder: Path, version: str, platform: str) -> Path:
    """A folder of providers that holds this one."""
    place = folder / "registry.terraform.io" / "hashicorp" / "aws" / version / platform
    place.mkdir(parents=True)
    return folder


def test_without_a_provider_it_fails(check: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a folder nor the registry has the provider: exit code 1, the cause and the cure."""
    assert check.main() == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert UNREACHABLE in printed
    assert "nothing of terraform/ was tested" in printed
    assert "TERRAFORM_PROVIDERS=" in printed


def test_a_named_folder_that_is_of_no_use(
    check: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A folder that is named and holds no provider is a mistake, and no other is looked for."""
    monkeypatch.setenv("TERRAFORM_PROVIDERS", str(tmp_path / "empty"))
    assert check.main() == 1
    assert f"TERRAFORM_PROVIDERS={tmp_path / 'empty'} holds no" in capsys.readouterr().out


def test_without_terraform_it_fails(
    check: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """So it does where terraform itself is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check.main() == 1
    assert "terraform is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "platform", "accepted"),
    [
        ("5.100.0", None, True),
        ("5.101.2", None, True),
        ("5.99.0", None, False),
        ("6.62.0", None, True),
        ("7.0.0", None, False),
        ("5.100.0", "plan9_mips", False),
    ],
)
def test_which_folders_are_taken(
    check: ModuleType, tmp_path: Path, version: str, platform: str | None, *, accepted: bool
) -> None:
    """A provider is taken if the module accepts its version and this machine can run it."""
    import providers

    folder = provider(tmp_path / "found", version, platform or providers._platform())
    assert providers.holds_provider(folder) is accepted


def test_a_folder_in_the_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Providers lie where somebody put them; no path of a machine is written down."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import providers

    monkeypatch.setenv("HOME", str(tmp_path))
    folder = provider(tmp_path / "tools" / "mirror", "5.100.0", providers._platform())
    assert folder in list(providers.candidates())


READY = """
trap "touch NAME; exit" TERM
echo "TF_REATTACH_PROVIDERS='{}'"
while :; do sleep 0.1; done
"""
"""A provider that leaves a file when it is ended."""


def module_with(folder: Path, provider: str) -> Path:
    """A module for which ``terraform init`` has chosen this provider, a shell script."""
    chosen = folder / ".terraform/providers/registry/hashicorp/aws/5.100.0/linux_amd64"
    chosen.mkdir(parents=True)
    binary = chosen / "terraform-provider-aws_v5.100.0"
    binary.write_text(f"#!/bin/sh\n{provider}\n".replace("NAME", str(folder / "ended")))
    binary.chmod(0o755)
    return folder


def test_commands_ask_the_provider_that_runs(check: ModuleType, tmp_path: Path) -> None:
    """So do those in a folder of the module, and no others; then it is ended."""
    import attached
    import commands

    module = module_with(tmp_path / "module", READY)
    before = signal.getsignal(signal.SIGTERM)
    with attached.attached(module):
        for place in (module, module / "examples" / "one"):
            assert commands.environment(place)["TF_REATTACH_PROVIDERS"] == "{}"
        assert "TF_REATTACH_PROVIDERS" not in commands.environment(tmp_path)
        assert not (module / "ended").exists()
    assert (module / "ended").exists()
    assert "TF_REATTACH_PROVIDERS" not in commands.environment(module)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_provider_that_does_not_start(check: ModuleType, tmp_path: Path) -> None:
    """What it said is told."""
    import attached
    import commands

    module = module_with(tmp_path / "module", "echo no memory >&2; exit 1")
    with pytest.raises(commands.Failure, match="no memory"), attached.attached(module):
        pass


def test_who_ends_the_program_ends_its_providers(tmp_path: Path) -> None:
    """SIGTERM, as CI sends it: no provider stays, and the program ends by the signal."""
    modules = [module_with(tmp_path / name, READY) for name in "ab"]
    program = """
import sys, time
from pathlib import Path
from attached import attached
with attached(Path(sys.argv[1])), attached(Path(sys.argv[2])):
    Path("all").touch()
    while True:  # a signal that comes just before one sleep is heard at its end
        time.sleep(0.1)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, modules)], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    ) as running:  # fmt: skip
        wait_until((tmp_path / "all").exists)
        running.terminate()
        assert running.wait(PATIENCE) == -signal.SIGTERM
    for module in modules:
        wait_until((module / "ended").exists)
