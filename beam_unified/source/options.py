"""Everything the source needs to know, as `transforms` has checked it, and what it tells an observer. Picklable values."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from beam_unified.clock import Clock
from beam_unified.decoding.decoder import Decoder
from beam_unified.decoding.limits import DeadLetterLimit
from beam_unified.event_time import ElementTime, EventTime, KafkaTimestamp
from beam_unified.positions import AtTimestamp, PinnedStart, PinnedStop
from beam_unified.reading.reader import ReadOptions
from beam_unified.replay_speed import PinnedSpeed
from beam_unified.source.columns import ArrowOutput
from beam_unified.source.pacing import CallBudget
from beam_unified.stores import ArchiveSource, KafkaLog, KafkaSource
from beam_unified.sync.options import ReaderRules, SyncGroup
from beam_unified.watermarks import IdlePolicy


@dataclass(frozen=True, slots=True)
class Topics:
    """Which topics are read: by name, or every one whose whole name matches a pattern."""

    names: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None

    def __str__(self) -> str:
        return ", ".join(self.names) if self.pattern is None else f"/{self.pattern.pattern}/"

    def existing(self, kafka: KafkaLog) -> tuple[str, ...]:
        """The names as they are now. Named topics are taken to exist."""
        pattern = self.pattern
        if pattern is None:
            return self.names
        return tuple(topic for topic in kafka.topics() if pattern.fullmatch(topic))


@dataclass(frozen=True, slots=True)
class Synchronised:
    """The sync group of a transform, and what it asked of it."""

    group: SyncGroup
    rules: ReaderRules


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProgress:
    """What an observer of `ReadUnified(on_progress=...)` is told, once a batch, and whenever a sync group holds the reader.

    Attributes:
        topic: Topic.
        partition: Partition.
        next_offset: Offset after the batch.
        records: Number of records in the batch; 0 where the reader was held.
        store: "archive" or "kafka"; None where the reader was held.
        watermark: What is reported to the runner now: microseconds since the epoch, None for the minimum.
        known_end: Largest end offset of the partition that this worker has seen.
        held_by: "gate", "drift", "rate" or "coordinator" of a sync group, or "speed" (`replay_speed`); None where it was not held.
    """

    topic: str
    partition: int
    next_offset: int
    records: int
    store: str | None
    watermark: int | None
    known_end: int
    held_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How a log is read. Times of events are microseconds since the epoch.

    `arrow`: where the output is `pyarrow.RecordBatch`es, how they are made; else None.
    `one_watermark`: whether all partitions report the earliest watermark among them (see `source.joint`).
    """

    key: str
    topics: Topics
    kafka: KafkaSource
    archive: ArchiveSource | None
    start: PinnedStart
    stop: PinnedStop | None
    ordered: bool
    decoder: Decoder | None
    event_time: EventTime | ElementTime
    max_out_of_orderness: int
    initial_watermark: int | None
    idle: IdlePolicy
    reading: ReadOptions
    dead_letters: bool
    dead_letter_limit: DeadLetterLimit | None
    late_files: bool
    late_file_interval: timedelta
    budget: CallBudget
    arrow: ArrowOutput | None
    one_watermark: bool
    sync: Synchronised | None
    speed: PinnedSpeed | None
    commit_group: str | None
    clock: Clock
    on_progress: Callable[[ReadProgress], None] | None

    def initial_watermark_of(self, unseen_ms: int | None) -> int | None:
        """Rule T1: a start says something about event time only where Kafka's timestamp is the event time.

        Args:
            unseen_ms: For a partition found while the job runs: when it was last seen not to exist.
        """
        if isinstance(self.event_time, KafkaTimestamp):
            if unseen_ms is not None:
                return unseen_ms * 1_000 - self.max_out_of_orderness
            if self.initial_watermark is None and isinstance(self.start, AtTimestamp):
                return self.start.timestamp_ms * 1_000 - self.max_out_of_orderness
        return self.initial_watermark
