"""Reads rows from a database or a Parquet file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scrapy_valkey_dedup.commands.shared.usage import CommandError

_ROWS = 2000  # rows per read


def sqlite(path: Path, query: str) -> Iterator[tuple[int, Any]]:
    """The rows of a query to an SQLite file, which is opened for reading only."""
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            cursor = connection.execute(query)
            names = [column[0] for column in cursor.description or ()]
            _refuse_no_rows(names)
            for number, row in enumerate(cursor, 1):
                yield number, dict(zip(names, row, strict=True))
        finally:
            connection.close()
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise CommandError(f"{path}: {error}") from error


def _refuse_no_rows(names: list[str]) -> None:
    if not names:
        raise CommandError("--query must return rows: SELECT ...")


def sql(url: str, query: str) -> Iterator[tuple[int, Any]]:
    """The rows of a query to any database that SQLAlchemy knows."""
    try:
        import sqlalchemy  # noqa: PLC0415 (the extra "sql")
    except ImportError:
        raise CommandError(
            "a database needs SQLAlchemy: pip install 'scrapy-valkey-dedup[sql]', and its driver"
        ) from None
    place = url.partition("://")[0]
    try:
        engine = sqlalchemy.create_engine(url)
        with engine.connect().execution_options(stream_results=True, yield_per=_ROWS) as connection:
            rows = connection.execute(sqlalchemy.text(query))
            if not rows.returns_rows:
                _refuse_no_rows([])
            for number, row in enumerate(rows.mappings(), 1):
                yield number, dict(row)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        # Only the first line: the rest may quote the parameters and the whole query.
        said = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise CommandError(f"{place}://...: {said}") from None


def parquet(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a Parquet file."""
    try:
        from pyarrow import ArrowException  # noqa: PLC0415 (the extra "parquet")
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415
    except ImportError:
        raise CommandError(
            f"{path} needs pyarrow: pip install 'scrapy-valkey-dedup[parquet]'"
        ) from None
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (ArrowException, OSError) as error:
        raise CommandError(f"{path}: {str(error).splitlines()[0]}") from error
