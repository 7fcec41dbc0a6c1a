"""Dead letters: what could not be given as a record, as a value that can be written somewhere and looked into (B1).

Made by the splittable DoFn, and only where the pipeline asked for the output; else the same thing is an error.
"""

from typing import NamedTuple

from beam_unified.errors import BadRecordError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.records import Record


class DeadLetter(NamedTuple):
    """Offsets of one partition that are not among the records, and why.

    Attributes:
        topic: Name of the topic.
        partition: Number of the partition.
        offset: First offset that is not given.
        stop: Offset after the last one that is not given; `offset + 1` for a single record.
        reason: "gap": neither store has the offsets (R5). "event time": the record has none. "decoding": its value means
            nothing to the decoder.
        error: What was wrong, in words; what the pipeline would have failed with.
        record: The record with its raw bytes; None for a gap.
    """

    topic: str
    partition: int
    offset: int
    stop: int
    reason: str
    error: str
    record: Record | None


GAP = "gap"
NO_EVENT_TIME = "event time"
NOT_DECODED = "decoding"


def of_gap(tp: TopicPartition, missing: OffsetRange) -> DeadLetter:
    """For a gap that was skipped."""
    error = (
        f"{tp}: offsets {missing.start} to {missing.stop - 1} are in neither store, although later records exist; skipped. "
        "Restore the missing flush and read the range again, with Start.offsets and Stop.offsets."
    )
    return DeadLetter(tp.topic, tp.partition, missing.start, missing.stop, GAP, error, None)


def of_record(record: Record, error: BadRecordError, reason: str) -> DeadLetter:
    """For a record that cannot be used."""
    offset = record.offset
    return DeadLetter(record.topic, record.partition, offset, offset + 1, reason, str(error), record)
