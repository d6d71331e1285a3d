"""The wheel: what users install holds all it needs, without the source tree beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from bench.servers import ValkeyServer
from hatch_build import readme_at
from tests.support.patience import PATIENCE

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
PICTURE = """
<picture>
<source media="(prefers-color-scheme: dark)" srcset="docs/images/a-dark.png">
<img alt="A" src="docs/images/a.png">
</picture>
![B](docs/b.svg) [page](docs/b.md#c) [here](#d) ![C](https://c.example/c.svg)
"""
REFUSAL = """
import sys
sys.path.insert(0, sys.argv[1])
from valkey.exceptions import NoPermissionError
from scrapy_valkey_dedup.valkey.errors import as_dedup_error
print(as_dedup_error(NoPermissionError("no"), "valkey://one"))
"""

ADDRESS = "https://github.com/someone/scrapy-valkey-dedup"
ON_GITHUB = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "someone/scrapy-valkey-dedup",
}


def build(folder: Path, environment: Mapping[str, str]) -> Path:
    """A wheel, built with the build backend that is installed."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    kept = {name: value for name, value in os.environ.items() if name not in ON_GITHUB}
    built = subprocess.run(
        [*command, str(ROOT)], env={**kept, **environment}, capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a release has it."""
    return build(tmp_path_factory.mktemp("wheel"), ON_GITHUB)


def metadata_of(wheel: Path) -> Message:
    """What PyPI is told."""
    (name,) = (each for each in zipfile.ZipFile(wheel).namelist() if each.endswith("/METADATA"))
    return message_from_bytes(zipfile.ZipFile(wheel).read(name))


def test_links_work_on_pypi(wheel: Path) -> None:
    """Each link of README is a whole address, and those of ours lead to files of this version."""
    told = metadata_of(wheel)
    readme, version = str(told.get_payload()), told["Version"]
    links = re.findall(r"\]\(([^)]*)\)", readme)
    assert len(links) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text("utf-8")))
    assert all(link.startswith("https://") for link in links)
    own = [link.removeprefix(f"{ADDRESS}/blob/v{version}/") for link in links if ADDRESS in link]
    assert len(own) > 20
    assert all((ROOT / path.partition("#")[0]).is_file() for path in own)
    images = re.findall(r'src(?:set)?="([^"]+)"', readme)
    assert len(images) == 2
    for image in images:
        assert (ROOT / image.removeprefix(f"{ADDRESS}/raw/v{version}/")).is_file()
        assert image.startswith("https://")
    urls = dict(line.split(", ") for line in told.get_all("Project-URL", []))
    assert urls["Homepage"] == ADDRESS
    assert all(url.startswith(ADDRESS) for url in urls.values())


def test_pictures_work_on_pypi() -> None:
    """A picture of ours is the file itself, for light and dark; a link leads to GitHub's page."""
    found = readme_at(PICTURE, ADDRESS, "1.2")
    assert re.findall(r"(?:src|srcset)=\"(.*?)\"|\]\((.*?)\)", found) == [
        (f"{ADDRESS}/raw/v1.2/docs/images/a-dark.png", ""),
        (f"{ADDRESS}/raw/v1.2/docs/images/a.png", ""),
        ("", f"{ADDRESS}/raw/v1.2/docs/b.svg"),
        ("", f"{ADDRESS}/blob/v1.2/docs/b.md#c"),
        ("", f"{ADDRESS}/blob/v1.2/README.md#d"),
        ("", "https://c.example/c.svg"),
    ]


def refusal(wheel: Path, folder: Path) -> str:
    """What a user is told whom the server does not let in, where this wheel is installed."""
    zipfile.ZipFile(wheel).extractall(folder)
    ended = subprocess.run(
        [sys.executable, "-c", REFUSAL, str(folder)],
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert not ended.returncode, ended.stderr
    return ended.stdout


def test_messages_name_pages_that_users_have(wheel: Path, tmp_path: Path) -> None:
    """Installed from a release, a message has the whole address of the page of this version."""
    (page,) = re.findall(r"(\S+) has the permissions", refusal(wheel, tmp_path))
    files = f"{ADDRESS}/blob/v{metadata_of(wheel)['Version']}/"
    assert page == f"{files}docs/security.md"
    assert (ROOT / page.removeprefix(files)).is_file()


def test_elsewhere_no_address_is_made_up(tmp_path: Path) -> None:
    """A build that does not know the repository's address keeps README and messages as they are."""
    wheel = build(tmp_path, {})
    told = metadata_of(wheel)
    assert told.get_all("Project-URL") is None
    assert "; docs/security.md has" in refusal(wheel, tmp_path / "installed")
    assert str(told.get_payload()).strip() == (ROOT / "README.md").read_text("utf-8").strip()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every module, every Lua file, the prices and the typing marker are in the wheel; no tests."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "scrapy_valkey_dedup"
    wanted = {
        str(path.relative_to(ROOT))
        for path in [
            *package.rglob("*.py"),
            *package.glob("ledger/lua/*.lua"),
            package / "commands" / "shared" / "estimates" / "prices.json",
            *(
                path
                for path in (package / "commands" / "shared" / "reports").rglob("*")
                if path.suffix in {".html", ".css", ".js", ".txt"}
            ),
            package / "py.typed",
        ]
    }
    assert len([name for name in wanted if name.endswith(".lua")]) == 20
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
