"""From what users say (`Start`, `Stop`) to offsets, over both stores (rule R6). Asks the stores; decides nothing else."""

from dataclasses import dataclass
from typing import assert_never

from beam_unified.flushes import Flush
from beam_unified.offsets import TopicPartition
from beam_unified.positions import AtOffsets, AtTimestamp, Earliest, Latest, TopicStart, TopicStop
from beam_unified.stores import ArchiveLog, KafkaLog, MayEndEarly

_SCAN_RECORDS = 16_384  # records read at a time when a flush is searched for an instant


@dataclass(frozen=True, slots=True)
class StopBefore:
    """A stop in the future: before the first record with a timestamp >= `timestamp_ms`, whichever offset it will get."""

    timestamp_ms: int


def resolve_start(position: TopicStart, tp: TopicPartition, kafka: KafkaLog, archive: ArchiveLog | None) -> int:
    """The first offset to read."""
    match position:
        case Earliest():
            starts = [kafka.bounds(tp).start]
            if archive is not None and (archived := archive.index(tp).start) is not None:
                starts.append(archived)
            return min(starts)
        case Latest():
            return _end(tp, kafka, archive)
        case AtOffsets():
            offset = position.get(tp.partition)
            if offset is None:
                raise KeyError(f"no start offset for {tp}; check_covers was not called")
            return offset
        case AtTimestamp(timestamp_ms):
            found = _first_at(timestamp_ms, tp, kafka, archive)
            return _end(tp, kafka, archive) if found is None else found
        case _:
            assert_never(position)


def resolve_stop(
    position: TopicStop, tp: TopicPartition, kafka: KafkaLog, archive: ArchiveLog | None, *, now_ms: int
) -> int | StopBefore:
    """The offset to stop before; or, for an instant that is still to come, the instant."""
    match position:
        case AtOffsets():
            offset = position.get(tp.partition)
            if offset is None:
                raise KeyError(f"no stop offset for {tp}; check_covers was not called")
            return offset
        case AtTimestamp(timestamp_ms):
            found = _first_at(timestamp_ms, tp, kafka, archive)
            if found is not None:
                return found
            return _end(tp, kafka, archive) if timestamp_ms <= now_ms else StopBefore(timestamp_ms)
        case _:
            assert_never(position)


def _end(tp: TopicPartition, kafka: KafkaLog, archive: ArchiveLog | None) -> int:
    """The end offset of the log: Kafka's, unless the archive reaches further (a topic created anew, an empty broker)."""
    archived = None if archive is None else archive.index(tp).stop
    return max(kafka.bounds(tp).stop, archived or 0)


def _first_at(timestamp_ms: int, tp: TopicPartition, kafka: KafkaLog, archive: ArchiveLog | None) -> int | None:
    """The first offset of either store with a timestamp >= `timestamp_ms`. Both are asked: neither may know it all."""
    found = [kafka.offset_at(tp, timestamp_ms), None if archive is None else _first_archived(timestamp_ms, tp, archive)]
    return min((offset for offset in found if offset is not None), default=None)


def _first_archived(timestamp_ms: int, tp: TopicPartition, archive: ArchiveLog) -> int | None:
    searched_to, ended_early = 0, True
    while ended_early:  # what reading has found missing divides the flush: the index knows the rest of it by now
        ended_early = False
        for flush in archive.index(tp).reaching(timestamp_ms):
            if flush.stop <= searched_to:
                continue
            found, stop = _first_in(flush, max(flush.start, searched_to), timestamp_ms, tp, archive)
            if found is not None:
                return found
            searched_to, ended_early = max(searched_to, stop), stop < flush.stop
            if ended_early:
                break
    return None


def _first_in(
    flush: Flush, start: int, timestamp_ms: int, tp: TopicPartition, archive: ArchiveLog
) -> tuple[int | None, int]:
    """The first offset of a flush, from `start` on, at or after the instant, and where the flush has ended."""
    reader = archive.open(tp, flush, start)
    try:
        while (batch := reader.read(_SCAN_RECORDS)) is not None:
            for offset, timestamp in zip(batch.offsets(), batch.timestamps(), strict=True):
                if timestamp is not None and timestamp >= timestamp_ms:
                    return offset, flush.stop
        return None, reader.stop if isinstance(reader, MayEndEarly) else flush.stop
    finally:
        reader.close()
