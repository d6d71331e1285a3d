"""Keys of posts that are stored and of which Valkey could not be told: files for the next run."""

from __future__ import annotations

import logging
import os
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex

from scrapy_valkey_dedup.model import KEY_BYTES

logger = logging.getLogger(__name__)

_HEAD = b"scrapy-valkey-dedup spool 1\n"
_SUM_BYTES = 16
_NEW, _DAMAGED = ".new", ".damaged"


class Spool:
    """The spool files of one ledger, in a directory of the project's. All methods block.

    A file is written whole under another name first, and never changed: whoever finds it may
    deliver it, several runs at once if they like, for to confirm twice is to confirm once.
    """

    def __init__(self, directory: Path, ledger: str) -> None:
        """``ledger`` is a text that no other ledger has: of another one nothing is delivered."""
        self._directory = directory
        self._prefix = blake2b(ledger.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    def write(self, keys: bytes) -> Path | None:
        """Writes keys, one behind the other, to a new file. Logs why if that does not work."""
        path = self._directory / f"{self._prefix}-{token_hex(6)}.keys"
        new = path.with_suffix(_NEW)
        content = _HEAD + keys
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(new, "xb", opener=_private) as file:
                file.write(content + _sum(content))
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            logger.error(  # noqa: TRY400 (its message says all)
                "%d posts are stored but cannot be noted for the next run, which will store them "
                "again: VALKEY_DEDUP_DATA_DIR=%s: %s. Let it name a directory of your own with "
                "free space.",
                len(keys) // KEY_BYTES,
                self._directory.parent,
                error,
            )
            return None
        return path

    def files(self) -> list[Path]:
        """The files that there are, the oldest first."""
        try:
            found = [
                (entry.stat().st_mtime_ns, Path(entry.path))
                for entry in os.scandir(self._directory)
                if entry.name.startswith(self._prefix)
                and entry.name.endswith(".keys")
                and entry.is_file(follow_symlinks=False)
                and _is_own(entry.stat())
            ]
        except OSError:
            return []
        return [path for _, path in sorted(found)]

    def read(self, path: Path) -> bytes:
        """The keys of a file, one behind the other; b"" if it has gone or is damaged."""
        try:
            whole = path.read_bytes()
        except FileNotFoundError:  # another run has delivered it
            return b""
        except OSError as error:
            logger.error("The spool file %s cannot be read: %s.", path, error)  # noqa: TRY400
            return b""
        content, found = whole[:-_SUM_BYTES], whole[-_SUM_BYTES:]
        if content.startswith(_HEAD) and found == _sum(content):
            return content.removeprefix(_HEAD)
        logger.error(
            "The spool file %s is damaged, and put aside; the posts in it will be stored again.",
            path,
        )
        try:
            path.replace(path.with_suffix(_DAMAGED))
        except OSError as error:
            logger.error("It cannot be put aside: %s.", error)  # noqa: TRY400
        return b""

    def remove(self, path: Path) -> None:
        """The file is delivered."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.error("The spool file %s cannot be removed: %s.", path, error)  # noqa: TRY400


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _is_own(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def _sum(content: bytes) -> bytes:
    return blake2b(content, digest_size=_SUM_BYTES).digest()
