"""Logs to take snapshots of, ways to damage an archive, and a replay without Beam."""

import itertools
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

from beam_unified.archive.archive import Archive
from beam_unified.archive.writer import write_flush
from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.offsets import TopicPartition
from beam_unified.reading.reader import LogReader, Progress, ReadOptions
from beam_unified.records import Record
from beam_unified.snapshots.snapshot import Snapshot
from beam_unified.testing import InMemoryLog

TOPIC = "pins"
HOUR_MS = 3_600_000
NOON_MS = 1_794_830_400_000


class Archived:
    """A topic whose records are in a scripted Kafka, and in a real archive as far as `flush` was told."""

    def __init__(self, root: str | None = None, *, partitions: int = 1, options: dict[str, Any] | None = None) -> None:
        self.log = InMemoryLog(TOPIC, partitions=partitions)
        self.archive = Archive(root or f"memory://{uuid.uuid4().hex}/archive", options or {})
        self.files, self.root = self.archive.file_system()

    def produce(self, records: int, partition: int = 0) -> None:
        """A record every ten minutes, every third one an hour late."""
        for _ in range(records):
            offset = self.log.kafka.bounds(TopicPartition(TOPIC, partition)).stop
            timestamp = NOON_MS + offset * HOUR_MS // 6 - (HOUR_MS if offset % 3 == 2 else 0)
            self.log.append(partition, b"%d" % offset, timestamp=timestamp, key=b"k%d" % offset, headers=(("h", None),))

    def flush(self, start: int, stop: int, partition: int = 0, records: Iterable[Record] | None = None) -> None:
        """Archives a range."""
        held = self.log.records(partition) if records is None else records
        tp = TopicPartition(TOPIC, partition)
        write_flush(self.archive, tp, [r for r in held if start <= r.offset < stop], start=start, stop=stop)

    def capture(self, **options: Any) -> Snapshot:
        """A snapshot of all of it."""
        return Snapshot.capture(self.log.kafka, self.archive, TOPIC, **options)

    def paths(self) -> list[str]:
        """Every file of the archive, as its file system names it."""
        return sorted(str(path) for path in self.files.find(self.root))

    def replace(self, path: str, content: bytes) -> None:
        """Puts other content in the place of a file, or a file where there was none."""
        self.files.pipe_file(path, content)


def archived(records: int = 12, *, flushes: Sequence[int] = (0, 5, 9, 12), **options: Any) -> Archived:
    """One partition, flushed at the given offsets."""
    world = Archived(**options)
    world.produce(records)
    for start, stop in itertools.pairwise(flushes):
        world.flush(start, stop)
    return world


def replay(
    snapshot: Snapshot,
    *,
    storage_options: dict[str, Any] | None = None,
    root: str | None = None,
    resume_every: int | None = None,
    max_records: int = 100,
) -> dict[TopicPartition, list[Record]]:
    """What a replay gives, read as a worker does: checked first, then through both halves of the snapshot.

    Args:
        snapshot: What to read.
        storage_options: Of the archive.
        root: Where the archive is now.
        resume_every: A new reader after so many calls, as after a checkpoint.
        max_records: Records a call.
    """
    archive, kafka = snapshot.archive(storage_options, root=root).connect(), snapshot.kafka()
    for topic in snapshot.topics:
        archive.check(topic, isolation_level=kafka.isolation_level)
    found: dict[TopicPartition, list[Record]] = {}
    for one in snapshot.partitions:
        records, at, reader = found.setdefault(one.tp, []), one.offsets.start, None
        for call in itertools.count():
            if at >= one.offsets.stop:
                break
            if reader is None or (resume_every is not None and call % resume_every == 0):
                reader = LogReader(one.tp, kafka, archive, ReadOptions(), SYSTEM_CLOCK)
            step = reader.read(at, stop=one.offsets.stop, max_records=max_records, timeout_ms=0)
            assert isinstance(step, Progress), f"nothing was to be waited for, got {step}"
            records += [] if step.batch is None else step.batch.records()
            at = step.next_offset
    return found


class TaggedFiles(MemoryFileSystem):
    """An object store in memory, `tagged://`: every file has an ETag, another one each time it is written."""

    protocol = "tagged"
    cachable = False
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the class above
    pseudo_dirs = [""]  # noqa: RUF012

    def find(self, path, detail=False, **kwargs):
        found = super().find(path, detail=True, **kwargs)
        return {name: self._tagged(one) for name, one in found.items()} if detail else list(found)

    def info(self, path, **kwargs):
        return self._tagged(super().info(path, **kwargs))

    def _tagged(self, found):
        if found["type"] == "directory":
            return found
        return {**found, "ETag": f'"{self.store[found["name"]].created.isoformat()}"'}
