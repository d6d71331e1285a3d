"""docker-compose.yml: what its container runs is run here, by the Valkey of the tests."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from bench.servers import binary, free_port
from tests.support.crawls.world import World
from tests.support.patience import PATIENCE, wait_until
from tests.support.servers.site import pages_of

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
PASSWORD = "a secret with #, 'quotes' and \"more\" of them $HOME"


def script() -> str:
    """The shell script of the container, as Docker Compose hands it on."""
    (block,) = re.findall(r"^ {6}- \|\n((?: {8}.*\n)+)", COMPOSE, re.MULTILINE)
    return re.sub(r"^ {8}", "", block, flags=re.MULTILINE).replace("$$", "$")


@contextmanager
def running(directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The container's server, in a folder and on a port of the test's."""
    tools = directory / "bin"
    tools.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        (tools / "valkey-server").symlink_to(binary())
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "VALKEY_PASSWORD": PASSWORD,
        "VALKEY_MAXMEMORY": "64mb",
    }
    place = ["--bind", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        ["sh", "-euc", script(), "sh", *place], cwd=directory, env=environment
    ) as process:
        try:
            wait_until(lambda: ping(port), 10)
            yield process
        finally:
            process.terminate()  # as Docker does: the server is process 1, and writes its file
            process.wait(PATIENCE)


def ping(port: int) -> bytes:
    """The reply to a PING without a password, which is what the health check looks at."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(100)
    return b""


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[[int], World]]:
    """Crawls with the container's user."""
    made: list[World] = []

    def make(port: int) -> World:
        made.append(
            World(
                f"valkey://spider:{quote(PASSWORD, safe='')}@127.0.0.1:{port}", "compose", tmp_path
            )
        )
        return made[-1]

    yield make
    for world in made:
        world.close()


def test_a_crawl_and_a_restart(tmp_path: Path, make_world: Callable[[int], World]) -> None:
    """A crawl stores each post once, and after a restart the server still knows them."""
    port = free_port()
    world = make_world(port)
    site = world.site(pages_of(range(60)))
    with running(tmp_path, port):
        world.crawl(site)
    with running(tmp_path, port):
        assert world.crawl(site)["dedup/items/duplicate"] == 60
    assert world.stored == {str(post): 1 for post in range(60)}


def test_nobody_else_gets_in(tmp_path: Path, make_world: Callable[[int], World]) -> None:
    """Without the password nothing is answered; the health check can tell that all is well."""
    port = free_port()
    with running(tmp_path, port):
        assert ping(port).startswith(b"-NOAUTH")
        assert "grep -q -e PONG -e NOAUTH" in COMPOSE
        world = make_world(port)
        world.url = f"valkey://127.0.0.1:{port}"
        crawl = world.start(world.site(pages_of(range(20))))
        crawl.process.join(PATIENCE)
        assert "refuses" in crawl.log
        assert world.stored == {}


def test_the_password_is_in_no_command_line(tmp_path: Path) -> None:
    """A list of the machine's processes shows no secret."""
    with running(tmp_path, free_port()) as process:
        words = Path(f"/proc/{process.pid}/cmdline")
        if not words.exists():
            pytest.skip("this system has no /proc")
        assert b"valkey-server" in words.read_bytes()
        assert b"secret" not in words.read_bytes()


def test_what_the_file_asks_for() -> None:
    """A password must be given, data is kept, and the port is the machine's own by default."""
    assert "${VALKEY_PASSWORD:?" in COMPOSE
    assert "${VALKEY_ADDRESS:-127.0.0.1}:6379:6379" in COMPOSE
    assert "--appendonly yes" in script()
    assert "noeviction" in script()
    assert "ledger:/data" in COMPOSE


def test_the_container_cannot_take_the_whole_machine() -> None:
    """Its memory has room for twice maxmemory, no swap, and its processes are counted."""
    pattern = r"^ {4}(mem_limit|memswap_limit|pids_limit): (.*)$"
    limits = dict(re.findall(pattern, COMPOSE, re.MULTILINE))
    assert limits["mem_limit"] == limits["memswap_limit"]
    (container,) = re.findall(r":-(\d+)mb\}", limits["mem_limit"])
    (server,) = re.findall(r"VALKEY_MAXMEMORY:-(\d+)mb", COMPOSE)
    assert int(container) >= 2 * int(server) + 256
    assert int(limits["pids_limit"]) == 100


def test_the_server_needs_few_processes(tmp_path: Path) -> None:
    """While it rewrites its append-only file, too, it stays far below the limit."""
    port = free_port()
    with running(tmp_path, port) as process:
        tasks = Path(f"/proc/{process.pid}/task")
        if not tasks.exists():
            pytest.skip("this system has no /proc")
        assert len(list(tasks.iterdir())) < 30
