"""Parquet files read with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mat.errors import InputError

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Table


def row_count(path: Path) -> int:
    """Rows that the file's own index promises."""
    from pyarrow import parquet

    with readable(path), parquet.ParquetFile(path) as file:
        return file.metadata.num_rows


def column_names(path: Path) -> list[str]:
    """Names of the file's columns."""
    from pyarrow import parquet

    with readable(path), parquet.ParquetFile(path) as file:
        return file.schema_arrow.names


def read_table(path: Path) -> Table:
    """The whole file."""
    from pyarrow import parquet

    with readable(path), parquet.ParquetFile(path) as file:
        return file.read()


def read_batches(path: Path, columns: list[str] | None = None, size: int = 1024) -> Iterator[RecordBatch]:
    """The rows of the file in order, ``size`` at a time, so that a large one needs little memory."""
    from pyarrow import parquet

    with readable(path), parquet.ParquetFile(path) as file:
        yield from file.iter_batches(size, columns=columns)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn pyarrow's complaints about ``path`` into one InputError that names it."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"Expected a complete Parquet file at {path}, got {type(error).__name__}: "
            f"{' '.join(str(error).split())}; replace it by a whole one."
        ) from error
