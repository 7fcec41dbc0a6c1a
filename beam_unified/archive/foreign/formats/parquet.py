"""Parquet, by pyarrow: a row is a dict.

What the footer says of sizes is checked before anything is read, and that pages say the same (`parquet_thrift`); rows are read in
pieces by it. So memory is at most about what `_MAX_COLUMN_BYTES` and `_MAX_REPEATED` say, but for an entry of a dictionary,
at most as large as that, which a few bytes may repeat in each row of a piece.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.formats.parquet_thrift import Group, check_pages, groups_of
from beam_unified.archive.foreign.formats.streams import PASSED, batched, converted, short
from beam_unified.archive.foreign.sequence_file import Readable

_T = TypeVar("_T")
_BATCH_ROWS = 4_096
_BATCH_BYTES = 4 * 1024 * 1024
_VALUE_BYTES = 16
_BUFFER_BYTES = 1024 * 1024
_MAX_COLUMN_BYTES = 256 * 1024 * 1024
_MAX_GROUP_BYTES = 1024 * 1024 * 1024
"""Of a column in a row group, and of a row group, decompressed. parquet-mr's default for a row group is 128 MB."""

_MAX_REPEATED = 32 * 1024 * 1024
"""Of a row group: elements of lists and maps, of which a run of any length takes a few bytes in the file."""

_MAX_FOOTER_ITEMS = 1_000_000
_MAX_FOOTER_BYTES = 64 * 1024 * 1024


def read(file: Readable, size_bytes: int, convert: Callable[[Any], _T]) -> Iterator[list[_T]]:
    """The rows of a file, which must be seekable."""
    opened = file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, mode="r")
    return batched(converted(_guarded(_rows(opened, size_bytes)), lambda row: (convert(row[0]), row[1])))


def _guarded(rows: Iterator[_T]) -> Iterator[_T]:
    try:
        yield from rows
    except pa.ArrowMemoryError as error:
        raise BadFileError(f"it claims more than there is memory for ({short(error)})") from error
    except (*PASSED, BadFileError):
        raise
    except Exception as error:
        raise BadFileError(f"pyarrow cannot read it as Parquet ({short(error)})") from error


def _rows(file: pa.NativeFile, size_bytes: int) -> Iterator[tuple[dict[str, Any], int]]:
    if file.size() != size_bytes:
        raise BadFileError(f"it has {file.size()} bytes, {size_bytes} were listed")
    groups = groups_of(file)
    parquet = pq.ParquetFile(
        file,
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
        page_checksum_verification=True,
        thrift_string_size_limit=_MAX_FOOTER_BYTES,
        thrift_container_size_limit=_MAX_FOOTER_ITEMS,
    )
    found = 0
    for number, group in enumerate(groups):
        row_bytes = _row_bytes(group, number, file)
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
        for batch in parquet.iter_batches(batch_size=rows, row_groups=[number], use_threads=False):
            batch.validate(full=True)
            found += batch.num_rows
            yield from ((row, row_bytes) for row in batch.to_pylist(maps_as_pydicts="strict"))
    if found != parquet.metadata.num_rows:
        raise BadFileError(f"it holds {found} rows, its footer claims {parquet.metadata.num_rows}")


def _row_bytes(group: Group, number: int, file: pa.NativeFile) -> int:
    """Bytes of a row of a group, by the footer, on average. Raises BadFileError over a group that is too large."""
    largest, size = max((chunk.size for chunk in group.chunks), default=0), sum(chunk.size for chunk in group.chunks)
    repeated = sum(max(0, chunk.values - group.rows) for chunk in group.chunks)
    if size > _MAX_GROUP_BYTES or largest > _MAX_COLUMN_BYTES or repeated > _MAX_REPEATED:
        raise BadFileError(
            f"row group {number} has {size} bytes, {largest} in a column, and {repeated} values in lists; allowed are "
            f"{_MAX_GROUP_BYTES}, {_MAX_COLUMN_BYTES} and {_MAX_REPEATED}"
        )
    for chunk in group.chunks:
        check_pages(file, chunk)
    return (size + _VALUE_BYTES * repeated) // max(1, group.rows) + 1
