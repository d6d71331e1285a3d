"""Checks that folders and files belong to this user, and a safe way to read such a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OTHERS_MAY_WRITE = 0o022
_OF_YOUR_OWN = "Name a directory of your own."


def folder_fault(status: os.stat_result) -> tuple[str, str] | None:
    """Fault and cure of a folder that only this user should write to; None if it is fine."""
    if not stat.S_ISDIR(status.st_mode):
        return "is not a folder", "Remove it, or name a directory that does not exist yet."
    if not is_own(status):
        return f"belongs to user {status.st_uid}, this is user {os.geteuid()}", _OF_YOUR_OWN
    if hasattr(os, "geteuid") and status.st_mode & _OTHERS_MAY_WRITE:
        cure = "Run chmod 700 on it, or name a directory that does not exist yet."
        return "can be written to by other users", cure
    return None


def is_own(status: os.stat_result) -> bool:
    """Whether it belongs to this user. On Windows it is not checked."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def read_own(path: Path, at_most: int) -> bytes:
    """The content of a file of this user's.

    Raises:
        FileNotFoundError: there is none, or it is another user's.
        ValueError: what stands there is no such file: a link, a pipe, a folder, or too large.
        OSError: it cannot be read.

    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError("it is not a file")
        with open(path, "rb", opener=_never_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is not a file")
            if not is_own(status):
                raise FileNotFoundError(f"{path} belongs to user {status.st_uid}")
            if status.st_size > at_most or len(content := file.read(at_most + 1)) > at_most:
                raise ValueError(f"it has more than {at_most} bytes")
            return content
    except IsADirectoryError:
        raise ValueError("it is not a file") from None


def _never_waiting(path: str, flags: int) -> int:
    """Without these flags opening a pipe waits for a writer, and a link is followed."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
