"""A topic into a RocksDB store, key -> newest value, as a stand-in for the key-value stores that jobs feed and services ask.

    python -m pipelines.to_rocksdb pins.rocksdb --runner=FnApiRunner

Newest is the highest offset, and the store remembers the offset beside the value: so the store is the same whatever the order of
bundles and however often one comes. A tombstone is remembered, too, or an older value that comes again would raise the dead. The
store is on one machine; so are the workers. All other arguments are Beam's pipeline options; what to read stands on top.
"""

import struct
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import tenacity
from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from beam_unified import Archive, BadRecordError, JsonField, Kafka, ReadUnified, StopPosition
from beam_unified.event_time import TimestampFn
from beam_unified.stores import ArchiveSource, KafkaSource
from pipelines.bundle_sink import PATIENCE_S, BundleSink, run

TOPIC = "published_pins"
KAFKA = Kafka("broker:9092")
ARCHIVE = Archive("s3://company-logs/merced")
EVENT_TIME = JsonField("published_at", unit="ms")

_PLACE = struct.Struct(">iq?")  # partition, offset, whether there is a value; then the value

TURN = tenacity.retry(
    retry=tenacity.retry_if_exception_message(match=r"(?s).*LOCK"),  # another worker has the store
    wait=tenacity.wait_random(0.01, 0.1),
    stop=tenacity.stop_after_delay(PATIENCE_S),
    reraise=True,
)


class Entry(NamedTuple):
    """What the store has of a key. Of one partition the larger is the newer."""

    partition: int
    offset: int
    value: bytes | None

    def encode(self) -> bytes:
        """As stored."""
        return _PLACE.pack(self.partition, self.offset, self.value is not None) + (self.value or b"")

    @classmethod
    def decode(cls, stored: bytes) -> "Entry":
        """The way back."""
        partition, offset, there = _PLACE.unpack_from(stored)
        return cls(partition, offset, stored[_PLACE.size :] if there else None)


def newer(key: bytes, one: Entry | None, other: Entry) -> Entry:
    """Which of two stays. Raises BadRecordError where nobody can know: offsets of two partitions cannot be compared."""
    if one is not None and one.partition != other.partition:
        raise BadRecordError(
            f"key {key!r:.80} is at offset {one.offset} of partition {one.partition} and at offset {other.offset} of partition "
            f"{other.partition}: the topic was given partitions, or is not partitioned by key. Key the store by partition, too."
        )
    return other if one is None or other.offset > one.offset else one


class PutNewest(BundleSink):
    """Batches -> the newest of every key.

    Args:
        path: The folder of the store; made when it is missing.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def commit(self, rows: pa.Table) -> None:
        """First within the rows, then against the store."""
        newest: dict[bytes, Entry] = {}
        names = ("key", "partition", "offset", "value")
        for key, *place in zip(*(rows[name].to_pylist() for name in names), strict=True):
            entry = Entry(*place)
            if key is None:
                raise BadRecordError(
                    f"the record at {entry.partition}:{entry.offset} has no key: this store needs one."
                )
            newest[key] = newer(key, newest.get(key), entry)
        self._put(newest)

    @TURN
    def _put(self, newest: dict[bytes, Entry]) -> None:
        """Reads, compares and writes while nobody else has the store open."""
        store, batch, synced = Rdict(self._path, Options(raw_mode=True)), WriteBatch(raw_mode=True), WriteOptions()
        synced.sync = True  # a bundle that is done survives the machine
        try:
            for (key, entry), stored in zip(newest.items(), store.get(list(newest)) or (), strict=True):
                batch.put(key, newer(key, None if stored is None else Entry.decode(stored), entry).encode())
            store.write(batch, synced)
        finally:
            store.close()


def build(
    pipeline: beam.Pipeline,
    path: str,
    topic: str = TOPIC,
    *,
    kafka: KafkaSource = KAFKA,
    archive: ArchiveSource = ARCHIVE,
    timestamp_fn: TimestampFn = EVENT_TIME,
    stop: StopPosition | None = None,
) -> None:
    """The pipeline. `ordered=False`: order is put in by offset, so the archive may be read side by side."""
    batches = pipeline | ReadUnified(
        topic,
        kafka,
        archive,
        timestamp_fn=timestamp_fn,
        max_out_of_orderness=timedelta(minutes=5),
        stop=stop,
        ordered=False,
        output="arrow",
    )
    _ = batches | "To RocksDB" >> beam.ParDo(PutNewest(path))


def main(arguments: Sequence[str]) -> None:
    """All that there is now."""
    run(build, __doc__, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
