"""Who may use the embedded server's directory, and what a disk may refuse."""

import fcntl
import os
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from scrapy_valkey_dedup.model import EmbeddedServerError
from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
from tests.support.servers.embedded import client, is_gone, server_pid


def test_a_second_server_cannot_start_on_the_same_data(data_dir):
    """Even when its socket is lost, a live server keeps others from starting on its data."""
    server = EmbeddedServer(data_dir)
    pid = server_pid(server.acquire())
    hidden = data_dir / "hidden"
    server.socket_path.rename(hidden)
    with pytest.raises(EmbeddedServerError, match=r"in use by a server .* does not answer"):
        EmbeddedServer(data_dir, start_timeout=0.2).acquire()
    assert not is_gone(pid)
    hidden.rename(server.socket_path)
    server.release()


# Privacy.


def test_nothing_is_open_to_other_users(data_dir):
    """Directory, socket and files belong to the user alone, however open the umask is."""
    umask = os.umask(0)
    server = EmbeddedServer(data_dir)
    try:
        server.acquire()
    finally:
        os.umask(umask)
    paths = [data_dir, *data_dir.rglob("*")]
    assert server.socket_path in paths
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    server.release()


def test_no_port_is_open(data_dir):
    """The server listens on its Unix socket and on no network port."""
    server = EmbeddedServer(data_dir)
    with client(server.acquire()) as connection:
        assert connection.config_get("port", "tls-port", "cluster-enabled")["port"] == "0"
        pid = connection.info("server")["process_id"]
    if Path("/proc/net/tcp").exists():
        links = []
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed at this moment
                links.append(str(link.readlink()))
        mine = {link[8:-1] for link in links if link.startswith("socket:[")}
        tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6", "udp", "udp6")]
        lines = [table.read_text().splitlines()[1:] for table in tables if table.exists()]
        assert mine
        assert mine.isdisjoint(line.split()[9] for table in lines for line in table)
    server.release()


def test_a_directory_open_to_others_is_refused(data_dir):
    """Where other users could put a server, none is used, and the cure is named."""
    data_dir.mkdir()
    data_dir.chmod(0o770)
    with pytest.raises(
        EmbeddedServerError, match=r"written to by other users.*chmod 700"
    ) as caught:
        EmbeddedServer(data_dir).acquire()
    assert f"VALKEY_DEDUP_DATA_DIR={data_dir}" in str(caught.value)
    assert list(data_dir.iterdir()) == []


def test_a_directory_of_another_user_is_refused(tmp_path):
    """A directory that belongs to somebody else is left as it is."""
    directory = tmp_path
    if os.geteuid():
        directory = Path("/")
    else:
        os.chown(directory, 12345, -1)
    with pytest.raises(EmbeddedServerError, match=r"VALKEY_DEDUP_DATA_DIR=.* belongs to user \d+"):
        EmbeddedServer(directory).acquire()
    assert not (directory / "start.lock").exists()


# Faults, and what is said about them.


def test_a_file_in_place_of_the_directory(tmp_path):
    """A data directory that is a file is named, with the reason and the cure."""
    path = tmp_path / "file"
    path.touch()
    for wrong in (path, path / "below"):
        with pytest.raises(EmbeddedServerError, match=r"DATA_DIR=.*\[Errno.*VALKEY_DEDUP_URL"):
            EmbeddedServer(wrong).acquire()


NAMESPACE = """
import sys
from pathlib import Path
from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
from scrapy_valkey_dedup.model import EmbeddedServerError

def attempt(server):
    try:
        server.acquire()
        print("acquired")
    except EmbeddedServerError as error:
        print(error)

def fill():
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass

disk = Path(sys.argv[1])
filler = disk / "filler"
server, other = EmbeddedServer(disk / "data"), EmbeddedServer(disk / "data")
"""

FULL = """
attempt(server)
fill()
attempt(other)
server.release()
attempt(server)
filler.unlink()
attempt(server)
server.release()
"""

READ_ONLY = """
import subprocess
attempt(server)
server.release()
subprocess.run(["mount", "-o", "remount,bind,ro", sys.argv[1]], check=True)
attempt(server)
attempt(EmbeddedServer(disk / "new"))
"""


def on_a_disk_of_its_own(scenario, tmp_path):
    """Run a scenario on a small disk that only its process sees and that vanishes with it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    run = 'mount -t tmpfs -o size=1m,mode=700 svd "$1" && exec "$2" -c "$3" "$1"'
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        command = [*unshare, "sh", "-c", run, "sh", str(disk), sys.executable]
        if shutil.which("unshare") and not subprocess.call(
            [*command, ""], stderr=subprocess.DEVNULL
        ):
            result = subprocess.run(
                [*command, scenario], capture_output=True, text=True, check=True
            )
            return result.stdout.splitlines()
    return pytest.skip("this system lets users mount no disk")


def test_a_full_disk(tmp_path):
    """A full disk is told as such, to who starts and to who joins; emptied, all goes on."""
    first, joined, started, again = on_a_disk_of_its_own(NAMESPACE + FULL, tmp_path)
    assert (first, again) == ("acquired", "acquired")
    for message in (joined, started):
        assert message.startswith(f"VALKEY_DEDUP_DATA_DIR={tmp_path}/disk/data cannot be used")
        assert "No space left on device" in message
        assert "VALKEY_DEDUP_URL" in message


def test_a_read_only_disk(tmp_path):
    """A read-only disk is told as such, whether the directory exists or is to be made."""
    first, existing, new = on_a_disk_of_its_own(NAMESPACE + READ_ONLY, tmp_path)
    assert first == "acquired"
    for message, name in ((existing, "data"), (new, "new")):
        assert message.startswith(f"VALKEY_DEDUP_DATA_DIR={tmp_path}/disk/{name} cannot be used")
        assert "Read-only file system" in message
        assert "VALKEY_DEDUP_URL" in message


def test_a_disk_without_file_locks(data_dir, monkeypatch):
    """Where the file system refuses locks no server is started, and the cure is named."""

    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(EmbeddedServerError, match=r"No locks available.*local disk.*DEDUP_URL"):
        EmbeddedServer(data_dir).acquire()
    assert not (data_dir / "valkey.sock").exists()
