"""Compressed bytes -> bytes, never more than a bound, by pyarrow, lz4 and zlib. Nothing is allocated that a length alone asks for.

Hadoop frames snappy and lz4 in blocks of its own: length of what follows when decompressed, then chunks, each with its
compressed length, until that many bytes are out (BlockCompressorStream).
"""

import zlib
from collections.abc import Callable
from functools import partial

import lz4.block
import pyarrow as pa

MAX_BYTES = 256 * 1024 * 1024
"""A record, or a compressed block once decompressed, that is larger is refused: no length field allocates more than this."""

_PIECE = 1024 * 1024
_CHUNK_MAX = 64 * 1024 * 1024


class BadFileError(ValueError):
    """What is wrong with a file, and where in it. Whoever has opened it adds topic and path."""


def decompress(content: bytes, codec: str, limit: int = MAX_BYTES) -> bytes:
    """Decompresses what a Hadoop codec wrote.

    Args:
        content: All of it.
        codec: Name of the Java class.
        limit: Largest result, in bytes.

    Raises:
        BadFileError: damaged, larger than the limit, or a codec that is not known.
    """
    name = codec.rpartition(".")[2]
    if name not in _CODECS:
        raise BadFileError(f"it is compressed with {codec}; known are {', '.join(sorted(_CODECS))}")
    if not content:
        return b""
    try:
        return _CODECS[name](content, limit)
    except (zlib.error, lz4.block.LZ4BlockError, pa.ArrowException, OSError) as error:
        raise BadFileError(f"{name} cannot decompress {len(content)} bytes ({error})") from error


def raw_snappy(content: bytes, limit: int = MAX_BYTES) -> bytes:
    """Decompresses a snappy block without any frame. Raises BadFileError: damaged, empty, or larger than the limit."""
    try:
        return _raw(content, limit, "snappy")
    except (pa.ArrowException, OSError) as error:
        raise BadFileError(f"snappy cannot decompress {len(content)} bytes ({error})") from error


def stream(content: bytes, limit: int, *, codec: str) -> bytes:
    """Decompresses what pyarrow calls `codec`. Raises BadFileError: damaged, cut short, or larger than the limit."""
    try:
        return _stream(content, limit, codec=codec)
    except (pa.ArrowException, OSError) as error:
        raise BadFileError(f"{codec} cannot decompress {len(content)} bytes ({error})") from error


def _zlib(content: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    found = inflater.decompress(content, limit)
    if inflater.unconsumed_tail or not inflater.eof:
        raise BadFileError(f"a compressed block is cut short or larger than {limit} bytes")
    return found


def _stream(content: bytes, limit: int, *, codec: str) -> bytes:
    found = bytearray()
    with pa.CompressedInputStream(pa.BufferReader(content), codec) as stream:
        while piece := stream.read(_PIECE):
            found += piece
            if len(found) > limit:
                raise BadFileError(f"a compressed block is larger than {limit} bytes")
    return bytes(found)


def _hadoop(content: bytes, limit: int, *, codec: str) -> bytes:
    found, at = bytearray(), 0
    while at < len(content):
        wanted, at = _length(content, at, limit - len(found)), at + 4
        until = len(found) + wanted
        while len(found) < until:
            size, at = _length(content, at, len(content) - at - 4), at + 4
            found += _raw(content[at : at + size], until - len(found), codec)
            at += size
    return bytes(found)


def _raw(chunk: bytes, room: int, codec: str) -> bytes:
    """One chunk: a raw snappy or lz4 block of at most `room` bytes."""
    if codec == "snappy":
        size = _snappy_length(chunk)
        if not 0 < size <= room:
            raise BadFileError(f"a chunk of {size} bytes where {room} are left")
        return bytes(pa.decompress(chunk, decompressed_size=size, codec="snappy", asbytes=True))
    room = min(room, _CHUNK_MAX, 255 * len(chunk) + 16)  # lz4 cannot do better
    return bytes(lz4.block.decompress(chunk, uncompressed_size=room))


def _snappy_length(chunk: bytes) -> int:
    """The length that a raw snappy block begins with."""
    number = 0
    for place, byte in enumerate(chunk[:5]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number
    raise BadFileError("a snappy chunk has no length")


def _length(content: bytes, at: int, limit: int) -> int:
    if at + 4 > len(content):
        raise BadFileError("a compressed block is cut short")
    length = int.from_bytes(content[at : at + 4], "big", signed=True)
    if not 0 < length <= limit:
        raise BadFileError(f"a compressed block claims {length} bytes, {limit} are possible")
    return length


_gzip = partial(_stream, codec="gzip")
_CODECS: dict[str, Callable[[bytes, int], bytes]] = {
    "DefaultCodec": _zlib,
    "DeflateCodec": _zlib,
    "GzipCodec": _gzip,
    "BZip2Codec": partial(_stream, codec="bz2"),
    "ZStandardCodec": partial(_stream, codec="zstd"),
    "ZstdCodec": partial(_stream, codec="zstd"),
    "SnappyCodec": partial(_hadoop, codec="snappy"),
    "Lz4Codec": partial(_hadoop, codec="lz4"),
}
