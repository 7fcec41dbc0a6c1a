"""Where the parts of a log are: one look at both stores, a partition each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from beam_unified.flushes import FlushIndex
from beam_unified.inspection.coverage import Stretch, gaps, stretches
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.reading.choice import FromArchive, FromKafka
from beam_unified.stores import ArchiveLog, KafkaLog


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSurvey:
    """What both stores hold of a partition.

    Attributes:
        tp: Which.
        held: What Kafka holds.
        index: What the archive holds.
    """

    tp: TopicPartition
    held: OffsetRange
    index: FlushIndex

    @property
    def archived(self) -> OffsetRange | None:
        """From the first archived offset to the end of the last flush; None where there is no flush."""
        start, stop = self.index.start, self.index.stop
        return None if start is None or stop is None else OffsetRange(start, stop)

    @property
    def whole(self) -> OffsetRange:
        """From the first offset of either store to the end of the log."""
        archived = self.archived
        if archived is None:
            return self.held
        start = archived.start if self.held.start == self.held.stop else min(archived.start, self.held.start)
        return OffsetRange(start, max(archived.stop, self.held.stop))

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """What a reader of all of it would read where."""
        return stretches(self.whole, index=self.index, held=self.held)

    @property
    def gaps(self) -> tuple[OffsetRange, ...]:
        """What neither store has, although both earlier and later records exist."""
        return gaps(self.stretches)

    @property
    def handoff(self) -> int | None:
        """Where a reader of all of it leaves the archive for Kafka the last time; None where it reads one store only."""
        found = self.stretches
        if not any(isinstance(one.served, FromArchive) for one in found):
            return None
        if isinstance(found[-1].served, FromKafka):
            return found[-1].offsets.start
        return self.held.stop if self.index.stop == self.held.stop else None

    @property
    def lag(self) -> int:
        """How many offsets at the end of Kafka's log are not archived: what an archiver has still to do. An estimate of records."""
        return max(0, self.held.stop - max(self.index.stop or 0, self.held.start))

    @property
    def newest_archived_ms(self) -> int | None:
        """Largest Kafka timestamp in the archive."""
        return max((one.max_timestamp for one in self.index if one.max_timestamp is not None), default=None)


def survey(
    topic: str, kafka: KafkaLog, archive: ArchiveLog | None, partitions: Sequence[int] | None = None
) -> Iterator[PartitionSurvey]:
    """Looks at every partition, or at some. Kafka first: what it forgets later is in the newer listing."""
    for number in kafka.partitions(topic) if partitions is None else partitions:
        tp = TopicPartition(topic, number)
        held = kafka.bounds(tp)
        index = FlushIndex() if archive is None else archive.index(tp, refresh=True)
        yield PartitionSurvey(tp=tp, held=held, index=index)
