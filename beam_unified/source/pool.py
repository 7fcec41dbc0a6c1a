"""What a worker process keeps between bundles: readers with their consumers and open files, and the archive's index.

One `ReaderPool` per transform and worker process, found through `POOLS`. A reader is leased to one call at a time and
given back; what nobody has asked for in a minute is closed, and all of it when the last DoFn of the process is torn
down. Runners do not always get to that (a killed task manager takes no leave), so a timer closes what is idle.

Also kept here, because it is per worker: the last known end of each partition, so that `restriction_size` asks nobody.

A partition that is read in order has one reader. The pieces of an unordered one are many, and runners take them in turn:
the first few keep their file open between calls until they are done, the others open it anew, or a worker would hold all of
its archive. None is sent away for later: a deferral for nothing costs more than a file (Flink may keep state of each, beam#27648).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from beam_unified.clock import Clock
from beam_unified.decoding.limits import Tally
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.reading.reader import LogReader, Progress, ReadOptions
from beam_unified.records import Store
from beam_unified.shared import Repeating, Shared
from beam_unified.source.pacing import Pace
from beam_unified.source.patience import Patience
from beam_unified.stores import ArchiveLog, ArchiveSource, Fetched, KafkaLog, KafkaSource, OutOfRange

_CLOSE_AFTER_S = 60.0
_MOST_PIECES = 4  # of unordered partitions, that keep their file open between calls

_Key = tuple[TopicPartition, int | None]
"""Whose reader it is: of the partition, or of the piece of it whose file stands at the offset."""


@dataclass(frozen=True, slots=True)
class Early:
    """What was read behind `offset`, before its time."""

    offset: int
    step: Progress


@dataclass(slots=True)
class Lease:
    """A reader while one call uses it. Mutable: the call leaves behind what the next one should know.

    `early`: what was read and may not come out yet (`replay_speed`); a call that goes on elsewhere has no use for it.
    """

    reader: LogReader
    kafka: KafkaLog
    archive: ArchiveLog | None
    owner: _Key
    pace: Pace = field(default_factory=Pace)
    early: Early | None = None
    last_store: Store | None = None
    tally: Tally | None = None
    looked_at: float | None = None
    last_used: float = 0.0


class ReaderPool:
    """Readers of one transform in one process. Thread safe.

    Attributes:
        patience: Which of them may wait.
    """

    def __init__(
        self,
        kafka: KafkaSource,
        archive: ArchiveSource | None,
        options: ReadOptions,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        """Connects to nothing yet."""
        self.patience = patience or Patience(clock)
        self._kafka = kafka
        self._archive_source = archive
        self._options = options
        self._clock = clock
        self._lock = threading.Lock()
        self._archive: ArchiveLog | None = None
        self._idle: dict[_Key, Lease] = {}
        self._archives_checked: set[str] = set()
        self._known_ends: dict[TopicPartition, int] = {}
        self._last_times: dict[TopicPartition, int | None] = {}
        self._reaper = Repeating(self._lock, _CLOSE_AFTER_S, self._close_stale, lambda: bool(self._idle))

    @contextmanager
    def lease(
        self, tp: TopicPartition, *, piece_at: int | None = None, archive_must_exist: bool = True
    ) -> Iterator[Lease]:
        """A reader, for this call alone. One that raised is closed, not given back.

        Args:
            tp: Topic partition.
            piece_at: For a piece of an unordered partition: the offset at which it goes on.
            archive_must_exist: Whether an archive without the topic is an error.
        """
        leased = self._take((tp, piece_at), archive_must_exist=archive_must_exist)
        try:
            yield leased
        except BaseException:
            leased.reader.close()
            raise
        self._give_back(leased)

    def note_end(self, tp: TopicPartition, offset: int | None) -> None:
        """Notes an end offset that was seen on the way."""
        if offset is not None:
            with self._lock:
                self._known_ends[tp] = max(offset, self._known_ends.get(tp, 0))

    def known_end(self, tp: TopicPartition) -> int:
        """Largest end offset seen in this process; 0 where none was."""
        with self._lock:
            return self._known_ends.get(tp, 0)

    def note_time(self, tp: TopicPartition, timestamp_ms: int | None) -> None:
        """Notes Kafka's timestamp of the record that was read last; None where it has none."""
        with self._lock:
            self._last_times[tp] = timestamp_ms

    def last_time(self, tp: TopicPartition) -> int | None:
        """What was noted last; None before."""
        with self._lock:
            return self._last_times.get(tp)

    def close(self) -> None:
        """Closes every reader that is not leased, and the archive."""
        with self._lock:
            self._reaper.stop()
            idle, self._idle = list(self._idle.values()), {}
            archive, self._archive = self._archive, None
            self._archives_checked.clear()
        for leased in idle:
            leased.reader.close()
        if archive is not None:
            archive.close()

    def _take(self, owner: _Key, *, archive_must_exist: bool) -> Lease:
        self._close_stale()
        with self._lock:
            leased = self._idle.pop(owner, None)
        return self._open(owner, archive_must_exist=archive_must_exist) if leased is None else leased

    def _give_back(self, leased: Lease) -> None:
        tp, piece_at = leased.owner
        is_piece = piece_at is not None
        if is_piece:
            leased.owner = tp, leased.reader.position
        leased.last_used = self._clock.monotonic()
        with self._lock:
            closing: Lease | None
            if is_piece and not self._keeps_piece(leased):
                closing = leased
            else:
                closing = self._idle.pop(leased.owner, None)
                self._idle[leased.owner] = leased
                self._reaper.check()
        if closing is not None:
            closing.reader.close()

    def _keeps_piece(self, leased: Lease) -> bool:
        """Whether a piece's file stays open: not between two files, or at its end, and not beside enough others."""
        pieces = sum(position is not None for _, position in self._idle)
        return leased.reader.position is not None and pieces < _MOST_PIECES

    def _close_stale(self) -> None:
        horizon = self._clock.monotonic() - _CLOSE_AFTER_S
        with self._lock:
            stale = [owner for owner, lease in self._idle.items() if lease.last_used < horizon]
            closing = [self._idle.pop(owner) for owner in stale]
        for lease in closing:
            lease.reader.close()

    def _open(self, owner: _Key, *, archive_must_exist: bool) -> Lease:
        tp = owner[0]
        archive = self._connected_archive(tp.topic, must_exist=archive_must_exist)
        kafka = _OnDemand(self._kafka)
        reader = LogReader(tp, kafka, archive, self._options, self._clock)
        return Lease(reader=reader, kafka=kafka, archive=archive, owner=owner)

    def _connected_archive(self, topic: str, *, must_exist: bool) -> ArchiveLog | None:
        if self._archive_source is None:
            return None
        with self._lock:
            archive = self._archive or self._archive_source.connect()
            if topic not in self._archives_checked:  # its isolation level, from now on, of every flush (R4)
                archive.check(topic, isolation_level=self._kafka.isolation_level, must_exist=must_exist)
                self._archives_checked.add(topic)
            self._archive = archive
            return archive


