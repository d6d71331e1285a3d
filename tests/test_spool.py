"""The laws of the spool: nothing is delivered twice, to another ledger, or from rubbish."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest

from scrapy_valkey_dedup.spool import Spool

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
    """Nobody else may read or write them, whatever the umask."""
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
    """A file that is damaged is not delivered, is told of once, and stays for whoever looks."""
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
    """Nobody knows which ledger it is: nothing is written, and the folder is not blamed for it."""
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
