"""The laws of the spool: nothing is delivered twice, to another ledger, or from rubbish."""

from __future__ import annotations

import logging
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrapy_valkey_dedup.session import spooling
from scrapy_valkey_dedup.session.spool import MOST, Spool

KEYS = bytes(range(256)) * 4  # 64 keys


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the files go; it does not exist yet."""
    return tmp_path / "data" / "spool"


def spool(directory: Path, ledger: str = "a-ledger", place: str = "here", shelf: str = "") -> Spool:
    """The spool of a ledger that was reached."""
    made = Spool(directory, place, shelf)
    made.learn(ledger)
    return made


def test_what_is_written_is_read_and_removed(directory: Path) -> None:
    """Another run finds the keys, all of them, until they are delivered."""
    one, other = spool(directory), spool(directory)
    path = one.write(KEYS)
    assert other.files() == [path]
    assert path is not None
    assert other.read(path) == KEYS
    other.remove(path)
    assert one.files() == []
    assert one.read(path) == b""
    one.remove(path)


@pytest.mark.parametrize(
    "other", [{"place": "elsewhere"}, {"shelf": "pages"}, {"ledger": "another"}]
)
def test_another_ledger_gets_nothing(directory: Path, other: dict[str, str]) -> None:
    """Nor another shelf, nor one at the same address that was emptied meanwhile; the file stays."""
    path = spool(directory).write(KEYS)
    found = spool(directory, **other)
    assert path is not None
    assert [found.read(path) for path in found.files()] in ([], [b""])
    assert path.exists()


def test_a_ledger_that_is_away_is_known_from_an_earlier_run(directory: Path) -> None:
    """A run that never reaches it writes for the one that was there; the first of all cannot."""
    assert Spool(directory, "here", "").write(KEYS) is None
    spool(directory)
    away = Spool(directory, "here", "")
    path = away.write(KEYS)
    assert path is not None
    assert away.read(path) == b""  # until it is reached, it may be another by now
    assert spool(directory).read(path) == KEYS


def test_files_and_folders_are_the_users_own(directory: Path) -> None:
    """No other user may read or write them, whatever the umask."""
    former = os.umask(0)
    try:
        path = spool(directory).write(KEYS)
    finally:
        os.umask(former)
    assert path is not None
    modes = [entry.stat().st_mode & 0o777 for entry in (directory.parent, directory, path)]
    assert modes == [0o700, 0o700, 0o600]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[:20],
        lambda whole: whole[:0],
        lambda whole: whole[:50] + b"\0" + whole[51:],
        lambda whole: whole + b"more",
        lambda whole: os.urandom(len(whole)),
    ],
)
def test_rubbish_is_put_aside(directory: Path, damage, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is damaged is not delivered, is told of once, and stays to be looked at."""
    path = spool(directory).write(KEYS)
    assert path is not None
    path.write_bytes(damage(path.read_bytes()))
    later = spool(directory)
    assert later.read(path) == b""
    assert later.files() == []
    assert path.with_suffix(".damaged").exists()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_what_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The message names the setting, the folder and the cure, and how many posts it costs."""
    (tmp_path / "data").write_text("a file where the folder should be")
    assert spool(tmp_path / "data" / "spool").write(KEYS) is None
    assert "64 posts" in caplog.text
    assert f"VALKEY_DEDUP_DATA_DIR={tmp_path / 'data'}" in caplog.text


def test_a_failure_that_goes_on_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One ERROR for the same folder, however often it is tried; one more after it has worked."""
    place = tmp_path / "data"
    place.write_text("a file where the folder should be")
    failing = spool(place / "spool")
    for _ in range(3):
        assert failing.write(KEYS) is None
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
    place.unlink()
    assert failing.write(KEYS) is not None
    shutil.rmtree(place)
    place.touch()
    assert failing.write(KEYS) is None
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 2


def test_a_ledger_that_was_never_reached(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the ledger is not known, nothing is written, and the folder is not blamed for it."""
    assert Spool(directory, "place", "shelf").write(KEYS) is None
    assert not directory.exists()
    assert caplog.messages == []


def test_links_and_other_files_are_left_alone(directory: Path, tmp_path: Path) -> None:
    """What is no file of the spool's is not read."""
    path = spool(directory).write(KEYS)
    assert path is not None
    path.rename(tmp_path / "target")
    path.symlink_to(tmp_path / "target")
    (directory / "notes.keys").write_bytes(KEYS)
    assert spool(directory).files() == []


# -- what another user, or chance, has put there ---------------------------------------------------

STRANGER = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def note_of(directory: Path) -> Path:
    """The file that says which ledger was reached from here."""
    (found,) = directory.glob("*.ledger")
    return found


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    """Something else stands where a file was."""
    path.unlink()
    make(path)


ODD: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00 no text"),
    "nothing": lambda path: path.write_bytes(b""),
    "two lines": lambda path: path.write_bytes(b"a-ledger\nand more"),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link": lambda path: path.symlink_to("/dev/zero"),
    "6 GB": lambda path: (path.touch(), os.truncate(path, 6 << 30)),
}


