"""Dead letters: what could not be given as a record, as a value that can be written somewhere and looked into (B1).

Made by the splittable DoFn, and only where the pipeline asked for the output; else the same thing is an error.
"""

from typing import NamedTuple

from beam_unified.errors import BadRecordError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.records import Headers, KafkaRecord, Record


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

_CONNECT = "__connect.errors."


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


def connect_record(letter: DeadLetter, *, stage: str = "VALUE_CONVERTER") -> KafkaRecord:
    """A dead letter as a record for `WriteKafka`, with the headers of Kafka Connect's dead letter queue (KIP-298).

    Key, value, headers and timestamp are the record's own, so that whoever can read the topic can read these; the headers
    `__connect.errors.topic`, `.partition`, `.offset`, `.stage`, `.exception.class.name` and `.exception.message` come behind. A
    skipped gap has no record: its value is the error in words, and `__connect.errors.stop` says where it ends.

    Args:
        letter: From `Results.dead_letters`.
        stage: What Connect calls the step that failed.
    """
    said = {
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "stage": stage,
        "exception.class.name": letter.reason,
        "exception.message": letter.error,
    }
    record = letter.record
    if record is None:
        said["stop"] = str(letter.stop)
    errors: Headers = tuple((f"{_CONNECT}{name}", text.encode()) for name, text in said.items())
    if record is None:
        return KafkaRecord(letter.error.encode(), None, errors)
    own = tuple((name, b"" if value is None else value) for name, value in record.headers)
    # A record without key and value cannot be written: an empty value stands for it, and the coordinates tell the rest.
    value = b"" if record.key is None and record.value is None else record.value
    return KafkaRecord(value, record.key, own + errors, record.timestamp)
