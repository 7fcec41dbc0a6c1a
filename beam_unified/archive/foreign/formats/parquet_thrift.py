"""What a Parquet file's footer and the headers of its pages claim, read without pyarrow, to be compared before pyarrow reads.

pyarrow 25 allocates what the header of a page claims, up to 2 GiB, whatever the footer says; and asked from Python for the
metadata of a column of a damaged footer it ends the process. Both are structs of Thrift's compact protocol (parquet.thrift:
FileMetaData, PageHeader), which no library that is kept reads by itself.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from beam_unified.archive.foreign.codecs import BadFileError

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_MAX_FOOTER_BYTES = 16 * 1024 * 1024
_WINDOWS = (1024, 64 * 1024, 4 * 1024 * 1024)  # a page's header is small, unless it holds long statistics
_MAX_DEPTH = 12
_VARINT_BYTES = 10

# Numbers of fields: of FileMetaData, RowGroup, ColumnChunk, ColumnMetaData, PageHeader, and of each kind of page
_GROUPS, _CHUNKS, _ROWS, _METADATA = 4, 1, 3, 3
_CHUNK_VALUES, _CHUNK_SIZE, _CHUNK_COMPRESSED, _DATA_PAGE, _DICTIONARY_PAGE = 5, 6, 7, 9, 11
_PAGE_SIZE, _PAGE_COMPRESSED, _PAGE_KINDS, _PAGE_VALUES = 2, 3, (5, 7, 8), 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A column of a row group: how many values, sizes in bytes, and where its first page begins."""

    values: int
    size: int
    compressed: int
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A row group."""

    rows: int
    chunks: tuple[Chunk, ...]


def groups_of(file: pa.NativeFile) -> list[Group]:
    """The row groups, by the footer. Raises BadFileError where there is none."""
    size = file.size()
    tail = file.read_at(min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or not 0 < length <= min(_MAX_FOOTER_BYTES, size - _TAIL_BYTES):
        raise BadFileError("it does not end as a Parquet file does: it was cut short")
    try:
        footer, _ = _struct(file.read_at(length, size - _TAIL_BYTES - length), 0, 0)
    except IndexError:
        raise BadFileError("its footer is cut short") from None
    return [_group(one) for one in _list(footer, _GROUPS)]


def check_pages(file: pa.NativeFile, chunk: Chunk) -> None:
    """Raises BadFileError where the headers of a chunk's pages contradict the footer, or are none."""
    at, stop, size = chunk.first, chunk.first + chunk.compressed, 0
    if stop > file.size():
        raise BadFileError(f"a column that ends at byte {stop} is not in it")
    while at < stop:
        header, length = _header(file, at, stop)
        compressed = _number(header, _PAGE_COMPRESSED)
        size += _number(header, _PAGE_SIZE) + length
        at += compressed + length
        values = [_number(header[kind], _PAGE_VALUES) for kind in _PAGE_KINDS if isinstance(header.get(kind), dict)]
        if size > chunk.size or at > stop or max(values, default=0) > chunk.values:
            raise BadFileError(f"the page that ends at byte {at} claims more than its column has, by the footer")


def _group(found: Any) -> Group:
    metadata = [_dict(_dict(one).get(_METADATA)) for one in _list(found, _CHUNKS)]
    return Group(rows=_number(found, _ROWS), chunks=tuple(_chunk(one) for one in metadata))


def _chunk(metadata: dict[int, Any]) -> Chunk:
    first = _number(metadata, _DATA_PAGE)
    if metadata.get(_DICTIONARY_PAGE):  # some writers put 0 where there is none
        first = min(first, _number(metadata, _DICTIONARY_PAGE))
    return Chunk(
        values=_number(metadata, _CHUNK_VALUES),
        size=_number(metadata, _CHUNK_SIZE),
        compressed=_number(metadata, _CHUNK_COMPRESSED),
        first=first,
    )


def _header(file: pa.NativeFile, at: int, stop: int) -> tuple[dict[int, Any], int]:
    for window in _WINDOWS:
        content = file.read_at(min(window, stop - at), at)
        try:
            return _struct(content, 0, 0)
        except IndexError:
            if len(content) < window:
                break
    raise BadFileError(f"there is no page at byte {at}")


def _number(found: Any, field: int) -> int:
    number = _dict(found).get(field)
    if type(number) is not int or number < 0:
        raise BadFileError("its footer, or a page's header, has no number where one must be")
    return number


def _list(found: Any, field: int) -> list[Any]:
    some = _dict(found).get(field)
    if not isinstance(some, list):
        raise BadFileError("its footer has no list where one must be")
    return some


def _dict(found: Any) -> dict[int, Any]:
    if not isinstance(found, dict):
        raise BadFileError("its footer has no struct where one must be")
    return found


# -- Thrift's compact protocol; IndexError where it goes on behind the content


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Fields by number, and where it ends. Texts are None: nobody here needs them."""
    found, number = dict[int, Any](), 0
    while kind := content[at]:
        if kind >> 4:
            number, at = number + (kind >> 4), at + 1
        else:
            number, at = _varint(content, at + 1)
        kind &= 0x0F
        found[number], at = (kind == 1, at) if kind in {1, 2} else _value(content, at, kind, depth + 1)
    return found, at + 1


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise BadFileError("its footer is too deep")
    match kind:
        case 1 | 2 | 3:  # a boolean in a list, a byte
            return content[at], at + 1
        case 4 | 5 | 6:
            return _varint(content, at)
        case 7:
            return None, at + 8
        case 8:
            length, at = _plain_varint(content, at)
            return None, at + length
        case 9 | 10:
            return _elements(content, at, depth)
        case 12:
            return _struct(content, at, depth)
        case _:
            raise BadFileError("its footer, or a page's header, holds what none has")


def _elements(content: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    kind, count = content[at] & 0x0F, content[at] >> 4
    at += 1
    if count == 0x0F:
        count, at = _plain_varint(content, at)
    if count > len(content) - at:  # each takes a byte at least
        raise IndexError
    found = []
    for _ in range(count):
        one, at = _value(content, at, kind, depth + 1)
        found.append(one)
    return found, at


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
    raise BadFileError("its footer, or a page's header, holds a number that is too long")
