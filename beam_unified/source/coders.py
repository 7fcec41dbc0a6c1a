"""How restrictions, watermark states and records are written down (rule B5).

Every form begins with a version byte and is decoded for ever: a job updated next year restores this year's savepoint.
A new field means a new version, beside the old one; the golden bytes in tests/unit/source/test_coders.py keep us honest.

Wire shape, version 1 (restriction: version 2 or 3), big endian:

    restriction:  version, flags, start, known_end, then per flag: 1 stop, 2 stop_before_ms, 4 initial_watermark,
                  8 leader_epoch, 16 splittable (the flag alone), 64 skipped (count (uint32), then start and stop of each),
                  32 topic id (UTF-8, to the end)
        version 1:  had flags 1, 2 and 4 only
        version 2:  has no flag 64; written where it says all, so that the release before can go on with it
    watermark:    version, flags, then per flag: 1 reported, 2 earned, 4 idle_since_ms
    record:       version, flags, partition (int32), offset, then per flag: 1 timestamp + type (uint8), 2 key, 4 value;
                  then topic, headers (count, then name, flag byte, value). Byte strings carry a uint32 length. Flag 8:
                  read from Kafka; else from the archive.
    late file:    version, flags (none); a JSON list of its fields, in order, to the end
    dead letter:  version, flags (1: with a record); a JSON list of its other fields, in order, with its length (uint32);
                  then the record
    decoded:      version, flags (none); the record with its length (uint32); the value in Beam's coder for any value
    chunk:        version, flags (8: read from Kafka), count (uint32); event times; then records, each with its length (uint32)

Numbers are int64 unless said otherwise.
"""

import json
import struct

from apache_beam.coders import Coder, FastPrimitivesCoder

from beam_unified.dead_letters import DeadLetter
from beam_unified.late_files import LateFile
from beam_unified.offsets import OffsetRange
from beam_unified.records import ListBatch, Record, Store, TimestampType
from beam_unified.source.chunks import Chunk, Decoded
from beam_unified.source.restriction import LogRestriction
from beam_unified.watermarks import WatermarkState

_VERSION = 1
_RESTRICTION_VERSIONS = (1, 2, 3)
_HEAD = struct.Struct(">BB")
_INT64 = struct.Struct(">q")
_RANGE = struct.Struct(">qq")
_UINT32 = struct.Struct(">I")
_RECORD_HEAD = struct.Struct(">BBiq")
_TIMESTAMP = struct.Struct(">qB")

_HAS_TIMESTAMP, _HAS_KEY, _HAS_VALUE, _FROM_KAFKA = 1, 2, 4, 8
_SPLITTABLE, _HAS_TOPIC_ID, _HAS_SKIPPED = 16, 32, 64  # of a restriction; its lower flags are those of `_optional`
_HAS_RECORD = 1  # of a dead letter
_NO_TYPE = 255  # a timestamp whose type is not known


_ANY = FastPrimitivesCoder()


