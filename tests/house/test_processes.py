"""The processes of tests: what they find imported, how they end, and what they leave."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.processes.forkserver import is_shared, processes

TESTS = Path(__file__).parents[1]


def _look(file: Path) -> None:
    file.write_text("\n".join(sys.modules))


def test_processes_find_everything_imported(tmp_path: Path) -> None:
    """All that a crawl imports, but for the reactor: each process installs its own."""
    file = tmp_path / "modules"
    process = processes.Process(target=_look, args=(file,))
    process.start()
    process.join()
    modules = set(file.read_text().splitlines())
    preloaded = (
        "tests.support.processes.preloaded",
        "tests.support.spiders.timelines",
        "scrapy.core.downloader.handlers.http11",
        "scrapy_valkey_dedup.commands.doctor",
    )
    assert modules.issuperset(preloaded)
    assert "twisted.internet.reactor" not in modules


def _tell_parent(file: Path) -> None:
    file.write_text(str(os.getppid()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_of_a_session_share_one_forkserver(tmp_path: Path) -> None:
    """What is preloaded is imported once, not once in each worker of pytest."""
    file = tmp_path / "parent"
    process = processes.Process(target=_tell_parent, args=(file,))
    process.start()
    process.join()
    status = Path("/proc", file.read_text(), "status").read_text()
    (owner,) = re.findall(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
    assert int(owner) == (os.getppid() if is_shared() else os.getpid())


def test_threads_start_processes_at_the_same_time() -> None:
    """Each learns the exit code of its own process, though those that start look at all others."""

    def exit_code(expected: int) -> int | None:
        process = processes.Process(target=sys.exit, args=(expected,))
        process.start()
        process.join()
        return process.exitcode

    codes = [number % 7 for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(exit_code, codes)) == codes


@pytest.mark.slow
@pytest.mark.long
def test_a_session_leaves_no_temporary_files() -> None:
    """Not even one whose tests kill crawls and servers."""
    files = ("valkey/embedded/test_embedded_kills.py", "commands/test_command_verbs.py")
    with TemporaryDirectory(prefix="svd-") as folder:  # not tmp_path: sockets need a short one
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *(TESTS / name for name in files)],
            env={**os.environ, "TMPDIR": folder}, capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout
        assert list(Path(folder).iterdir()) == []