class _OnDemand:
    """A connection that is made when it is first used: a reader of old files may never need one. Implements `KafkaLog`."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source
        self._connection: KafkaLog | None = None

    def _log(self) -> KafkaLog:
        if self._connection is None:
            self._connection = self._source.connect()
        return self._connection

    def topics(self) -> tuple[str, ...]:
        return self._log().topics()

    def partitions(self, topic: str) -> tuple[int, ...]:
        return self._log().partitions(topic)

    def topic_id(self, topic: str) -> str | None:
        return self._log().topic_id(topic)

    def bounds(self, tp: TopicPartition) -> OffsetRange:
        return self._log().bounds(tp)

    def offset_at(self, tp: TopicPartition, timestamp_ms: int) -> int | None:
        return self._log().offset_at(tp, timestamp_ms)

    def fetch(
        self, tp: TopicPartition, offset: int, *, max_records: int, timeout_ms: int, leader_epoch: int | None = None
    ) -> Fetched | OutOfRange:
        return self._log().fetch(tp, offset, max_records=max_records, timeout_ms=timeout_ms, leader_epoch=leader_epoch)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


POOLS: Shared[ReaderPool] = Shared()
"""Of this process, by the key of the transform."""


def close_all() -> None:
    """Closes what every pool of this process holds idle. Pools stay usable. For the end of a process, and of tests."""
    for pool in POOLS.all():
        pool.close()
