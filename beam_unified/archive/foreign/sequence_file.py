"""Hadoop's SequenceFile, version 6, as Secor writes it; a stream.

Values are BytesWritable. Keys are LongWritable, the offset; or BytesWritable with a MessagePack map {1: offset, 2: Kafka's key,
3: timestamp in milliseconds}, of which 2 and 3 may be missing.

No kept Python library reads it, and this is all of it that Secor uses. NONE, RECORD and BLOCK compression. Every length is
compared with what is left of the file, or of the block, before anything is allocated; memory is that of one record,
or of one block, at most `MAX_BYTES` each. Format: the comment of org.apache.hadoop.io.SequenceFile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from beam_unified.archive.foreign.codecs import MAX_BYTES, BadFileError, decompress
from beam_unified.archive.foreign.columns import Columns

_BATCH_ROWS = 4_096
_BATCH_BYTES = 16 * 1024 * 1024
_SYNC_ESCAPE = -1
_SYNC_BYTES = 16
_LONG = "org.apache.hadoop.io.LongWritable"
_BYTES = "org.apache.hadoop.io.BytesWritable"
_MAX_TEXT = 64 * 1024
_MAX_METADATA = 1_000
_INT64 = 2**63

Keys = Literal["offset", "message_pack"]
"""What a file's keys are: LongWritable, or MessagePack."""

_PACKED = msgspec.msgpack.Decoder(dict[int, int | bytes | None])
_KEY_CLASSES: dict[Keys, str] = {"offset": _LONG, "message_pack": _BYTES}


class Readable(Protocol):
    """A file, from its beginning."""

    def read(self, size: int = ..., /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


def read(file: Readable, size_bytes: int, keys: Keys = "offset") -> Iterator[Columns]:
    """The records of a file of this size. Raises BadFileError where it is damaged, cut short or has other keys."""
    source = _Source(file, size_bytes)
    header = _header(source, _KEY_CLASSES[keys])
    entries = _blocks(source, header) if header.blocks else _records(source, header)
    columns: Callable[[list[bytes], list[bytes]], Columns] = _packed_columns if keys == "message_pack" else _columns
    found, values, taken = list[bytes](), list[bytes](), 0
    for key, value in entries:
        found.append(key)
        values.append(value)
        taken += len(value) + len(key)
        if len(values) >= _BATCH_ROWS or taken >= _BATCH_BYTES:
            yield columns(found, values)
            found, values, taken = [], [], 0
    if values:
        yield columns(found, values)


def keys_of(file: Readable, size_bytes: int) -> Keys:
    """What the keys of a file are, by its header. Raises BadFileError where it is none of Secor's."""
    found = _header(_Source(file, size_bytes), None).key_class
    return next(keys for keys, name in _KEY_CLASSES.items() if name == found)


def _columns(keys: list[bytes], values: list[bytes]) -> Columns:
    return Columns(values, [_offset(key) for key in keys])


def _packed_columns(keys: list[bytes], values: list[bytes]) -> Columns:
    unpacked = [_unpacked(key) for key in keys]
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
    """Bytes from where the file stands; knows how many are left. Mutable."""

    def __init__(self, file: Readable, size: int) -> None:
        self._file, self._size = file, size
        self.at = 0

    @property
    def left(self) -> int:
        return self._size - self.at

    def take(self, count: int, limit: int = MAX_BYTES) -> bytes:
        """Exactly so many bytes."""
        if not 0 <= count <= limit:
            raise BadFileError(f"a length of {count} bytes at byte {self.at}, {limit} are allowed")
        if count > self.left:
            raise BadFileError(f"a length of {count} bytes at byte {self.at}, {self.left} are left: it was cut short")
        found = bytearray()
        while len(found) < count:
            piece = self._file.read(count - len(found))
            if not piece:
                raise BadFileError(f"it ends at byte {self.at + len(found)}, inside of a record")
            found += piece
        self.at += count
        return bytes(found)

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


def _records(source: _Source, header: _Header) -> Iterator[tuple[bytes, bytes]]:
    while source.left:
        at, length = source.at, source.int32()
        if length == _SYNC_ESCAPE:
            _check_sync(source, header)
            continue
        key_length = source.int32()
        if not 0 <= key_length <= length:
            raise BadFileError(f"a record at byte {at} of {length} bytes has a key of {key_length}")
        key, value = source.take(key_length), source.take(length - key_length)
        yield key, _content(value if header.codec is None else decompress(value, header.codec), at)


def _blocks(source: _Source, header: _Header) -> Iterator[tuple[bytes, bytes]]:
    assert header.codec is not None
    while source.left:
        at = source.at
        if source.int32() != _SYNC_ESCAPE:
            raise BadFileError(f"no block begins at byte {at}")
        _check_sync(source, header)
        count = source.vint()
        parts = [decompress(source.take(source.vint()), header.codec) for _ in range(4)]
        key_lengths, keys, value_lengths, values = (_Whole(part) for part in parts)
        if not 0 <= count <= len(parts[0]):
            raise BadFileError(f"the block at byte {at} claims {count} records")
        for _ in range(count):
            key = keys.take(key_lengths.vint())
            yield key, _content(values.take(value_lengths.vint()), at)
        if keys.left or values.left or key_lengths.left or value_lengths.left:
            raise BadFileError(f"the block at byte {at} holds more than its {count} records")


class _Whole(_Source):
    """A decompressed part of a block."""

    def __init__(self, content: bytes) -> None:
        super().__init__(_NoFile(), len(content))
        self._content = content

    def take(self, count: int, limit: int = MAX_BYTES) -> bytes:
        """Exactly so many bytes."""
        if not 0 <= count <= min(limit, self.left):
            raise BadFileError(f"a length of {count} bytes in a block that has {self.left} left")
        self.at += count
        return self._content[self.at - count : self.at]


class _NoFile:
    def read(self, size: int = -1, /) -> bytes:
        return b""


def _check_sync(source: _Source, header: _Header) -> None:
    at = source.at
    if source.take(_SYNC_BYTES) != header.sync:
        raise BadFileError(f"the sync marker at byte {at} is not the file's")


def _content(writable: bytes, at: int | None = None) -> bytes:
    """A BytesWritable: its length, and as many bytes. `at` is where the record is; None for what is read of it later."""
    if len(writable) < 4 or int.from_bytes(writable[:4], "big", signed=True) != len(writable) - 4:
        where = "a key" if at is None else f"the value of the record at byte {at}"
        raise BadFileError(f"{where} is not a whole BytesWritable")
    return writable[4:]


def _offset(key: bytes) -> int:
    if len(key) != 8:
        raise BadFileError(f"a key of {len(key)} bytes is no LongWritable")
    return int.from_bytes(key, "big", signed=True)


def _unpacked(writable: bytes) -> dict[int, Any]:
    """A BytesWritable with a MessagePack map, whose fields are what they should be."""
    try:
        found: dict[int, Any] = _PACKED.decode(_content(writable))
    except msgspec.MsgspecError as error:
        raise BadFileError(f"a key of {len(writable)} bytes is no MessagePack map of Secor ({error})") from error
    offset, key, timestamp = found.get(1), found.get(2), found.get(3)
    if not _is_number(offset) or not isinstance(key, bytes | None) or not (timestamp is None or _is_number(timestamp)):
        raise BadFileError(
            "a key is no MessagePack map with an offset as field 1, bytes as field 2, a timestamp as field 3"
        )
    return found


def _is_number(found: object) -> bool:
    return isinstance(found, int) and -_INT64 <= found < _INT64
