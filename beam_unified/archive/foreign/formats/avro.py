"""Avro's container files (specification 1.12, "Object Container Files"): framed and decompressed here, decoded by fastavro.

fastavro's own reader would decompress a block to whatever size it has, and follow a value as deep as its bytes say: on a
schema that refers to itself, until the stack of the process is full. So blocks are bounded, and such a schema is refused; so
is an array of what takes no bytes, of which a file of ten bytes could hold more than any memory.
"""

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import fastavro

from beam_unified.archive.foreign.codecs import BadFileError, raw_snappy, stream
from beam_unified.archive.foreign.formats.streams import (
    MAX_RECORD_BYTES,
    PASSED,
    Compression,
    batched,
    converted,
    exactly,
    opened,
    short,
)
from beam_unified.archive.foreign.sequence_file import Readable

_T = TypeVar("_T")
_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_MAX_HEADER_BYTES = 4 * 1024 * 1024
_MAX_TYPES = 20_000  # of a schema, each counted where it is used
_VARINT_BYTES = 10
_XZ_MEMORY = 128 * 1024 * 1024


def read(
    file: Readable, size_bytes: int, convert: Callable[[Any], _T], *, compression: Compression = "none"
) -> Iterator[list[_T]]:
    """The values of a file: a record is a dict, logical types are Python's own. `compression` is around the whole container."""
    return batched(_values(opened(file, size_bytes, compression), convert))


def _values(file: Readable, convert: Callable[[Any], _T]) -> Iterator[tuple[_T, int]]:
    codec, schema, sync = _header(file)
    number = 0
    while (count := _varint(file, at_end=None)) is not None:
        content = exactly(file, _varint(file, at_end=0) or 0)
        if exactly(file, _SYNC_BYTES) != sync:
            raise BadFileError(f"the block of record {number} does not end with the file's sync marker")
        block = _decompressed(content, codec)
        if not 0 <= count <= len(block):
            raise BadFileError(f"a block of {len(block)} bytes claims {count} records, at record {number}")
        left = io.BytesIO(block)

        def decoded(_: int, left: io.BytesIO = left) -> tuple[_T, int]:
            begun = left.tell()
            return convert(fastavro.schemaless_reader(left, schema, None)), left.tell() - begun

        yield from converted(range(count), decoded, first=number)
        number += count
        if left.tell() != len(block):
            raise BadFileError(f"the block before record {number} holds more than its {count} records")


def _header(file: Readable) -> tuple[str, Any, bytes]:
    if exactly(file, len(_MAGIC)) != _MAGIC:
        raise BadFileError("it does not begin as a container file of Avro does")
    metadata = _metadata(file)
    try:
        schema = fastavro.parse_schema(json.loads(metadata["avro.schema"]))
        codec = metadata.get("avro.codec", b"null").decode()
    except Exception as error:
        raise BadFileError(f"its header holds no schema ({short(error)})") from error
    if _extent(schema, {}).least_bytes == 0:
        raise BadFileError("values of its schema take no bytes, so that any number of them could be claimed")
    if codec not in _CODECS:
        raise BadFileError(f"its codec is {codec[:40]!r}; known are {', '.join(_CODECS)}")
    return codec, schema, exactly(file, _SYNC_BYTES)


def _metadata(file: Readable) -> dict[str, bytes]:
    found, taken = dict[str, bytes](), 0
    while count := _varint(file, at_end=0):
        if count < 0:
            _varint(file, at_end=0)  # the block's size
        for _ in range(abs(count)):
            name, value = (exactly(file, _varint(file, at_end=0) or 0, _MAX_HEADER_BYTES - taken) for _ in range(2))
            taken += len(name) + len(value) + 2
            found[name.decode(errors="replace")] = value
    return found