@pytest.mark.parametrize("damage", ODD.values(), ids=ODD)
def test_a_damaged_note_of_the_ledger_is_put_aside(
    directory: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Told of once, never raised or waited for; the next start that reaches the ledger mends it."""
    spool(directory)
    note = note_of(directory)
    replaced(note, damage)
    assert Spool(directory, "here", "").write(KEYS) is None
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "put aside" in caplog.text
    assert os.path.lexists(note.with_suffix(".damaged"))
    spool(directory)
    assert note.read_text() == "a-ledger"
    assert len(caplog.records) == 1


def test_a_note_is_what_can_be_read_again(directory: Path) -> None:
    """Whatever stands on the server as the ledger's identity, files for it are found again."""
    strange = "\ufffd two\nlines" * 99
    path = spool(directory, strange).write(KEYS)
    assert path is not None
    assert spool(directory, strange).read(path) == KEYS
    assert spool(directory, strange + "!").read(path) == b""
    assert Spool(directory, "here", "").write(KEYS) is not None


@pytest.mark.parametrize("damage", ["a pipe", "a folder", "a link", "6 GB"])
def test_what_is_no_spool_file_is_not_read(directory: Path, damage: str) -> None:
    """Nor waited for, nor taken into memory, though it stands under the name of one."""
    path = spool(directory).write(KEYS)
    assert path is not None
    replaced(path, ODD[damage])
    later = spool(directory)
    tracemalloc.start()
    try:
        assert later.read(path) == b""
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()
    assert later.files() == []


def test_the_largest_file_is_read(directory: Path) -> None:
    """What is written is never taken for nonsense."""
    keys = os.urandom(16) * MOST
    path = spool(directory, "x" * 64).write(keys)
    assert path is not None
    assert spool(directory, "x" * 64).read(path) == keys


def test_many_keys_go_into_several_files(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a size that is read; what the disk did not take is told."""
    monkeypatch.setattr(spooling, "MOST", 10)
    nobody: Any = None
    made = spooling.Spooler(spool(directory), nobody, nobody, nobody)
    written, left = made._write(KEYS)
    assert (sum(written.values()), len(written), left) == (64, 7, b"")
    later = spool(directory)
    assert sorted(later.files()) == sorted(written)
    assert b"".join(later.read(path) for path in written) == KEYS
    shutil.rmtree(directory)
    directory.touch()
    assert made._write(KEYS) == ({}, KEYS)


def test_half_a_key_is_damage(directory: Path) -> None:
    """A right checksum does not help: keys have 16 bytes."""
    path = spool(directory).write(KEYS[:-1])
    assert path is not None
    assert spool(directory).read(path) == b""
    assert path.with_suffix(".damaged").exists()


def assert_not_used(directory: Path, caplog: pytest.LogCaptureFixture, why: str) -> None:
    """Nothing is read or written there, and one ERROR each says so, with setting and folder."""
    before = sorted(entry.name for entry in directory.iterdir())
    caplog.clear()
    later = spool(directory)
    assert [later.files() for _ in range(2)] == [[], []]
    assert later.write(KEYS) is None
    assert Spool(directory, "here", "").write(KEYS) is None
    assert sorted(entry.name for entry in directory.iterdir()) == before
    errors = [record for record in caplog.messages if "VALKEY_DEDUP_DATA_DIR" in record]
    assert len(errors) == len(caplog.messages) == 2
    for error in errors:
        assert f"{directory} {why}" in error


@needs_root
def test_a_folder_of_another_user_is_not_used(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They could put files there that have posts taken for stored."""
    spool(directory).write(KEYS)
    os.chown(directory, STRANGER, -1)
    assert_not_used(directory, caplog, f"belongs to user {STRANGER}, this is user 0")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_used(
    directory: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As the embedded server does not live in one."""
    spool(directory).write(KEYS)
    directory.chmod(mode)
    assert_not_used(directory, caplog, "can be written to by other users")


@needs_root
def test_files_of_another_user_are_ignored(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As if they were not there: neither keys nor the name of a ledger are taken from them."""
    path = spool(directory).write(KEYS)
    assert path is not None
    for each in (path, note_of(directory)):
        os.chown(each, STRANGER, -1)
    assert Spool(directory, "here", "").write(KEYS) is None
    later = spool(directory)
    assert later.files() == []
    assert later.read(path) == b""
    assert note_of(directory).stat().st_uid == 0
    assert caplog.messages == []
