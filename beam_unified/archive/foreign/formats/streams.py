"""A file's bytes, decompressed, cut into records; what is read at once is bounded, whatever a length in the file says."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar, get_args

import pyarrow as pa

from beam_unified.archive.foreign.codecs import BadFileError, raw_snappy
from beam_unified.archive.foreign.sequence_file import Readable
from beam_unified.errors import UnifiedLogError

Compression = Literal["none", "gzip", "snappy", "zstd"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A record, or a block of them, that is larger is refused, compressed or not. Kafka's own default limit is 1 MB a record."""

PASSED = (UnifiedLogError, FileNotFoundError, MemoryError)
"""Not about the file's content: errors of the storage, which have their own names."""

_BATCH_ROWS = 4_096
_BATCH_BYTES = 4 * 1024 * 1024
_PIECE = 1024 * 1024
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16

_A = TypeVar("_A")
_B = TypeVar("_B")


def opened(file: Readable, size_bytes: int, compression: Compression = "none") -> Readable:
    """The bytes of a file, decompressed: gzip (of several members, too), zstd, or snappy as SnappyOutputStream frames it.

    Reading raises BadFileError where they are damaged, cut short, or fewer than the file's size.
    """
    counted = _Counted(file, size_bytes)
    match compression:
        case "none":
            return counted
        case "snappy":
            return _SnappyStream(counted)
        case _:
            return _ArrowStream(counted, compression)


def exactly(file: Readable, count: int, limit: int = MAX_RECORD_BYTES) -> bytes:
    """So many bytes. Raises BadFileError where there are fewer, or where more are asked for than the limit."""
    if not 0 <= count <= limit:
        raise BadFileError(f"a length of {count} bytes, {limit} are allowed")
    found = bytearray()
    while len(found) < count:
        piece = file.read(min(_PIECE, count - len(found)))
        if not piece:
            raise BadFileError(f"it ends {count - len(found)} bytes early: it was cut short")
        found += piece
    return bytes(found)


def separated(file: Readable, separator: bytes, *, ended: bool) -> Iterator[bytes]:
    """The records between separators; with `ended`, behind the last one there is nothing, without, there is the last record."""
    held, size, tail, overlap = list[bytes](), 0, b"", len(separator) - 1
    while piece := file.read(_PIECE):
        held.append(piece)
        size += len(piece)
        tail += piece
        if (
            separator in tail
        ):  # of what is held only the last piece has not been looked at, and where it joins the others
            *found, tail = b"".join(held).split(separator)
            yield from found
            held, size = [tail], len(tail)
        tail = tail[-overlap:] if overlap else b""
        if size > MAX_RECORD_BYTES:
            raise BadFileError(f"a record is larger than {MAX_RECORD_BYTES} bytes")
    if not ended:
        yield b"".join(held)
    elif size:
        raise BadFileError(
            f"its last record does not end with {separator!r}: it was cut short, or has another separator"
        )


def converted(items: Iterable[_A], convert: Callable[[_A], _B], first: int = 0) -> Iterator[_B]:
    """`convert` of each. What it raises becomes a BadFileError that names the record, counted from 0, or from `first`."""
    for number, item in enumerate(items, start=first):
        try:
            found = convert(item)
        except PASSED:
            raise
        except Exception as error:
            raise BadFileError(f"record {number}: {short(error)}") from error
        yield found


def batched(rows: Iterable[tuple[_A, int]]) -> Iterator[list[_A]]:
    """Lists of rows, each of which comes with its size in the file, in bytes."""
    found, taken = list[_A](), 0
    for row, size in rows:
        found.append(row)
        taken += size
        if len(found) >= _BATCH_ROWS or taken >= _BATCH_BYTES:
            yield found
            found, taken = [], 0
    if found:
        yield found


def short(error: BaseException) -> str:
    """What is wrong, without what an error of a library may repeat of the content."""
    return str(error)[:200] if isinstance(error, BadFileError) else f"{type(error).__name__}: {error}"[:200]


class _Counted:
    """A file, of which a length is known. Has what pyarrow asks of a file. Mutable."""

    closed = False

    def __init__(self, file: Readable, size: int) -> None:
        self._file, self._left, self._size = file, size, size

    def read(self, size: int = -1, /) -> bytes:
        wanted = min(_PIECE, self._left)
        found = self._file.read(wanted if size < 0 else min(size, wanted)) if self._left and size else b""
        if self._left and size and not found:
            raise BadFileError(f"it ends at byte {self._size - self._left} of {self._size}")
        self._left -= len(found)
        return found

    def tell(self) -> int:
        return self._size - self._left

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: whoever opened the file closes it."""


class _ArrowStream:
    """What pyarrow decompresses."""

    def __init__(self, file: _Counted, compression: str) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), compression)

    def read(self, size: int = -1, /) -> bytes:
        try:
            return bytes(self._stream.read(_PIECE if size < 0 else min(size, _PIECE)))
        except (*PASSED, BadFileError):
            raise
        except (pa.ArrowException, OSError) as error:
            raise BadFileError(f"it cannot be decompressed ({error})") from error


class _SnappyStream:
    """What SnappyOutputStream of snappy-java writes: a header, then blocks, each with its length."""

    def __init__(self, file: Readable) -> None:
        self._file, self._ready, self._begun = file, b"", False

    def read(self, size: int = -1, /) -> bytes:
        while not self._ready and self._fill():
            pass
        cut = len(self._ready) if size < 0 else size
        found, self._ready = self._ready[:cut], self._ready[cut:]
        return found

    def _fill(self) -> bool:
        if not self._begun:
            if not exactly(self._file, _XERIAL_HEADER_BYTES).startswith(_XERIAL_MAGIC):
                raise BadFileError("it does not begin as snappy-java's SnappyOutputStream does")
            self._begun = True
        first = self._file.read(1)
        if not first:
            return False
        length = int.from_bytes(first + exactly(self._file, 3), "big", signed=True)
        if length == 0:
            raise BadFileError("a snappy block of no bytes")
        self._ready = raw_snappy(exactly(self._file, length), MAX_RECORD_BYTES)
        return True
