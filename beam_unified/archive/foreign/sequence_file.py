"""Hadoop's SequenceFile, version 6, as Secor writes it; a stream.

Values are BytesWritable. Keys are LongWritable, the offset; or BytesWritable with a MessagePack map {1: offset, 2: Kafka's key,
3: timestamp in milliseconds}, of which 2 and 3 may be missing.

No kept Python library reads it, and this is all of it that Secor uses. NONE, RECORD and BLOCK compression. Every length is
compared with what is left of the file, or of the block, before anything is allocated; memory is that of one record,
or of one block, at most `MAX_BYTES` each once decompressed, whatever it claims: a block is taken apart some records at a time.
What is wrong further on in a block is raised when it is met, after the records before it.

Format: the comment of org.apache.hadoop.io.SequenceFile.
"""

import io
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Literal, Protocol

import msgspec
import numpy as np

from beam_unified.archive.foreign.codecs import MAX_BYTES, BadFileError, decompress
from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.layout import Lack

_BATCH_ROWS = 4_096
_BATCH_BYTES = 16 * 1024 * 1024
_SYNC_ESCAPE = -1
_SYNC_BYTES = 16
_LONG = "org.apache.hadoop.io.LongWritable"
_BYTES = "org.apache.hadoop.io.BytesWritable"
_MAX_TEXT = 64 * 1024
_MAX_METADATA = 1_000
_INT64 = 2**63
_READ_AHEAD = 1024 * 1024
_LENGTHS = struct.Struct(">ii")
_Entries = tuple[list[bytes], list[bytes]]

Keys = Literal["offset", "message_pack"]
"""What a file's keys are: LongWritable, or MessagePack."""

_PACKED = msgspec.msgpack.Decoder(dict[int, int | bytes | None])
_KEY_CLASSES: dict[Keys, str] = {"offset": _LONG, "message_pack": _BYTES}
_LEAST_BYTES = {_LONG: 8, _BYTES: 4}
"""Of one that is written down: a number, or the length of bytes."""


