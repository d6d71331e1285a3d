"""Keys of posts that are stored and of which Valkey could not be told: files for the next run."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex

from scrapy_valkey_dedup.model import KEY_BYTES
from scrapy_valkey_dedup.private import folder_fault, is_own, read_own

logger = logging.getLogger(__name__)

MOST = 250_000
"""Keys in one file: it is read as a whole, 4 MB. A larger file was not written here."""
_HEAD = b"scrapy-valkey-dedup spool 1\n"
_SUM_BYTES = 16
_LONGEST_NAME = 64  # characters of a ledger's identity
_LARGEST = len(_HEAD) + _LONGEST_NAME + 1 + MOST * KEY_BYTES + _SUM_BYTES
_KEYS, _NEW, _DAMAGED, _LEDGER = ".keys", ".new", ".damaged", ".ledger"


class Spool:
    """The spool files of one ledger's shelf, in a directory of the project's. All methods block.

    A file is written whole under another name first, and never changed. Any run that
    finds it may deliver it, even several at once: to confirm twice is to confirm once.

    Delivered to another ledger it would lose posts, so it says which one it is for: by the identity
    that the ledger itself has. A URL says less: a tunnel leads elsewhere tomorrow, and a ledger is
    emptied together with its storage. For the same reason the directory must be this user's own: a
    file that another one wrote, or gave another name, could have posts taken for stored.
    """

    def __init__(self, directory: Path, place: str, shelf: str) -> None:
        """``place``: where the ledger is, as far as that is known without asking."""
        self._directory = directory
        self._prefix = _digest(f"{place}\n{shelf}")
        self._memory = directory / f"{_digest(place)}{_LEDGER}"
        self._ledger = ""
        self._fails = False
        self._told = False

    def learn(self, ledger: str) -> None:
        """The ledger was reached. Noted for runs that start while it is away."""
        ledger = ledger if _is_plain(ledger) else _digest(ledger)
        if ledger == self._ledger:
            return
        self._ledger = ledger
        with suppress(OSError):
            if self._remembered() == ledger:
                return
        try:
            self._write(self._memory, ledger.encode())
        except OSError as error:
            logger.debug("Cannot note which ledger it is: %s", error)

    def write(self, keys: bytes) -> Path | None:
        """Writes keys, one after the other, to a new file. None if it cannot: once, logs why.

        They are ``MOST`` at most.
        """
        path = self._directory / f"{self._prefix}-{token_hex(6)}{_KEYS}"
        try:
            ledger = self._ledger or self._remembered()
            if not ledger:  # the outage has been told, and this is no fault of the folder's
                return None
            content = _HEAD + ledger.encode() + b"\n" + keys
            self._write(path, content + _sum(content))
            self._fails = False
        except OSError as error:
            first, self._fails = not self._fails, True
            logger.log(
                logging.ERROR if first else logging.DEBUG,
                "%d posts are stored but cannot be noted for the next run, which will store them "
                "again: VALKEY_DEDUP_DATA_DIR=%s: %s. Let it name a directory of your own with "
                "free space.",
                len(keys) // KEY_BYTES,
                self._directory.parent,
                error,
            )
            return None
        return path

    def _remembered(self) -> str:
        """The ledger that an earlier run reached; "" if none did."""
        if self._fault() is not None:
            return ""
        try:
            found = read_own(self._memory, _LONGEST_NAME).decode("ascii", "replace")
        except FileNotFoundError:
            return ""
        except ValueError as error:
            self._put_aside(self._memory, f"damaged ({error})", _UNKNOWN)
            return ""
        if not _is_plain(found):
            self._put_aside(self._memory, "damaged", _UNKNOWN)
            return ""
        return found

    def _fault(self) -> tuple[str, str] | None:
        """Why the folder is not to be used, if it is there at all, and the cure."""
        try:
            return folder_fault(self._directory.stat())
        except OSError:
            return None

    def _write(self, path: Path, content: bytes) -> None:
        # One by one: the mode is that of the last folder only, and the embedded server refuses a
        # folder that others may write to.
        self._directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        if fault := self._fault():
            raise PermissionError(f"{self._directory} {fault[0]}")
        new = path.with_name(f"{path.name}-{token_hex(4)}{_NEW}")
        with open(new, "xb", opener=_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def files(self) -> list[Path]:
        """The files, the oldest first."""
        if fault := self._fault():
            if not self._told:
                self._told = True
                logger.error(
                    "What earlier runs may have noted is not delivered, and nothing is noted: "
                    "VALKEY_DEDUP_DATA_DIR=%s: %s %s. %s",
                    self._directory.parent,
                    self._directory,
                    *fault,
                )
            return []
        found = []
        with suppress(OSError):  # there is no such directory
            for entry in os.scandir(self._directory):
                if not (entry.name.startswith(self._prefix) and entry.name.endswith(_KEYS)):
                    continue
                with suppress(OSError):  # another run has delivered it
                    if entry.is_file(follow_symlinks=False) and is_own(entry.stat()):
                        found.append((entry.stat().st_mtime_ns, Path(entry.path)))
        return [path for _, path in sorted(found)]

    def read(self, path: Path) -> bytes:
        """The keys of a file, one after the other; b"" if it is none for this ledger."""
        try:
            whole = memoryview(read_own(path, _LARGEST))
        except FileNotFoundError:  # another run has delivered it
            return b""
        except ValueError as error:
            self._put_aside(path, f"damaged ({error})", _LOST)
            return b""
        except OSError as error:
            logger.error("The spool file %s cannot be read: %s.", path, error)  # noqa: TRY400
            return b""
        content, found = whole[:-_SUM_BYTES], whole[-_SUM_BYTES:]
        head, end = bytes(content[: len(_HEAD)]), len(_HEAD) + _LONGEST_NAME + 1
        ledger, newline, _ = bytes(content[len(_HEAD) : end]).partition(b"\n")
        keys = content[len(_HEAD) + len(ledger) + 1 :]
        if head == _HEAD and found == _sum(content) and newline and not len(keys) % KEY_BYTES:
            return bytes(keys) if ledger == self._ledger.encode() else b""
        self._put_aside(path, "damaged", _LOST)
        return b""

    def waiting(self) -> int:
        """How many keys the files hold, of this ledger and of others at the same place."""
        found = 0
        for path in self.files():
            with suppress(OSError), path.open("rb") as file:
                file.readline()
                head = len(_HEAD) + len(file.readline(_LONGEST_NAME + 1)) + _SUM_BYTES
                found += max(path.stat().st_size - head, 0) // KEY_BYTES
        return found

    def _put_aside(self, path: Path, why: str, what_follows: str) -> None:
        logger.error("The spool file %s is %s, and put aside; %s.", path, why, what_follows)
        try:
            path.replace(path.with_suffix(_DAMAGED))
        except OSError as error:
            logger.error("It cannot be put aside: %s.", error)  # noqa: TRY400

    def remove(self, path: Path) -> None:
        """The file is delivered."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.error("The spool file %s cannot be removed: %s.", path, error)  # noqa: TRY400


_LOST = "the posts in it will be stored again"
_UNKNOWN = "it is written again when the ledger is reached"


def _is_plain(ledger: str) -> bool:
    return re.fullmatch(rf"[!-~]{{1,{_LONGEST_NAME}}}", ledger) is not None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _sum(content: bytes | memoryview) -> bytes:
    return blake2b(content, digest_size=_SUM_BYTES).digest()
