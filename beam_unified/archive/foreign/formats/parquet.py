"""Parquet, by pyarrow: a row is a dict.

What the footer says of sizes is checked before anything is read, and rows are read in pieces by it. A page whose own header
contradicts the footer is pyarrow's to refuse: its format lets it claim up to 2 GiB.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.formats.streams import PASSED, batched, converted, short
from beam_unified.archive.foreign.sequence_file import Readable

_T = TypeVar("_T")
_BATCH_ROWS = 4_096
_BATCH_BYTES = 4 * 1024 * 1024
_BUFFER_BYTES = 1024 * 1024
_MAX_GROUP_BYTES = 1024 * 1024 * 1024
"""Of a row group, decompressed. parquet-mr's default is 128 MB."""

_MAX_FOOTER_ITEMS = 1_000_000
_MAX_FOOTER_BYTES = 64 * 1024 * 1024


def read(file: Readable, size_bytes: int, convert: Callable[[Any], _T]) -> Iterator[list[_T]]:
    """The rows of a file, which must be seekable."""
    opened = file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, mode="r")
    return batched(converted(_guarded(_rows(opened, size_bytes)), lambda row: (convert(row[0]), row[1])))


def _guarded(rows: Iterator[_T]) -> Iterator[_T]:
    try:
        yield from rows
    except (*PASSED, BadFileError):
        raise
    except Exception as error:
        raise BadFileError(f"pyarrow cannot read it as Parquet ({short(error)})") from error


def _rows(file: pa.NativeFile, size_bytes: int) -> Iterator[tuple[dict[str, Any], int]]:
    if file.size() != size_bytes:
        raise BadFileError(f"it has {file.size()} bytes, {size_bytes} were listed")
    parquet = pq.ParquetFile(
        file,
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
        page_checksum_verification=True,
        thrift_string_size_limit=_MAX_FOOTER_BYTES,
        thrift_container_size_limit=_MAX_FOOTER_ITEMS,
    )
    row_bytes, found = _row_bytes(parquet.metadata), 0
    rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
    for batch in parquet.iter_batches(batch_size=rows, use_threads=False):
        batch.validate(full=True)
        found += batch.num_rows
        yield from ((row, row_bytes) for row in batch.to_pylist(maps_as_pydicts="strict"))
    if found != parquet.metadata.num_rows:
        raise BadFileError(f"it holds {found} rows, its footer claims {parquet.metadata.num_rows}")


def _row_bytes(metadata: pq.FileMetaData) -> int:
    """Bytes of the largest row, by the footer, as far as averages tell. Raises BadFileError over a group that is too large."""
    largest = 1
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(at) for at in range(group.num_columns)]
        size = sum(max(0, column.total_uncompressed_size) for column in columns)
        if size > _MAX_GROUP_BYTES:
            raise BadFileError(f"row group {number} has {size} bytes, {_MAX_GROUP_BYTES} are allowed")
        largest = max(largest, size // max(1, group.num_rows))
    return largest
