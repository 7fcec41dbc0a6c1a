"""A place in the log: (topic partition, offset of the NEXT record). Nothing else is a position here.

Offsets are Kafka's. They grow but are not dense (transaction markers, aborted transactions, compaction), so the
difference of two offsets is never a count of records; where it serves as one (backlog), it is called an estimate.
"""

from dataclasses import dataclass

MAX_OFFSET = 2**63 - 1
"""Largest offset the protocol can carry (int64)."""


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Offsets `start <= offset < stop`. May be empty."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop <= MAX_OFFSET:
            raise ValueError(f"offset range needs 0 <= start <= stop, got [{self.start}, {self.stop})")

    def __contains__(self, offset: int) -> bool:
        return self.start <= offset < self.stop

    def __str__(self) -> str:
        return f"[{self.start}, {self.stop})"
