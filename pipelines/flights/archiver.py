"""A small archiver, enough for a demo: what Kafka holds beyond the archive's end becomes one flush a partition."""

from collections.abc import Iterator

from beam_unified import Archive, Kafka, Record, TopicPartition
from beam_unified.archive.writer import write_flush
from beam_unified.stores import Fetched, KafkaLog, OutOfRange

_FETCH_RECORDS = 10_000
_FETCH_TIMEOUT_MS = 100


class Archiver:
    """Follows a topic, from its beginning.

    Attributes:
        archived: Per partition the offset at which the archive ends (exclusive), as its commits say.
    """

    def __init__(self, topic: str, kafka: Kafka, archive: Archive) -> None:
        """Connects."""
        self._topic = topic
        self._archive = archive
        self._log = kafka.connect()
        self.archived = dict.fromkeys(self._log.partitions(topic), 0)

    def run_once(self) -> None:
        """Archives everything that is in Kafka now."""
        for partition, start in self.archived.items():
            tp = TopicPartition(self._topic, partition)
            stop = self._log.bounds(tp).stop
            if stop > start:
                records = list(_read(self._log, tp, start, stop))
                commit = write_flush(self._archive, tp, records, start=start, stop=stop)
                self.archived[partition] = commit.flush.stop

    def close(self) -> None:
        """Disconnects."""
        self._log.close()


def _read(log: KafkaLog, tp: TopicPartition, start: int, stop: int) -> Iterator[Record]:
    while start < stop:
        fetched = log.fetch(tp, start, max_records=_FETCH_RECORDS, timeout_ms=_FETCH_TIMEOUT_MS)
        match fetched:
            case OutOfRange(held=held):
                raise RuntimeError(f"{tp}: Kafka holds {held}, offset {start} was forgotten before it was archived")
            case Fetched(batch=batch, next_offset=next_offset):
                if batch is not None:
                    yield from batch.between(start, stop).records()
                start = next_offset
