"""The Kafka half of a replay: topics whose records have all gone to the archive. No broker is asked, none need exist (R9)."""

from collections.abc import Mapping
from dataclasses import dataclass

from beam_unified.errors import UnknownTopicError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.stores import Fetched, OutOfRange


@dataclass(frozen=True, slots=True)
class AbsentKafka:
    """Description and connection in one; implements `stores.KafkaSource` and `stores.KafkaLog`. Holds nothing.

    Args:
        ends: Partition -> end offset of its log.
        isolation_level: As the archive was written under.
    """

    ends: Mapping[TopicPartition, int]
    isolation_level: str

    def connect(self) -> "AbsentKafka":
        """Itself."""
        return self

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Partition numbers. Raises UnknownTopicError."""
        found = tuple(sorted(tp.partition for tp in self.ends if tp.topic == topic))
        if not found:
            raise UnknownTopicError(f"the snapshot does not hold topic {topic!r}, but {', '.join(self.topics())}.")
        return found

    def topics(self) -> tuple[str, ...]:
        """Names."""
        return tuple(sorted({tp.topic for tp in self.ends}))

    def topic_id(self, topic: str) -> str | None:
        """Not known."""
        del topic
        return None

    def bounds(self, tp: TopicPartition) -> OffsetRange:
        """Nothing, at the end of the log."""
        end = self.ends[tp]
        return OffsetRange(end, end)

    def offset_at(self, tp: TopicPartition, timestamp_ms: int) -> int | None:
        """None."""
        del tp, timestamp_ms
        return None

    def fetch(
        self, tp: TopicPartition, offset: int, *, max_records: int, timeout_ms: int, leader_epoch: int | None = None
    ) -> Fetched | OutOfRange:
        """The end of the log, or an offset that is not held. Never waits."""
        del max_records, timeout_ms
        held = self.bounds(tp)
        if offset != held.stop:
            return OutOfRange(held=held)
        return Fetched(batch=None, next_offset=offset, high_watermark=offset, at_end=True, leader_epoch=leader_epoch)

    def close(self) -> None:
        """Nothing to give back."""
