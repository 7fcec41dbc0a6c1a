"""Dead letters: what could not be given as a record, as a value that can be written somewhere and looked into (B1).

Made by the splittable DoFn, and only where the pipeline asked for the output; else the same thing is an error.
"""

from collections.abc import Mapping
from operator import index
from typing import NamedTuple, SupportsIndex

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
            nothing to the decoder. "missing": it was to be replayed, and is in neither store.
        error: What was wrong, in words; what the pipeline would have failed with.
        record: The record with its raw bytes; None for a gap, and for what is missing.
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
MISSING = "missing"

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


class Coordinates(NamedTuple):
    """Where in the log something is that is to be read again.

    Attributes:
        topic: Name of the topic.
        partition: Number of the partition.
        start: First offset.
        stop: Offset after the last one.
        exact: Whether a record was seen at each offset. In a range that was a gap nobody knows.
    """

    topic: str
    partition: int
    start: int
    stop: int
    exact: bool


def coordinates(letter: object) -> Coordinates:
    """Of a `DeadLetter`, a `Record` with Connect's error headers, or a (topic, partition, offset).

    Raises:
        BadRecordError: it is none of these, its headers do not say where it comes from, or no record can be there.
    """
    match letter:
        case DeadLetter():
            exact = letter.record is not None or letter.reason == MISSING
            return _checked(Coordinates(letter.topic, letter.partition, letter.offset, letter.stop, exact))
        case Record():
            return _of_headers(letter)
        case (str(topic), SupportsIndex() as partition, SupportsIndex() as offset):  # numpy's integers, too
            return _checked(Coordinates(topic, index(partition), index(offset), index(offset) + 1, exact=True))
        case _:
            raise BadRecordError(
                "a replay takes DeadLetter, Record (of a dead-letter topic, output='record') or (topic, partition, offset), "
                f"got {type(letter).__name__}: map to one of them first."
            )


def _checked(found: Coordinates) -> Coordinates:
    if found.partition < 0 or not 0 <= found.start < found.stop:
        raise BadRecordError(
            f"{found.topic}[{found.partition}] offsets {found.start} to {found.stop - 1} are no coordinates of records: partitions "
            "and offsets begin at 0. Filter it out."
        )
    return found


def _of_headers(record: Record) -> Coordinates:
    said = _said_last(record.headers)
    try:
        topic = said["topic"].decode()
        partition, offset = int(said["partition"]), int(said["offset"])
        stop = said.get("stop")
        # Of what is missing the record was seen once; a gap is known by its reason.
        exact = stop is None or said.get("exception.class.name") == MISSING.encode()
        found = Coordinates(topic, partition, offset, offset + 1 if stop is None else int(stop), exact)
    except (KeyError, ValueError) as error:
        raise BadRecordError(
            f"{record.topic}[{record.partition}] offset {record.offset} does not say where it comes from: it needs headers "
            f"{_CONNECT}topic, .partition and .offset, as connect_record and Kafka Connect write them. Filter it out."
        ) from error
    return _checked(found)


def _said_last(headers: Headers) -> dict[str, bytes]:
    """What the headers say of the last failure, by names without their beginning.

    A record that failed before brings headers of then, and those of a gap have a `stop` that others do not write again. The
    headers of a failure, ours and Connect's own, begin with the topic and come behind.
    """
    said = [(name.removeprefix(_CONNECT), value) for name, value in headers if name.startswith(_CONNECT)]
    topics = [at for at, (name, _) in enumerate(said) if name == "topic"]
    # One topic is one failure, in whatever order tools on the way left its headers.
    last = topics[-1] if len(topics) > 1 else 0
    return {name: value for name, value in said[last:] if value is not None}


def of_missing(tp: TopicPartition, missing: OffsetRange, why: str) -> DeadLetter:
    """For what a replay did not find."""
    error = (
        f"{tp}: offsets {missing.start} to {missing.stop - 1} were to be read again and are in neither store: {why}. Restore "
        "what held them, or take the bytes from the dead letter itself."
    )
    return DeadLetter(tp.topic, tp.partition, missing.start, missing.stop, MISSING, error, None)


def connect_record(letter: DeadLetter, *, stage: str = "VALUE_CONVERTER", max_bytes: int | None = None) -> KafkaRecord:
    """A dead letter as a record for `WriteKafka`, with the headers of Kafka Connect's dead letter queue (KIP-298).

    Key, value and headers are the record's own, so that whoever can read the topic can read these; the headers
    `__connect.errors.topic`, `.partition`, `.offset`, `.stage`, `.exception.class.name` and `.exception.message` come behind. A
    skipped gap has no record: its value is the error in words, and `__connect.errors.stop` says where it ends.

    The timestamp is the time of writing: with its own, the letter of an old record would be past the topic's retention as soon
    as it arrives. Its own, in milliseconds since the epoch, is in the header `__connect.errors.timestamp`.

    Args:
        letter: From `Results.dead_letters`.
        stage: What Connect calls the step that failed.
        max_bytes: The value is left out where key, value and headers are larger, and `__connect.errors.omitted` says how many
            bytes it had; the coordinates tell where it is. None leaves nothing out: the headers make a record larger than it
            was, and one that its own topic just held is too large for another with the same limit.
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
        return KafkaRecord(letter.error.encode(), None, _headers(said))
    if record.timestamp is not None:
        said["timestamp"] = str(record.timestamp)
    own = tuple((name, b"" if value is None else value) for name, value in record.headers)
    # A record without key and value cannot be written: an empty value stands for it, and the coordinates tell the rest.
    value = b"" if record.key is None and record.value is None else record.value
    written = KafkaRecord(value, record.key, own + _headers(said))
    if max_bytes is None or _size(written) <= max_bytes:
        return written
    # Empty, for None would be a tombstone.
    return written._replace(value=b"", headers=own + _headers({**said, "omitted": str(len(value or b""))}))


def _size(record: KafkaRecord) -> int:
    headers = sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _headers(said: Mapping[str, str]) -> Headers:
    return tuple((f"{_CONNECT}{name}", text.encode()) for name, text in said.items())
