"""Which store serves an offset. Pure: derived from the offset each time, never remembered (rules R1, R2, R5).

There is no "archive finished" flag anywhere. A reader whose offset has fallen off Kafka's retention asks the same
question again and is sent back to the archive; the handoff is not an event but an answer that changes.
"""

from dataclasses import dataclass
from typing import Literal

from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange

Prefer = Literal["archive", "kafka"]


@dataclass(frozen=True, slots=True)
class FromArchive:
    """Read this flush, from the offset on."""

    flush: Flush


@dataclass(frozen=True, slots=True)
class FromKafka:
    """Ask Kafka for the offset."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Neither store has the offset, although later records exist: a gap."""

    offsets: OffsetRange


@dataclass(frozen=True, slots=True)
class Truncated:
    """The offset is above the end of Kafka's log: the log was cut, or the topic created anew."""

    held: OffsetRange


Choice = FromArchive | FromKafka | Missing | Truncated


def choose(offset: int, *, index: FlushIndex, not_in_kafka: OffsetRange | None, prefer: Prefer) -> Choice:
    """Decides where `offset`, the next one wanted, is read.

    Args:
        offset: The next offset.
        index: What the archive holds, as last listed.
        not_in_kafka: What Kafka holds, where Kafka has just said that it does not hold `offset`; else None.
        prefer: Which store to use where both have it.
    """
    flush = index.covering(offset)
    if flush is not None and (prefer == "archive" or not_in_kafka is not None):
        return FromArchive(flush)
    if not_in_kafka is None or offset in not_in_kafka or offset == not_in_kafka.stop:
        return FromKafka()
    if offset > not_in_kafka.stop:
        return Truncated(not_in_kafka)
    archived_again = index.next_start(offset)
    return Missing(OffsetRange(offset, min(not_in_kafka.start, archived_again or not_in_kafka.start)))