def _varint(file: Readable, *, at_end: int | None) -> int | None:
    """A zigzag number; `at_end` where the file ends before it."""
    number = 0
    for place in range(_VARINT_BYTES):
        byte = file.read(1)
        if not byte:
            if place or at_end is not None:
                raise BadFileError("it ends in a length: it was cut short")
            return at_end
        number |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return (number >> 1) ^ -(number & 1)
    raise BadFileError(f"a number of more than {_VARINT_BYTES} bytes")


def _decompressed(content: bytes, codec: str) -> bytes:
    if not content:
        raise BadFileError("a block of no bytes")
    try:
        return _CODECS[codec](content)
    except (*PASSED, BadFileError):
        raise
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise BadFileError(f"{codec} cannot decompress a block of {len(content)} bytes ({short(error)})") from error


def _deflate(content: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=-15)
    return _whole(inflater.decompress(content, MAX_RECORD_BYTES), ended=inflater.eof)


def _snappy(content: bytes) -> bytes:
    found = raw_snappy(content[:-4], MAX_RECORD_BYTES)
    if zlib.crc32(found) != int.from_bytes(content[-4:], "big"):
        raise BadFileError("a block's checksum does not fit")
    return found


def _bzip2(content: bytes) -> bytes:
    inflater = bz2.BZ2Decompressor()
    return _whole(inflater.decompress(content, MAX_RECORD_BYTES), ended=inflater.eof)


def _xz(content: bytes) -> bytes:
    inflater = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    return _whole(inflater.decompress(content, MAX_RECORD_BYTES), ended=inflater.eof)


def _whole(found: bytes, *, ended: bool) -> bytes:
    if not ended:
        raise BadFileError(f"a compressed block is cut short or larger than {MAX_RECORD_BYTES} bytes")
    return found


_CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda content: content,
    "deflate": _deflate,
    "snappy": _snappy,
    "bzip2": _bzip2,
    "xz": _xz,
    "zstandard": lambda content: stream(content, MAX_RECORD_BYTES, codec="zstd"),
}


class _Extent(NamedTuple):
    """How many bytes a value takes at least, and how many types its schema has, each counted where it is used."""

    least_bytes: int
    types: int


def _extent(schema: Any, named: dict[str, _Extent | None]) -> _Extent:
    """Of a schema as fastavro parses it. Raises BadFileError over what must not be decoded."""
    if isinstance(schema, list):
        return _sum([_extent(branch, named) for branch in schema])._replace(least_bytes=1)
    if isinstance(schema, str):
        return _referred(schema, named)
    kind = schema["type"]
    if not isinstance(kind, str):
        return _extent(kind, named)
    name = schema.get("name")
    if name is not None:
        named[name] = None
    found = _of_kind(kind, schema, named)
    if name is not None:
        named[name] = found
    return found


def _of_kind(kind: str, schema: Mapping[str, Any], named: dict[str, _Extent | None]) -> _Extent:
    match kind:
        case "record" | "error":
            return _sum([_extent(field["type"], named) for field in schema["fields"]])
        case "array":
            items = _extent(schema["items"], named)
            if items.least_bytes == 0:
                raise BadFileError("its schema has an array of what takes no bytes")
            return items._replace(least_bytes=1)
        case "map":
            return _extent(schema["values"], named)._replace(least_bytes=1)
        case "fixed":
            return _Extent(schema["size"], 1)
        case _:
            return _referred(kind, named)


def _referred(name: str, named: Mapping[str, _Extent | None]) -> _Extent:
    if name not in named:
        return _Extent(0 if name == "null" else 1, 1)
    found = named[name]
    if found is None:
        raise BadFileError(
            f"its schema's type {name[:100]} holds itself, which is refused: a value could be endlessly deep"
        )
    return found


def _sum(parts: list[_Extent]) -> _Extent:
    found = _Extent(sum(part.least_bytes for part in parts), 1 + sum(part.types for part in parts))
    if found.types > _MAX_TYPES:
        raise BadFileError(f"its schema has more than {_MAX_TYPES} types")
    return found
