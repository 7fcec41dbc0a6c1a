"""The page headers of a column chunk of Parquet, compared with what the footer says of the chunk, before pyarrow reads it.

pyarrow allocates what a page's header claims, up to 2 GiB, whatever the footer says. A header is a struct of Thrift's compact
protocol (parquet.thrift, PageHeader); no library that is kept reads one by itself.
"""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_unified.archive.foreign.codecs import BadFileError

_WINDOWS = (1024, 64 * 1024, 4 * 1024 * 1024)  # a header is small, unless it holds long statistics
_UNCOMPRESSED, _COMPRESSED, _COUNTED = (
    2,
    3,
    (5, 7, 8),
)  # of PageHeader: sizes; kinds of pages, each with its number of values
_VALUES = 1  # of a kind of page
_MAX_DEPTH = 4
_MAX_FIELDS = 100
_VARINT_BYTES = 10


def check_pages(file: pa.NativeFile, chunk: pq.ColumnChunkMetaData) -> None:
    """Raises BadFileError where the headers of a chunk's pages contradict the footer, or are none."""
    first = chunk.data_page_offset
    if chunk.has_dictionary_page:
        first = min(first, chunk.dictionary_page_offset or first)
    at, stop = first, first + chunk.total_compressed_size
    size = 0
    while at < stop:
        header, length = _header(file, at, stop)
        uncompressed, compressed = header.get(_UNCOMPRESSED), header.get(_COMPRESSED)
        if type(uncompressed) is not int or type(compressed) is not int or min(uncompressed, compressed) < 0:
            raise BadFileError(f"the page at byte {at} has no sizes")
        size += uncompressed + length
        at += compressed + length
        values = [header[kind].get(_VALUES, 0) for kind in _COUNTED if isinstance(header.get(kind), dict)]
        if size > chunk.total_uncompressed_size or at > stop or max(values, default=0) > chunk.num_values:
            raise BadFileError(f"the page that ends at byte {at} claims more than its column has, by the footer")


def _header(file: pa.NativeFile, at: int, stop: int) -> tuple[dict[int, Any], int]:
    for window in _WINDOWS:
        content = file.read_at(min(window, stop - at), at)
        try:
            return _struct(content, 0, 0)
        except IndexError:
            if len(content) < window:
                break
    raise BadFileError(f"there is no page at byte {at}")


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Fields by number, and where it ends. Raises IndexError where it goes on behind the content."""
    if depth > _MAX_DEPTH:
        raise BadFileError("a page's header is too deep")
    found, number = dict[int, Any](), 0
    for _ in range(_MAX_FIELDS):
        kind, at = content[at], at + 1
        if kind == 0:
            return found, at
        if kind >> 4:
            number += kind >> 4
        else:
            number, at = _varint(content, at)
        found[number], at = _value(content, at, kind & 0x0F, depth)
    raise BadFileError("a page's header has too many fields")


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    match kind:
        case 1 | 2:  # true, false
            return kind == 1, at
        case 3:
            return content[at], at + 1
        case 4 | 5 | 6:
            return _varint(content, at)
        case 7:
            return None, at + 8
        case 8:
            length, at = _plain_varint(content, at)
            return None, at + length
        case 12:
            return _struct(content, at, depth + 1)
        case _:
            raise BadFileError("a page's header holds what none has")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number, at = _plain_varint(content, at)
    return (number >> 1) ^ -(number & 1), at


def _plain_varint(content: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(_VARINT_BYTES):
        byte = content[at + place]
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    raise BadFileError("a page's header holds a number that is too long")
