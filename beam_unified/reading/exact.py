"""Records of one partition by their coordinates, from whichever store holds them: all of them, or said to be missing.

For replays of dead letters, a block of offsets at a time. `reader` does the reading; what lies between is read and left out.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from beam_unified.clock import Clock
from beam_unified.errors import DataLossError, KafkaUnavailableError, UnknownTopicError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.reading.reader import Gap, LogReader, NothingYet
from beam_unified.records import Batch, ListBatch

_BATCH_RECORDS = 4_096
_FETCH_MS = 100
_SILENCE_S = 30.0  # how long a broker, or an open transaction, may keep us from an offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Wanted offsets that are in neither store.

    Attributes:
        offsets: Without a hole.
        why: In words.
    """

    offsets: OffsetRange
    why: str


def read_exactly(
    reader: LogReader, tp: TopicPartition, wanted: Collection[int], must_exist: Collection[int], clock: Clock
) -> Iterator[Batch | Missing]:
    """Reads wanted offsets, in order, and says which are missing.

    Args:
        reader: Of `tp`, with `on_gap="skip"`, that waits for no late file.
        tp: For messages.
        wanted: Offsets; not empty, and close to each other.
        must_exist: Those of them that a record was seen at. Of the others only what lies in a gap is missing: they may be holes.
        clock: For how long a silent broker is waited for.

    Raises:
        KafkaUnavailableError: no answer for half a minute, or an open transaction before an offset.
    """
    asked = frozenset(wanted)
    left, lost = set(must_exist), set[int]()
    offset, stop, since, looked = min(asked), max(asked) + 1, clock.monotonic(), False
    why = "Kafka has compacted them away, or they are of another topic of this name"
    while offset < stop:
        try:
            step = reader.read(offset, stop=stop, max_records=_BATCH_RECORDS, timeout_ms=_FETCH_MS)
        except (
            DataLossError,
            UnknownTopicError,
        ) as error:  # above the end of the log, or a log that was cut, or is no more
            lost, why = {one for one in asked if one >= offset}, str(error)
            break
        if isinstance(step, NothingYet):
            if step.at_end:
                lost, why = {one for one in asked if one >= offset}, f"the log ends at offset {offset}"
                break
            if not looked and not reader.in_kafka():  # which would be silent for ever
                lost, why = (
                    {one for one in asked if one >= offset},
                    "Kafka has no such topic or partition, or hides it from us",
                )
                break
            looked = True
            if clock.monotonic() - since > _SILENCE_S:
                raise KafkaUnavailableError(
                    f"{tp}: offset {offset} cannot be read: no answer from Kafka, or an open transaction, for "
                    f"{_SILENCE_S:.0f} s. Check the brokers, and replay again."
                )
            continue
        since = clock.monotonic()
        if isinstance(step, Gap):
            gone = {one for one in asked if one in step.offsets}
            yield from _runs(gone, "Kafka's retention has passed them and no file of the archive holds them")
            left -= gone
        elif step.batch is not None and (batch := _among(step.batch, asked)):
            left.difference_update(batch.offsets())
            yield batch
        offset = step.next_offset
    yield from _runs(left | lost, why)


def _among(batch: Batch, asked: Collection[int]) -> Batch:
    """The records of a batch that were asked for."""
    if all(offset in asked for offset in batch.offsets()):
        return batch
    return ListBatch([record for record in batch.iter_records() if record.offset in asked], batch.store)


def _runs(offsets: Collection[int], why: str) -> Iterator[Missing]:
    """Neighbours together."""
    start: int | None = None
    for offset in sorted(offsets):
        if start is None:
            start = offset
        if offset + 1 not in offsets:
            yield Missing(offsets=OffsetRange(start, offset + 1), why=why)
            start = None
