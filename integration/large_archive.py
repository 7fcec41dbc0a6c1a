"""An archive of very many flushes on the S3 server, made fast; and how much a reader asks of that server.

Commit objects alone, written straight into the folder that the server serves: 100,000 of them over the protocol would take minutes.
One flush in the middle of partition 0 has its file, so that a reader gets a record.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from beam_unified import Archive, Record, TopicPartition
from beam_unified.archive import commits, layout
from beam_unified.archive.commits import Commit, Part
from beam_unified.archive.layout import PartName
from beam_unified.archive.writer import write_flush
from beam_unified.flushes import Flush
from beam_unified.records import TimestampType
from integration.services.object_store import ObjectStore

DAYS = 7
START_MS = 1_794_830_400_000
MIDDLE_MS = START_MS + DAYS * 43_200_000
RECORDS = 1_000
"""Of a flush."""

_SPAN_MS = DAYS * 86_400_000


@dataclass(frozen=True, slots=True)
class LargeArchive:
    """A topic's archive: `own` flushes of partition 0 over a week, and `elsewhere` ones of all others together."""

    archive: Archive
    topic: str
    partitions: int
    own: int
    elsewhere: int

    @classmethod
    def write(
        cls, store: ObjectStore, bucket: str, topic: str, *, own: int, elsewhere: int, partitions: int = 64
    ) -> "LargeArchive":
        """Makes it."""
        made = cls(Archive(f"s3://{bucket}/merced", store.storage_options), topic, partitions, own, elsewhere)
        root = store.run.path("s3", "buckets") / bucket / "merced" / topic
        for commit in made.commits():
            folder = root / layout.commits_folder(commit.partition)
            if commit.flush.start == 0:
                folder.mkdir(parents=True)
            (folder / layout.commit_name(commit.flush)).write_bytes(commits.encode(commit))
        tp, flush = TopicPartition(topic, 0), made._flush(own // 2, own)
        write_flush(made.archive, tp, made._records(flush), start=flush.start, stop=flush.stop)
        return made

    def commits(self) -> Iterator[Commit]:
        """Every commit, partition by partition."""
        for partition in range(self.partitions):
            count = self.own
            if partition:
                count, more = divmod(self.elsewhere, self.partitions - 1)
                count += partition <= more
            yield from (self._commit(partition, self._flush(number, count)) for number in range(count))

    @staticmethod
    def _flush(number: int, count: int) -> Flush:
        began = START_MS + _SPAN_MS * number // count
        return Flush(number * RECORDS, (number + 1) * RECORDS, began, began + RECORDS - 1)

    def _commit(self, partition: int, flush: Flush) -> Commit:
        name = PartName(partition=partition, start=flush.start, stop=flush.stop, part=1, parts=1)
        path = layout.part_path(name, layout.hour_of(flush.min_timestamp))
        parts = (Part(path=path, size_bytes=100_000, rows=RECORDS),)
        return Commit(topic=self.topic, partition=partition, flush=flush, isolation_level="read_committed", parts=parts)

    def _records(self, flush: Flush) -> Iterator[Record]:
        kind, began = TimestampType.CREATE_TIME, flush.min_timestamp or 0
        for offset in range(flush.start, flush.stop):
            yield Record(None, b"%d" % offset, (), self.topic, 0, offset, began + offset - flush.start, kind, "kafka")


@dataclass(slots=True)
class Requests:
    """What was asked of the server: how many of each operation, and how many bytes the answers to listings had."""

    operations: Counter[str] = field(default_factory=Counter)
    listing_bytes: int = 0

    @property
    def listings(self) -> int:
        """How many."""
        return self.operations["ListObjectsV2"]

    def note(self, http_response: Any, model: Any, **_more: object) -> None:
        """An answer, as botocore tells of it."""
        self.operations[model.name] += 1
        if model.name == "ListObjectsV2":
            self.listing_bytes += int(http_response.headers["content-length"])


@contextmanager
def counted(archive: Archive) -> Iterator[Requests]:
    """Counts what this thread's connections to an archive ask; fsspec gives all of them one file system."""
    files, _ = archive.file_system()
    files.connect()
    requests, events = Requests(), files.s3.meta.events
    events.register("after-call.s3", requests.note)
    try:
        yield requests
    finally:
        events.unregister("after-call.s3", requests.note)
