"""Whether an archive is whole, and what Kafka holds is what was archived. Finds, never repairs.

Two depths. Files: gaps, overlaps, open claims, orphans, commit objects, and whether each data file is there and as long as its
commit says; listings and commit objects alone. Deep: each file is read, with its checksums, and what Kafka still holds
is compared record by record.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from beam_unified.archive import layout
from beam_unified.archive.ahead import Threads
from beam_unified.archive.archive import Archive
from beam_unified.archive.commits import Commit
from beam_unified.archive.pins import serving
from beam_unified.archive.reader import CommittedFlush
from beam_unified.archive.storage import FileInfo, Storage
from beam_unified.archiver.upkeep import find_orphans
from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.errors import CorruptArchiveError, UnifiedLogError
from beam_unified.flushes import Flush
from beam_unified.inspection.committed import commit_path, read_commits
from beam_unified.inspection.coverage import overlaps
from beam_unified.inspection.survey import PartitionSurvey, survey
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.reading.reader import Gap, LogReader, NothingYet, ReadOptions
from beam_unified.reading.scan import scan
from beam_unified.records import Record
from beam_unified.stores import FlushReader, KafkaLog, KafkaSource

_READ_RECORDS = 16_384
_KAFKA_ALONE = ReadOptions(on_gap="skip", gap_timeout=timedelta(0))

Severity = Literal["error", "warning"]
Kind = Literal[
    "gap",  # neither store has the offsets
    "archive-gap",  # Kafka has them, no flush has: retention will take them
    "overlap",  # two flushes have them; this package reads them once, a plain reader of the files twice
    "open-claim",  # a flush that an archiver is writing, or has died over
    "orphan",  # a file of no flush: half a flush, an upload that was cut short
    "commit",  # a commit object that cannot be read, or of another isolation level
    "missing-file",
    "file-size",
    "unreadable-file",
    "differs",  # a record of Kafka is another one in the archive
    "only-in-kafka",  # a record inside of a flush's range that the flush has not got
    "only-in-archive",  # the other way round: what compaction does, and nothing else should
]
_WARNINGS = {"overlap", "open-claim", "orphan", "only-in-archive"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: What.
        tp: Of which partition; None where that is not known.
        offsets: Which offsets are concerned; None where that is not known.
        path: File, relative to the topic's folder.
        detail: In words.
    """

    kind: Kind
    tp: TopicPartition | None = None
    offsets: OffsetRange | None = None
    path: str | None = None
    detail: str

    @property
    def severity(self) -> Severity:
        """A warning is nothing that this package's readers would notice."""
        return "warning" if self.kind in _WARNINGS else "error"


def verify(
    topic: str,
    kafka: KafkaSource,
    archive: Archive,
    *,
    deep: bool = False,
    on_flush: Callable[[int, int], None] = lambda _done, _of: None,
) -> Iterator[Finding]:
    """Everything that is wrong with a topic's archive, as it is found.

    Args:
        topic: Name.
        kafka: The Kafka half.
        archive: The archive half.
        deep: Read every file, and compare with Kafka.
        on_flush: Called with how many flushes of how many are done.

    Raises:
        StoreError: a store that does not answer, or does not hold the topic.
    """
    storage = archive.storage()
    with closing(kafka.connect()) as log, closing(archive.connect()) as connected:
        with contextlib.suppress(CorruptArchiveError):  # the newest commit object: it is looked at below, as all are
            connected.check(topic, isolation_level=kafka.isolation_level)
        found = list(survey(topic, log, connected))
        listed = storage.files(topic)  # after the commits: the files of each were there before it
        flushes = sum(len(one.index) for one in found)
        yield from _left_behind(archive, topic, listed)
        done = 0
        for one in found:
            yield from _coverage(one)
            for flush, commit in read_commits(storage, one.tp, list(one.index), kafka.isolation_level):
                yield from _flush(storage, one, flush, commit, listed=listed, kafka=log if deep else None)
                done += 1
                on_flush(done, flushes)


def _coverage(found: PartitionSurvey) -> Iterator[Finding]:
    tp = found.tp
    for gap in found.gaps:
        yield Finding(kind="gap", tp=tp, offsets=gap, detail="neither store has these offsets")
    if found.archived is not None:
        for missing in serving(found.index, found.archived)[1]:
            start, stop = max(missing.start, found.held.start), min(missing.stop, found.held.stop)
            if start < stop:
                yield Finding(
                    kind="archive-gap",
                    tp=tp,
                    offsets=OffsetRange(start, stop),
                    detail="only Kafka has these offsets, and no archiver goes back for them: `snapshot take --archive-missing`",
                )
    for first, second in overlaps(found.index):
        yield Finding(
            kind="overlap",
            tp=tp,
            offsets=OffsetRange(second.start, min(first.stop, second.stop)),
            path=commit_path(tp.partition, second),
            detail=f"flush [{first.start}, {first.stop}) has them, too",
        )