class Readable(Protocol):
    """A file, from its beginning."""

    def read(self, size: int = ..., /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class SequenceFiles:
    """The format, for `Template`; `keys` as of `Secor`. It lacks headers, and, with keys that are offsets, key and timestamp."""

    keys: Keys = "offset"
    counted: ClassVar[bool] = False

    @property
    def lacks(self) -> frozenset[Lack]:
        """What its records do not have."""
        return frozenset({"headers"} if self.keys == "message_pack" else {"headers", "key", "timestamp"})

    def read(self, file: Readable, size_bytes: int, /) -> Iterator[Columns]:
        """See `read`."""
        return read(file, size_bytes, self.keys)


def read(file: Readable, size_bytes: int, keys: Keys = "offset") -> Iterator[Columns]:
    """The records of a file of this size. Raises BadFileError where it is damaged, cut short or has other keys."""
    source = _Source(file, size_bytes)
    header = _header(source, _KEY_CLASSES[keys])
    columns: Callable[[list[bytes], list[bytes]], Columns] = _packed_columns if keys == "message_pack" else _columns
    for some_keys, some_values in _blocks(source, header) if header.blocks else _records(source, header):
        if some_values:
            yield columns(some_keys, _contents(some_values, f"a value before byte {source.at}"))


def keys_of(file: Readable, size_bytes: int) -> Keys:
    """What the keys of a file are, by its header. Raises BadFileError where it is none of Secor's."""
    found = _header(_Source(file, size_bytes), None).key_class
    return next(keys for keys, name in _KEY_CLASSES.items() if name == found)


def _columns(keys: list[bytes], values: list[bytes]) -> Columns:
    if set(map(len, keys)) != {8}:
        raise BadFileError(f"keys of {', '.join(map(str, sorted(set(map(len, keys)))))} bytes are no LongWritables")
    return Columns(values, np.frombuffer(b"".join(keys), ">i8").tolist())


def _packed_columns(keys: list[bytes], values: list[bytes]) -> Columns:
    unpacked = [_unpacked(key) for key in _contents(keys, "a key")]
    return Columns(
        values, [one[1] for one in unpacked], [one.get(2) for one in unpacked], [one.get(3) for one in unpacked]
    )


@dataclass(frozen=True, slots=True)
class _Header:
    key_class: str
    codec: str | None
    blocks: bool
    sync: bytes


class _Source:
    """Bytes from where the file stands, read ahead; knows how many are left. Mutable."""

    def __init__(self, file: Readable, size: int) -> None:
        self._file, self._size = file, size
        self._held, self._place, self._read = b"", 0, 0  # bytes, where in them it stands, and how many were read in all

    @property
    def at(self) -> int:
        return self._read - len(self._held) + self._place

    @property
    def left(self) -> int:
        return self._size - self.at

    def take(self, count: int, limit: int = MAX_BYTES) -> bytes:
        """Exactly so many bytes."""
        end = self._place + count
        if not self._place <= end <= len(self._held):
            self._hold(count, limit)
            end = count
        found = self._held[self._place : end]
        self._place = end
        return found

    def _hold(self, count: int, limit: int) -> None:
        """Reads on until so many bytes are held, from where it stands."""
        if not 0 <= count <= limit:
            raise BadFileError(f"a length of {count} bytes at byte {self.at}, {limit} are allowed")
        if count > self.left:
            raise BadFileError(f"a length of {count} bytes at byte {self.at}, {self.left} are left: it was cut short")
        found = bytearray(self._held[self._place :])
        while len(found) < count:
            piece = self._file.read(min(max(count - len(found), _READ_AHEAD), self._size - self._read))
            if not piece:
                raise BadFileError(f"it ends at byte {self._read}, inside of a record")
            found += piece
            self._read += len(piece)
        self._held, self._place = bytes(found), 0

    def int32(self) -> int:
        """Four bytes."""
        return int.from_bytes(self.take(4), "big", signed=True)

    def vint(self) -> int:
        """Hadoop's WritableUtils.readVInt."""
        first = int.from_bytes(self.take(1), "big", signed=True)
        if first >= -112:
            return first
        negative = first < -120
        number = int.from_bytes(self.take((-120 if negative else -112) - first), "big")
        return ~number if negative else number

    def text(self) -> str:
        """Hadoop's Text."""
        try:
            return self.take(self.vint(), _MAX_TEXT).decode()
        except UnicodeDecodeError as error:
            raise BadFileError(f"no text at byte {self.at} ({error})") from error


def _header(source: _Source, key_class: str | None) -> _Header:
    """The header; None takes any key class that is known."""
    magic = source.take(4)
    if magic != b"SEQ\x06":
        raise BadFileError(f"it begins with {magic!r}, not as a SequenceFile of version 6")
    found = source.text(), source.text()
    wanted = _KEY_CLASSES.values() if key_class is None else [key_class]
    if found[0] not in wanted or found[1] != _BYTES:
        raise BadFileError(
            f"it holds keys of {found[0]} and values of {found[1]}, not {' or '.join(wanted)} and {_BYTES}"
        )
    compressed, blocks = source.take(1) != b"\0", source.take(1) != b"\0"
    codec = source.text() if compressed else None
    entries = source.int32()
    if not 0 <= entries <= _MAX_METADATA:
        raise BadFileError(f"it claims {entries} entries of metadata")
    for _ in range(2 * entries):
        source.text()
    return _Header(found[0], codec, blocks and compressed, source.take(_SYNC_BYTES))


def _records(source: _Source, header: _Header) -> Iterator[_Entries]:
    keys, values, taken = list[bytes](), list[bytes](), 0
    while source.left:
        length, key_length = _LENGTHS.unpack(source.take(_LENGTHS.size))
        if length == _SYNC_ESCAPE:
            _check_sync(key_length.to_bytes(4, "big", signed=True) + source.take(_SYNC_BYTES - 4), source, header)
            continue
        if not 0 <= key_length <= length:
            raise BadFileError(f"a record before byte {source.at} of {length} bytes has a key of {key_length}")
        record = source.take(length)
        keys.append(record[:key_length])
        value = record[key_length:]
        if header.codec is not None:
            value = _decompressed(value, header.codec, MAX_BYTES, f"the record before byte {source.at}")
        values.append(value)
        taken += length + len(values[-1])
        if len(values) >= _BATCH_ROWS or taken >= _BATCH_BYTES:
            yield keys, values
            keys, values, taken = [], [], 0
    yield keys, values


def _blocks(source: _Source, header: _Header) -> Iterator[_Entries]:
    assert header.codec is not None
    keys, values, taken = list[bytes](), list[bytes](), 0
    while source.left:
        at = source.at
        if source.int32() != _SYNC_ESCAPE:
            raise BadFileError(f"no block begins at byte {at}")
        _check_sync(source.take(_SYNC_BYTES), source, header)
        where = f"the block at byte {at}"
        for some_keys, some_values in _entries(source, header, where):
            keys += some_keys
            values += some_values
            taken += sum(map(len, some_keys)) + sum(map(len, some_values))
            if len(values) >= _BATCH_ROWS or taken >= _BATCH_BYTES:
                yield keys, values
                keys, values, taken = [], [], 0
    yield keys, values


def _entries(source: _Source, header: _Header, where: str) -> Iterator[_Entries]:
    """The records of a block, some at a time. Decompressed it is allowed `MAX_BYTES` as a whole."""
    assert header.codec is not None
    count, parts, room = source.vint(), list[bytes](), MAX_BYTES
    for _ in range(4):
        parts.append(_decompressed(source.take(source.vint()), header.codec, room, where))
        room -= len(parts[-1])
    key_lengths, keys, value_lengths, values = parts
    possible = min(
        len(key_lengths), len(keys) // _LEAST_BYTES[header.key_class], len(value_lengths), len(values) // _LEAST_BYTES[_BYTES]
    )  # fmt: skip
    if not 0 <= count <= possible:
        raise BadFileError(f"{where} claims {count} records, {possible} are possible")
    yield from zip(_pieces(key_lengths, keys, count, where), _pieces(value_lengths, values, count, where), strict=True)


def _decompressed(content: bytes, codec: str, limit: int, where: str) -> bytes:
    try:
        return decompress(content, codec, limit)
    except BadFileError as error:
        raise BadFileError(f"{where}: {error}") from error


def _pieces(lengths: bytes, content: bytes, count: int, where: str) -> Iterator[list[bytes]]:
    """Content in pieces, by as many lengths, which are vints; some at a time."""
    at, whole = 0, _Source(io.BytesIO(lengths), len(lengths))
    short = len(lengths) == count and lengths.isascii()  # each a byte below 128, which stands for itself
    for begin in range(0, count, _BATCH_ROWS):
        rows = min(_BATCH_ROWS, count - begin)
        few: Iterable[int] = whole.take(rows) if short else _vints(whole, rows, where)
        edges = list(accumulate(few, initial=at))
        if edges[-1] > len(content) or any(one > other for one, other in pairwise(edges)):
            raise BadFileError(f"{where} holds {len(content)} bytes where its lengths say {edges[-1]}")
        yield [content[one:other] for one, other in pairwise(edges)]
        at = edges[-1]
    if whole.left:
        raise BadFileError(f"{where} holds more than its {count} records")
    if at != len(content):
        raise BadFileError(f"{where} holds {len(content)} bytes where its lengths say {at}")


def _vints(source: _Source, count: int, where: str) -> list[int]:
    try:
        return [source.vint() for _ in range(count)]
    except BadFileError as error:
        raise BadFileError(f"{where}, in its lengths: {error}") from error


def _check_sync(found: bytes, source: _Source, header: _Header) -> None:
    if found != header.sync:
        raise BadFileError(f"the sync marker before byte {source.at} is not the file's")


def _contents(writables: list[bytes], what: str) -> list[bytes]:
    """BytesWritables: each its length, and as many bytes."""
    stated = b"".join([one[:4] for one in writables])
    actual = [len(one) - 4 for one in writables]
    if len(stated) != 4 * len(writables) or np.frombuffer(stated, ">i4").tolist() != actual:
        raise BadFileError(f"{what} is not a whole BytesWritable")
    return [one[4:] for one in writables]


def _unpacked(content: bytes) -> dict[int, Any]:
    """A MessagePack map, whose fields are what they should be."""
    try:
        found: dict[int, Any] = _PACKED.decode(content)
    except msgspec.MsgspecError as error:
        raise BadFileError(f"a key of {len(content)} bytes is no MessagePack map of Secor ({error})") from error
    offset, key, timestamp = found.get(1), found.get(2), found.get(3)
    if not _is_number(offset) or not isinstance(key, bytes | None) or not (timestamp is None or _is_number(timestamp)):
        raise BadFileError(
            "a key is no MessagePack map with an offset as field 1, bytes as field 2, a timestamp as field 3"
        )
    return found


def _is_number(found: object) -> bool:
    return isinstance(found, int) and -_INT64 <= found < _INT64