class _Deterministic(Coder):
    """A coder that says so."""

    def is_deterministic(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class RestrictionCoder(_Deterministic):
    """`LogRestriction` to bytes and back."""

    def encode(self, value: LogRestriction) -> bytes:
        """Version 2, or 3 where something was skipped."""
        flags, numbers = _optional(value.stop, value.stop_before_ms, value.initial_watermark, value.leader_epoch)
        flags |= _SPLITTABLE * value.splittable | _HAS_TOPIC_ID * (value.topic_id is not None)
        topic_id = b"" if value.topic_id is None else value.topic_id.encode()
        skipped = b"".join(_RANGE.pack(one.start, one.stop) for one in value.skipped)
        if skipped:
            flags |= _HAS_SKIPPED
            skipped = _UINT32.pack(len(value.skipped)) + skipped
        head = _HEAD.pack(3 if skipped else 2, flags)
        return head + _RANGE.pack(value.start, value.known_end) + numbers + skipped + topic_id

    def decode(self, encoded: bytes) -> LogRestriction:
        """Any version ever written. Raises ValueError for one of the future."""
        flags = _flags(encoded, "restriction", _RESTRICTION_VERSIONS)
        read = _Cursor(encoded, _HEAD.size)
        (start,), (known_end,) = read.unpack(_INT64), read.unpack(_INT64)
        stop, stop_before_ms, initial_watermark, leader_epoch = read.present(flags, 4)
        count = read.count() if flags & _HAS_SKIPPED else 0
        skipped = tuple([OffsetRange(*read.unpack(_RANGE)) for _ in range(count)])
        return LogRestriction(
            start=start,
            stop=stop,
            stop_before_ms=stop_before_ms,
            initial_watermark=initial_watermark,
            known_end=known_end,
            topic_id=read.rest().decode() if flags & _HAS_TOPIC_ID else None,
            leader_epoch=leader_epoch,
            skipped=skipped,
            splittable=bool(flags & _SPLITTABLE),
        )


class WatermarkStateCoder(_Deterministic):
    """`WatermarkState` to bytes and back."""

    def encode(self, value: WatermarkState) -> bytes:
        """Version 1."""
        flags, numbers = _optional(value.reported, value.earned, value.idle_since_ms)
        return _HEAD.pack(_VERSION, flags) + numbers

    def decode(self, encoded: bytes) -> WatermarkState:
        """Any version ever written."""
        flags = _flags(encoded, "watermark state")
        reported, earned, idle_since_ms = _Cursor(encoded, _HEAD.size).present(flags, 3)
        return WatermarkState(reported=reported, earned=earned, idle_since_ms=idle_since_ms)


class RecordCoder(_Deterministic):
    """`Record` to bytes and back, for shuffles between workers."""

    def encode(self, value: Record) -> bytes:
        """Version 1."""
        flags = _FROM_KAFKA if value.store == Store.KAFKA.value else 0
        parts = [b""]
        if value.timestamp is not None:
            flags |= _HAS_TIMESTAMP
            kind = _NO_TYPE if value.timestamp_type is None else value.timestamp_type.value
            parts.append(_TIMESTAMP.pack(value.timestamp, kind))
        if value.key is not None:
            flags |= _HAS_KEY
            parts += [_UINT32.pack(len(value.key)), value.key]
        if value.value is not None:
            flags |= _HAS_VALUE
            parts += [_UINT32.pack(len(value.value)), value.value]
        parts[0] = _RECORD_HEAD.pack(_VERSION, flags, value.partition, value.offset)
        topic = value.topic.encode()
        parts += [_UINT32.pack(len(topic)), topic, _UINT32.pack(len(value.headers))]
        for name, content in value.headers:
            raw = name.encode()
            parts += [_UINT32.pack(len(raw)), raw]
            parts += [b"\0"] if content is None else [b"\1", _UINT32.pack(len(content)), content]
        return b"".join(parts)

    def decode(self, encoded: bytes) -> Record:
        """Any version ever written."""
        version, flags, partition, offset = _RECORD_HEAD.unpack_from(encoded)
        _check_version(version, "record")
        read = _Cursor(encoded, _RECORD_HEAD.size)
        timestamp: int | None = None
        kind: TimestampType | None = None
        if flags & _HAS_TIMESTAMP:
            timestamp, number = read.unpack(_TIMESTAMP)
            kind = None if number == _NO_TYPE else TimestampType(number)
        key = read.data() if flags & _HAS_KEY else None
        value = read.data() if flags & _HAS_VALUE else None
        topic = read.data().decode()
        headers = tuple([(read.data().decode(), read.data() if read.byte() else None) for _ in range(read.count())])
        store = Store.KAFKA if flags & _FROM_KAFKA else Store.ARCHIVE
        return Record(key, value, headers, topic, partition, offset, timestamp, kind, store.value)


class DeadLetterCoder(_Deterministic):
    """`DeadLetter` to bytes and back."""

    def encode(self, value: DeadLetter) -> bytes:
        """Version 1."""
        fields = value._replace(record=None)[:-1]
        text = json.dumps(fields).encode()
        record = b"" if value.record is None else RecordCoder().encode(value.record)
        return _HEAD.pack(_VERSION, _HAS_RECORD * (value.record is not None)) + _UINT32.pack(len(text)) + text + record

    def decode(self, encoded: bytes) -> DeadLetter:
        """Any version ever written."""
        flags = _flags(encoded, "dead letter")
        read = _Cursor(encoded, _HEAD.size)
        topic, partition, offset, stop, reason, error = json.loads(read.data())
        record = RecordCoder().decode(read.rest()) if flags & _HAS_RECORD else None
        return DeadLetter(topic, partition, offset, stop, reason, error, record)


class LateFileCoder(_Deterministic):
    """`LateFile` to bytes and back."""

    def encode(self, value: LateFile) -> bytes:
        """Version 1."""
        return _HEAD.pack(_VERSION, 0) + json.dumps(value).encode()

    def decode(self, encoded: bytes) -> LateFile:
        """Any version ever written."""
        _flags(encoded, "late file")
        topic, partition, start, stop, skipped, noticed_ms, path = json.loads(encoded[_HEAD.size :])
        return LateFile(topic, partition, start, stop, tuple(map(tuple, skipped)), noticed_ms, path)


class DecodedCoder(Coder):
    """`Decoded` to bytes and back: its record as `RecordCoder` writes it, its value as Beam writes any value."""

    def encode(self, value: Decoded) -> bytes:
        """Version 1."""
        record = RecordCoder().encode(value.record)
        return b"".join([_HEAD.pack(_VERSION, 0), _UINT32.pack(len(record)), record, _ANY.encode(value.value)])

    def decode(self, encoded: bytes) -> Decoded:
        """Any version ever written."""
        _flags(encoded, "decoded record")
        read = _Cursor(encoded, _HEAD.size)
        record = RecordCoder().decode(read.data())
        return Decoded(_ANY.decode(read.rest()), record)

    def is_deterministic(self) -> bool:
        """Not where the value is pickled."""
        return False

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class ChunkCoder(_Deterministic):
    """`Chunk` to bytes and back, for a runner that puts a shuffle between the source and `Explode`. None does so far."""

    def estimate_size(self, value: Chunk) -> int:
        """For the byte counters of runners, which ask at every early and many a later element."""
        return value.batch.size_bytes() + _INT64.size * len(value.micros)

    def encode(self, value: Chunk) -> bytes:
        """Version 1."""
        record_coder = RecordCoder()
        flags = _FROM_KAFKA if value.batch.store is Store.KAFKA else 0
        parts = [_HEAD.pack(_VERSION, flags), _UINT32.pack(len(value.micros)), *map(_INT64.pack, value.micros)]
        for record in value.batch.iter_records():
            encoded = record_coder.encode(record)
            parts += [_UINT32.pack(len(encoded)), encoded]
        return b"".join(parts)

    def decode(self, encoded: bytes) -> Chunk:
        """Any version ever written."""
        store = Store.KAFKA if _flags(encoded, "chunk") & _FROM_KAFKA else Store.ARCHIVE
        read, record_coder = _Cursor(encoded, _HEAD.size), RecordCoder()
        count = read.count()
        micros = [read.unpack(_INT64)[0] for _ in range(count)]
        return Chunk(ListBatch([record_coder.decode(read.data()) for _ in range(count)], store), micros)


class _Cursor:
    """Reads byte strings one after the other."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        self._at += form.size
        return form.unpack_from(self._data, self._at - form.size)

    def present(self, flags: int, count: int) -> list[int | None]:
        """So many optional numbers, as `_optional` wrote them."""
        return [self.unpack(_INT64)[0] if flags & 1 << bit else None for bit in range(count)]

    def rest(self) -> bytes:
        return self._data[self._at :]

    def count(self) -> int:
        return self.unpack(_UINT32)[0]

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def data(self) -> bytes:
        size = self.count()
        self._at += size
        return self._data[self._at - size : self._at]


def _optional(*numbers: int | None) -> tuple[int, bytes]:
    """A flag for each number that is there, from bit 0 on, and those numbers."""
    flags = sum(1 << bit for bit, number in enumerate(numbers) if number is not None)
    return flags, b"".join(_INT64.pack(number) for number in numbers if number is not None)


def _flags(encoded: bytes, what: str, versions: tuple[int, ...] = (_VERSION,)) -> int:
    version, flags = _HEAD.unpack_from(encoded)
    _check_version(version, what, versions)
    return int(flags)


def _check_version(version: int, what: str, versions: tuple[int, ...] = (_VERSION,)) -> None:
    if version not in versions:
        raise ValueError(
            f"{what} has wire version {version}, this release of beam-unified knows {', '.join(map(str, versions))}: "
            "it was written by a later release, upgrade the workers."
        )