def _left_behind(archive: Archive, topic: str, listed: dict[str, FileInfo]) -> Iterator[Finding]:
    for path in sorted(listed):
        if path.startswith("_claims/"):
            yield Finding(
                kind="open-claim",
                path=path,
                detail="an archiver is writing this flush, or died over it and the next finishes it",
            )
    try:
        orphans = find_orphans(archive, topic)
    except CorruptArchiveError as error:
        yield Finding(kind="open-claim", detail=str(error))
        return
    for path in orphans.paths:
        part = layout.parse_part(path)
        yield Finding(
            kind="orphan",
            tp=None if part is None else TopicPartition(topic, part[0].partition),
            offsets=None if part is None else OffsetRange(part[0].start, part[0].stop),
            path=path,
            detail="no commit and no claim names this file: beam_unified.remove_orphans removes it",
        )


def _flush(
    storage: Storage,
    found: PartitionSurvey,
    flush: Flush,
    commit: Commit | UnifiedLogError,
    *,
    listed: dict[str, FileInfo],
    kafka: KafkaLog | None,
) -> Iterator[Finding]:
    tp, offsets = found.tp, OffsetRange(flush.start, flush.stop)
    if isinstance(commit, UnifiedLogError):
        path = commit_path(tp.partition, flush)
        yield Finding(kind="commit", tp=tp, offsets=offsets, path=path, detail=str(commit))
        return
    whole = True
    for part in commit.parts:
        info = listed.get(part.path)
        if info is None:
            whole = False
            yield Finding(
                kind="missing-file", tp=tp, offsets=offsets, path=part.path, detail="its flush is committed: restore it"
            )
        elif info.size_bytes != part.size_bytes:
            whole = False
            yield Finding(
                kind="file-size",
                tp=tp,
                offsets=offsets,
                path=part.path,
                detail=f"{info.size_bytes} bytes, its commit says {part.size_bytes}: truncated or replaced",
            )
    if whole and kafka is not None:
        try:
            yield from _content(storage, found, commit, kafka)
        except CorruptArchiveError as error:
            yield Finding(kind="unreadable-file", tp=tp, offsets=offsets, detail=str(error))


def _content(storage: Storage, found: PartitionSurvey, commit: Commit, kafka: KafkaLog) -> Iterator[Finding]:
    """Reads a flush to its end, beside Kafka where that holds its offsets."""
    tp, flush = found.tp, commit.flush
    start, stop = max(flush.start, found.held.start), min(flush.stop, found.held.stop)
    with (
        closing(Threads()) as threads,
        closing(_archived(CommittedFlush(storage, tp, commit, flush.start, threads))) as archived,
    ):
        yield from _differences(tp, archived, _from_kafka(tp, kafka, start, stop), start, stop)


def _archived(reader: FlushReader) -> Generator[Record]:
    try:
        while (batch := reader.read(_READ_RECORDS)) is not None:
            yield from batch.iter_records()
    finally:
        reader.close()


def _from_kafka(tp: TopicPartition, kafka: KafkaLog, start: int, stop: int) -> Iterator[Record | Gap]:
    """Records of a range; a `Gap` where retention has passed meanwhile."""
    if start >= stop:
        return
    reader = LogReader(tp, kafka, None, _KAFKA_ALONE, SYSTEM_CLOCK)
    for step in scan(reader, tp, start, stop, clock=SYSTEM_CLOCK):
        if isinstance(step, Gap):
            yield step
        elif not isinstance(step, NothingYet) and step.batch is not None:
            yield from step.batch.iter_records()


@dataclass(slots=True)
class _Tally:
    """Offsets of one kind of difference in a flush: the first and last of them, and how many."""

    kind: Kind
    first: int = 0
    last: int = 0
    count: int = 0

    def add(self, offset: int) -> None:
        self.first = self.first if self.count else offset
        self.last = offset
        self.count += 1

    def findings(self, tp: TopicPartition) -> Iterator[Finding]:
        if self.count:
            yield Finding(
                kind=self.kind,
                tp=tp,
                offsets=OffsetRange(self.first, self.last + 1),
                detail=f"{self.count} records, the first at offset {self.first}",
            )


def _differences(
    tp: TopicPartition, archived: Iterator[Record], in_kafka: Iterator[Record | Gap], start: int, stop: int
) -> Iterator[Finding]:
    """Goes through both in offset order; every archived record is read, those in `[start, stop)` are compared."""
    differs, only_kafka, only_archive = _Tally("differs"), _Tally("only-in-kafka"), _Tally("only-in-archive")
    mine, theirs, forgotten = next(archived, None), next(in_kafka, None), start
    while mine is not None or theirs is not None:
        if isinstance(theirs, Gap):
            forgotten, theirs = theirs.next_offset, next(in_kafka, None)
        elif mine is None or (theirs is not None and theirs.offset < mine.offset):
            assert theirs is not None
            only_kafka.add(theirs.offset)
            theirs = next(in_kafka, None)
        elif theirs is None or mine.offset < theirs.offset:
            if forgotten <= mine.offset < stop:
                only_archive.add(mine.offset)
            mine = next(archived, None)
        else:
            if mine[:8] != theirs[:8]:  # all but the store
                differs.add(mine.offset)
            mine, theirs = next(archived, None), next(in_kafka, None)
    for tally in (differs, only_kafka, only_archive):
        yield from tally.findings(tp)
