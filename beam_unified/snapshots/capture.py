"""Takes a snapshot: offsets from start and stop, what is in the archive, what must be archived first. Called by `Snapshot`.

It asks both stores as a reader would, and writes only where `archive_missing` says so. A record that neither store holds is
an error here rather than in a replay years later.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from beam_unified.archive.archive import Archive, ConnectedArchive
from beam_unified.archive.pinning import pin_topic
from beam_unified.archive.pins import FingerprintKind, PinnedPartition, serving
from beam_unified.archive.writer import write_flush
from beam_unified.clock import Clock
from beam_unified.errors import ConfigError, DataLossError, KafkaUnavailableError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.positions import AtOffsets, PinnedStart, PinnedStop, start_of, stop_of
from beam_unified.reading.reader import Gap, LogReader, NothingYet, ReadOptions
from beam_unified.reading.resolve import StopBefore, resolve_start, resolve_stop
from beam_unified.records import Record
from beam_unified.stores import KafkaLog, KafkaSource

_LOGGER = logging.getLogger(__name__)

_SHOWN = 5
_FLUSH_RECORDS = 200_000  # of what is archived first: a flush is held in memory
_FLUSH_BYTES = 64 * 1024 * 1024
_FETCH_RECORDS = 10_000
_FETCH_TIMEOUT_MS = 500
_SILENCE_S = 30.0  # without a record or an answer

_Missing = tuple[TopicPartition, OffsetRange]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOptions:
    """What `Snapshot.capture` was asked for, checked and fixed in time."""

    start: PinnedStart
    stop: PinnedStop
    fingerprint: FingerprintKind | None
    archive_missing: bool
    clock: Clock


def capture(
    kafka: KafkaSource, archive: Archive, topics: Sequence[str], options: CaptureOptions
) -> tuple[PinnedPartition, ...]:
    """Pins topics; sorted by topic and partition. Raises as `Snapshot.capture`."""
    connected, log = ConnectedArchive(archive), kafka.connect()
    try:
        ranges: dict[TopicPartition, OffsetRange] = {}
        for topic in topics:
            connected.check(topic, isolation_level=kafka.isolation_level, must_exist=not options.archive_missing)
            ranges.update(_ranges(topic, log, connected, options))
        only_in_kafka = _only_in_kafka(ranges, log, connected)
        if only_in_kafka and not options.archive_missing:
            raise ConfigError(
                f"only Kafka holds {_shown(only_in_kafka)}, and its retention would take them from the snapshot: capture with "
                "archive_missing=True, which archives them first, or wait for the archiver and capture again."
            )
        for tp, offsets in only_in_kafka:
            _archive(tp, _read(tp, offsets, log, options.clock), offsets, archive, kafka.isolation_level)
        indexes = {tp: tuple(connected.index(tp, refresh=True)) for tp in ranges}
        storage = archive.storage()
        return tuple(
            pinned
            for topic in sorted(topics)
            for pinned in pin_topic(
                storage,
                topic,
                {tp.partition: (offsets, indexes[tp]) for tp, offsets in ranges.items() if tp.topic == topic},
                isolation_level=kafka.isolation_level,
                fingerprint=options.fingerprint,
            )
        )
    finally:
        log.close()
        connected.close()


def _ranges(
    topic: str, log: KafkaLog, archive: ConnectedArchive, options: CaptureOptions
) -> Iterator[tuple[TopicPartition, OffsetRange]]:
    """The range of every partition."""
    start, stop, numbers = start_of(options.start, topic), stop_of(options.stop, topic), log.partitions(topic)
    for option, position in (("start", start), ("stop", stop)):
        if isinstance(position, AtOffsets):
            position.check_covers(topic, numbers, option=option)
    now_ms = options.clock.now_ms()
    for number in numbers:
        tp = TopicPartition(topic, number)
        first = resolve_start(start, tp, log, archive)
        end = resolve_stop(stop, tp, log, archive, now_ms=now_ms)
        if isinstance(end, StopBefore):
            raise ConfigError(f"{tp}: a snapshot stops at what is there already, and {stop} is still to come.")
        yield tp, OffsetRange(first, max(first, end))


def _only_in_kafka(
    ranges: dict[TopicPartition, OffsetRange], log: KafkaLog, archive: ConnectedArchive
) -> list[_Missing]:
    """What Kafka holds and the archive does not. Raises where neither does."""
    found, lost = list[_Missing](), list[_Missing]()
    for tp, offsets in ranges.items():
        _, missing = serving(archive.index(tp, refresh=True), offsets)
        held = log.bounds(tp) if missing else OffsetRange(0, 0)
        for gap in missing:
            if gap.stop > held.stop:
                raise ConfigError(
                    f"{tp}: stop offset {gap.stop} is above the end of the log, offset {held.stop}: a snapshot stops at what "
                    "is there already."
                )
            if gap.start < held.start:
                lost.append((tp, OffsetRange(gap.start, min(gap.stop, held.start))))
            else:
                found.append((tp, gap))
    if lost:
        raise DataLossError(
            f"neither store holds {_shown(lost)}: restore the missing flushes, or take the snapshot from a later start."
        )
    return found


def _shown(missing: Sequence[_Missing]) -> str:
    shown = ", ".join(f"{tp} offsets {offsets.start} to {offsets.stop - 1}" for tp, offsets in missing[:_SHOWN])
    more = len(missing) - _SHOWN
    return f"{shown} and {more} more ranges" if more > 0 else shown


def _archive(
    tp: TopicPartition,
    read: Iterator[tuple[list[Record], int]],
    offsets: OffsetRange,
    archive: Archive,
    isolation_level: str,
) -> None:
    """Archives what only Kafka holds, in flushes small enough for the memory."""
    _LOGGER.info("%s: archiving offsets %s for a snapshot", tp, offsets)
    records, start, size_bytes = list[Record](), offsets.start, 0
    for found, position in read:
        records += found
        size_bytes += sum(len(one.key or b"") + len(one.value or b"") for one in found)
        if position == offsets.stop or len(records) >= _FLUSH_RECORDS or size_bytes >= _FLUSH_BYTES:
            write_flush(archive, tp, records, start=start, stop=position, isolation_level=isolation_level)
            records, start, size_bytes = [], position, 0


def _read(tp: TopicPartition, offsets: OffsetRange, log: KafkaLog, clock: Clock) -> Iterator[tuple[list[Record], int]]:
    """Records and the position after them, up to the end of the range."""
    options = ReadOptions(gap_timeout=timedelta(0))  # nobody else will archive what retention takes in the meantime
    reader, at, heard_at = LogReader(tp, log, None, options, clock), offsets.start, clock.monotonic()
    while at < offsets.stop:
        step = reader.read(at, stop=offsets.stop, max_records=_FETCH_RECORDS, timeout_ms=_FETCH_TIMEOUT_MS)
        if isinstance(step, NothingYet | Gap):
            if clock.monotonic() - heard_at > _SILENCE_S:
                raise KafkaUnavailableError(
                    f"{tp}: Kafka gave nothing at offset {at} for {_SILENCE_S:.0f} s, although its log reaches to {offsets.stop}: "
                    "check the brokers and capture again; what was archived so far stays."
                )
            continue
        at, heard_at = step.next_offset, clock.monotonic()
        yield [] if step.batch is None else step.batch.records(), at
