"""Reads the pages that scrapy-deltafetch, scrapy-redis and Scrapy's ``JOBDIR`` remember."""

from __future__ import annotations

import dbm
import string
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from scrapy_valkey_dedup.commands.shared.project import Project
from scrapy_valkey_dedup.commands.shared.records.identification import IdentifiedBlock
from scrapy_valkey_dedup.commands.shared.records.sources import Block
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.model import LedgerRefusedError, LedgerUnavailableError
from scrapy_valkey_dedup.requests.meta.page_keys import (
    key_of_fingerprint,
    key_of_own_key,
    scope_of_pages,
)
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command
from scrapy_valkey_dedup.valkey.urls import redacted

PLUGINS = ("deltafetch", "scrapy-redis", "scrapy-jobdir")
_FINGERPRINT = 20  # bytes of a SHA-1
_SIZE_BYTES = 2
_RECORDS = 5000
_ERRORS: Any = dbm.error  # a tuple; typeshed declares one class
_PRINTABLE = frozenset(string.printable.encode())


@dataclass
class Fingerprints:
    """A source of fingerprints of pages."""

    name: str
    found: Iterable[bytes]
    total: int | None = None
    unit: str = "pages"
    can_resume: bool = False

    def blocks(self, start: int = 0, number: int = 1) -> Generator[Block, None, None]:
        """The blocks; a position is a number of fingerprints."""
        rest = enumerate(islice(self.found, start, None), number + start)
        while some := list(islice(rest, _RECORDS)):
            yield Block(some[0][0], some[-1][0], len(some), some)


class PageIdentifier:
    """Computes the keys of pages from fingerprints, or from the user's own keys."""

    def __init__(self, project: Project, *, knows_own_keys: bool = False) -> None:
        """``knows_own_keys``: a printable text may be a key that the user has chosen.

        Raises:
            CommandError: no pages are remembered with these settings.

        """
        settings = project.settings
        if not settings.pages_are_shared:
            raise CommandError(
                f"VALKEY_DEDUP_REQUESTS = {settings.requests!r} remembers no pages: set it to "
                "'stored' (-s VALKEY_DEDUP_REQUESTS=stored), or name a VALKEY_DEDUP_JOB"
            )
        if settings.requests == "stored" and not project.is_named:
            names = f" ({', '.join(project.spiders)})" if project.spiders else ""
            raise CommandError(f"pages are remembered by spider: --spider NAME{names}")
        self._keys = self._both if knows_own_keys else self._page
        self._whose = scope_of_pages(settings, project.spider.name)

    def identify_block(self, block: Block) -> IdentifiedBlock:
        """The keys of a block's pages."""
        made = IdentifiedBlock(records=len(block.content))
        assert not isinstance(block.content, bytes)  # noqa: S101 (see Fingerprints)
        for number, found in block.content:
            if type(found) is not bytes or not found:
                made.bad.add(number, "not a fingerprint")
                continue
            made.keys += self._keys(found)
        return made

    def _page(self, found: bytes) -> Iterator[bytes]:
        yield key_of_fingerprint(found, self._whose)

    def _both(self, found: bytes) -> Iterator[bytes]:
        is_text = _PRINTABLE.issuperset(found)
        if is_text:
            yield key_of_own_key(found, self._whose)
        if len(found) == _FINGERPRINT and not is_text:
            yield key_of_fingerprint(found, self._whose)
        elif len(found) == 2 * _FINGERPRINT and (fingerprint := from_hex(found)):
            yield key_of_fingerprint(fingerprint, self._whose)


def from_hex(text: bytes) -> bytes | None:
    """Decodes a fingerprint in hexadecimal digits; None if it is not one."""
    try:
        found = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return None
    return found if len(found) == _FINGERPRINT else None


def deltafetch(folder: Path) -> dict[str, Path]:
    """The databases in scrapy-deltafetch's folder, by spider.

    Raises:
        CommandError: there is no such folder, or it has no database.

    """
    if not folder.is_dir():
        raise CommandError(f"{folder}: there is no such folder")
    found = {}
    for path in sorted(folder.glob("*.db*")):
        spider = path.name[: path.name.rindex(".db")]
        found[spider.removesuffix(".db")] = folder / f"{spider.removesuffix('.db')}.db"
    if not found:
        raise CommandError(f"{folder}: there is no SPIDER.db, as scrapy-deltafetch makes them")
    return found


def deltafetch_keys(path: Path) -> Iterator[bytes]:
    """The keys of one database of scrapy-deltafetch, in any format of ``dbm``."""
    try:
        kind = dbm.whichdb(str(path))
        if not kind:
            raise CommandError(f"{path} is not a database that Python's dbm can read")
        with dbm.open(str(path), "r") as database:
            yield from _keys_of(database)
    except (*_ERRORS, ImportError) as error:
        raise CommandError(
            f"{path} cannot be read: {error}; run the command with the Python that wrote it"
        ) from error


def _keys_of(database: Any) -> Iterator[bytes]:
    if hasattr(database, "firstkey"):  # dbm.gnu: keys() would load all of them
        key = database.firstkey()
        while key is not None:
            yield key
            key = database.nextkey(key)
    else:
        yield from database.keys()


def jobdir(folder: Path) -> Path:
    """The file in which Scrapy stores the fingerprints of a job.

    Raises:
        CommandError: the folder has no such file.

    """
    path = folder / "requests.seen"
    if not path.is_file():
        raise CommandError(f"{path}: there is no such file; give the JOBDIR of the crawl")
    return path


def jobdir_fingerprints(path: Path) -> Iterator[bytes]:
    """The fingerprints in Scrapy's file; one that cannot be read is empty.

    Newer versions of Scrapy write the length in two bytes before each, older ones a line of
    hexadecimal digits. Source: ``scrapy/dupefilters.py`` of 2.14 to 2.19.
    """
    with path.open("rb") as file:
        if file.read(1) != b"\0":
            file.seek(0)
            for line in file:
                yield from_hex(line.strip()) or b""
            return
        file.seek(0)
        while size := file.read(_SIZE_BYTES):
            length = int.from_bytes(size, "big")
            found = file.read(length)
            yield found if len(found) == length else b""


async def scrapy_redis(settings: DedupSettings, url: str, key: str) -> AsyncIterator[list[bytes]]:
    """The fingerprints in scrapy-redis's set, in batches; a member that is not one is empty.

    Raises:
        CommandError: there is no such set, or the server does not answer, or refuses.

    """
    server: Client | None = None
    try:
        server = Client(url, redacted(url), {}, settings.timeout)
        (size,) = await server.ask(command("SCARD", key), key=key)
        if not size:
            raise CommandError(f"{redacted(url)} has no set {key!r}: try SPIDER:dupefilter")
        cursor = b"0"
        while True:
            scan = command("SSCAN", key, cursor, "COUNT", _RECORDS)
            ((cursor, members),) = await server.ask(scan, key=key)
            yield [from_hex(member) or b"" for member in members]
            if cursor == b"0":
                return
    except (LedgerRefusedError, LedgerUnavailableError) as error:
        said = str(error).replace("VALKEY_DEDUP_URL", "the URL")
        raise CommandError(f"--from scrapy-redis: {said}") from error
    finally:
        if server is not None:
            await server.close()
