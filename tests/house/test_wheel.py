"""The wheel: what users install holds all it needs, without the source tree beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from bench.servers import ValkeyServer
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
import scrapy_valkey_dedup
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.ledger.ledger import Ledger

async def main():
    server = Client(sys.argv[1], "it", {}, 5)
    ledger = Ledger(server, "wheel", "a-run", retention=60)
    await ledger.confirm_many([bytes(16)])
    print(await ledger.seen_many([bytes(16)]), await ledger.forget_many([bytes(16)]))
    await server.close()

asyncio.run(main())
print(scrapy_valkey_dedup.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the build backend that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    built = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every module, every Lua file and the typing marker are in the wheel; tests are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "scrapy_valkey_dedup"
    wanted = {
        str(path.relative_to(ROOT))
        for path in [
            *package.rglob("*.py"),
            *package.glob("ledger/lua/*.lua"),
            package / "py.typed",
        ]
    }
    assert len([name for name in wanted if name.endswith(".lua")]) == 17
    assert {name for name in names if ".dist-info/" not in name} == wanted
    (points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
    listed = zipfile.ZipFile(wheel).read(points).decode().split("\n")
    assert listed[:2] == ["[scrapy.commands]", "dedup = scrapy_valkey_dedup.commands:DedupCommand"]


def test_the_wheel_works_alone(wheel: Path, tmp_path: Path, valkey: ValkeyServer) -> None:
    """Unpacked far from the source tree, with ``python -OO``, it speaks to a real server."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    libraries = sysconfig.get_path("purelib")
    path = os.pathsep.join([str(tmp_path / "installed"), libraries])
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-OO", "-c",
         f"import sys; sys.path[:0] = {path.split(os.pathsep)!r}\n{PROGRAM}",
         valkey.url],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    root = tmp_path / "installed" / "scrapy_valkey_dedup" / "__init__.py"
    assert ended.stdout.splitlines() == ["[True] 1", str(root)], ended.stderr
