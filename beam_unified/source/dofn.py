"""The splittable DoFn: claims, emits and defers; everything it decides with is elsewhere.

One element is one partition. A call of `process` reads a bounded amount and defers the rest (R8); a restriction ends
only in a call that emitted nothing (T4). It claims, observes and emits a batch at a time; `chunks.Explode` behind it makes
elements of the batches.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionTracker, WatermarkEstimator
from apache_beam.metrics import Metrics
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.utils import windowed_value
from apache_beam.utils.timestamp import Duration
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

from beam_unified.clock import Clock
from beam_unified.event_time import EventTime, KafkaTimestamp, checked_micros
from beam_unified.offsets import TopicPartition
from beam_unified.positions import AtTimestamp, PinnedStart, PinnedStop
from beam_unified.reading.reader import NothingYet, Progress, ReadOptions
from beam_unified.reading.resolve import StopBefore, resolve_start, resolve_stop
from beam_unified.records import Store
from beam_unified.source import pool as pools
from beam_unified.source.chunks import WINDOWS, Chunk
from beam_unified.source.coders import RestrictionCoder, WatermarkStateCoder
from beam_unified.source.pacing import CallBudget
from beam_unified.source.pool import Lease, ReaderPool
from beam_unified.source.restriction import LogRestriction
from beam_unified.source.runners import refuse_old_direct_runner
from beam_unified.source.tracker import End, LogTracker, UpTo
from beam_unified.source.watermark import LogWatermarkEstimator
from beam_unified.stores import ArchiveSource, KafkaSource
from beam_unified.watermarks import IdlePolicy, WatermarkState

_LOGGER = logging.getLogger(__name__)

_RESUME_DELAY = Duration(micros=100_000)  # runners that honour it ask again after this when there was nothing

Element = tuple[str, int]
"""What travels to the reader: (topic, partition)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProgress:
    """What an observer of `ReadUnified(on_progress=...)` is told, once a batch.

    Attributes:
        topic: Topic.
        partition: Partition.
        next_offset: Offset after the batch.
        records: Number of records in the batch.
        store: "archive" or "kafka".
        watermark: What is reported to the runner now: microseconds since the epoch, None for the minimum.
        known_end: Largest end offset of the partition that this worker has seen.
    """

    topic: str
    partition: int
    next_offset: int
    records: int
    store: str
    watermark: int | None
    known_end: int


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Everything the DoFn needs. Picklable; made and checked by `transforms.ReadUnified`."""

    key: str
    kafka: KafkaSource
    archive: ArchiveSource | None
    start: PinnedStart
    stop: PinnedStop | None
    event_time: EventTime
    max_out_of_orderness: int
    initial_watermark: int | None
    idle: IdlePolicy
    reading: ReadOptions
    budget: CallBudget
    clock: Clock
    on_progress: Callable[[ReadProgress], None] | None


class _ReadLog(beam.DoFn, RestrictionProvider, WatermarkEstimatorProvider):
    """Reads one partition of the unlimited log."""

    def __init__(self, options: SourceOptions) -> None:
        self.options = options
        self._pool: ReaderPool | None = None
        self._counters = {store: Metrics.counter("beam_unified", f"records_from_{store.value}") for store in Store}
        self._handoffs = Metrics.counter("beam_unified", "handoffs")

    # -- life cycle

    def setup(self) -> None:
        """Joins the pool of this process."""
        self._pool = self._acquire()

    def teardown(self) -> None:
        """Leaves the pool; the last one to leave closes the connections."""
        if self._pool is not None:
            self._pool = None
            pools.release(self.options.key)

    def _acquire(self) -> ReaderPool:
        options = self.options
        return pools.acquire(
            options.key, lambda: ReaderPool(options.kafka, options.archive, options.reading, options.clock)
        )

    def _readers(self) -> ReaderPool:
        assert self._pool is not None, "Beam sets a DoFn up before it calls process"
        return self._pool

    # -- the restriction

    def initial_restriction(self, element: Element) -> LogRestriction:
        """Asks both stores where to start and stop. Relative instants were fixed when the pipeline was built (R6).

        Runners call it on a copy of the DoFn that they neither set up nor tear down: what it takes it gives back.
        """
        readers = self._acquire()
        try:
            return self._first_restriction(TopicPartition(*element), readers)
        finally:
            pools.release(self.options.key)

    def _first_restriction(self, tp: TopicPartition, readers: ReaderPool) -> LogRestriction:
        options = self.options
        with readers.lease(tp) as leased:
            known_end = leased.kafka.bounds(tp).stop
            start = resolve_start(options.start, tp, leased.kafka, leased.archive)
            stop: int | None = None
            stop_before_ms: int | None = None
            if options.stop is not None:
                now_ms = options.clock.now_ms()
                match resolve_stop(options.stop, tp, leased.kafka, leased.archive, now_ms=now_ms):
                    case StopBefore(timestamp_ms):
                        stop_before_ms = timestamp_ms
                    case offset:
                        stop = max(start, offset)
        readers.note_end(tp, known_end)
        _LOGGER.info("%s: reading from offset %d to %s", tp, start, stop or stop_before_ms or "wherever it goes")
        return LogRestriction(
            start=start,
            stop=stop,
            stop_before_ms=stop_before_ms,
            initial_watermark=self._initial_watermark(),
            known_end=known_end,
        )

    def _initial_watermark(self) -> int | None:
        """Rule T1: the start says something about event time only where Kafka's timestamp is the event time."""
        options = self.options
        if options.initial_watermark is not None:
            return options.initial_watermark
        if isinstance(options.start, AtTimestamp) and isinstance(options.event_time, KafkaTimestamp):
            return options.start.timestamp_ms * 1_000 - options.max_out_of_orderness
        return None

    def create_tracker(self, restriction: LogRestriction) -> LogTracker:
        """Tracker of a restriction."""
        return LogTracker(restriction)

    def restriction_coder(self) -> Coder:
        """Explicit and versioned (B5)."""
        refuse_old_direct_runner()
        return RestrictionCoder()

    def restriction_size(self, element: Element, restriction: LogRestriction) -> int:
        """Backlog in offsets, from the last known end: an estimate. No I/O: it runs at every self-checkpoint."""
        end = restriction.stop
        if end is None:
            seen = 0 if self._pool is None else self._pool.known_end(TopicPartition(*element))
            end = max(restriction.known_end, seen)
        return max(0, end - restriction.start)

    # -- the watermark

    def initial_estimator_state(self, element: Element, restriction: LogRestriction) -> WatermarkState:
        """The initial watermark."""
        return WatermarkState(reported=restriction.initial_watermark)

    def create_watermark_estimator(self, estimator_state: WatermarkState) -> LogWatermarkEstimator:
        """Estimator that goes on from a state."""
        return LogWatermarkEstimator(estimator_state)

    def estimator_state_coder(self) -> Coder:
        """Explicit and versioned (B5)."""
        return WatermarkStateCoder()

    # -- reading

    def _read(
        self, element: Element, tracker: RestrictionTracker, estimator: WatermarkEstimator
    ) -> Iterator[WindowedValue]:
        """One call: reads on from the restriction's start until the budget is spent or nothing is left to do."""
        tp, options, readers = TopicPartition(*element), self.options, self._readers()
        estimator.start_call()
        restriction: LogRestriction = tracker.current_restriction()
        offset, records, size_bytes, began = restriction.start, 0, 0, options.clock.monotonic()
        with readers.lease(tp) as leased:
            while not restriction.ends_at(offset):
                batch_began, asked_ms = options.clock.monotonic(), options.clock.now_ms()
                step = self._step(tp, leased, restriction, offset)
                readers.note_end(tp, step.high_watermark)
                if isinstance(step, NothingYet):
                    seen_ms = asked_ms - round(step.checked_s_ago * 1_000)
                    if _time_is_up(restriction, step, seen_ms):
                        break
                    self._note_idleness(estimator, step, seen_ms)
                    readers.had_work(tp, had_work=records > 0)
                    tracker.defer_remainder(_RESUME_DELAY)
                    return
                step, last = _before_instant(step, offset, restriction.stop_before_ms)
                if step.next_offset > offset:
                    if not tracker.try_claim(UpTo(step.next_offset)):
                        return
                    offset = step.next_offset
                    if step.batch is not None:
                        micros, newest = checked_micros(options.event_time, step.batch)
                        yield windowed_value.create(Chunk(step.batch, micros), min(micros), WINDOWS, PANE_INFO_UNKNOWN)
                        estimator.emitted(newest, options.max_out_of_orderness)
                        records += len(step.batch)
                        size_bytes += step.batch.size_bytes()
                        self._observe(tp, leased, step, estimator)
                if last:
                    break
                now = options.clock.monotonic()
                leased.pace = leased.pace.after(
                    records=0 if step.batch is None else len(step.batch),
                    seconds=now - batch_began,
                    budget=options.budget,
                )
                if options.budget.spent(records=records, size_bytes=size_bytes, seconds=now - began):
                    readers.had_work(tp, had_work=True)
                    tracker.defer_remainder()
                    return
        readers.had_work(tp, had_work=False)
        if records:
            tracker.defer_remainder()  # the closing step: what this call emitted must be out before the end is claimed
        else:
            tracker.try_claim(End())

    def _step(
        self, tp: TopicPartition, leased: Lease, restriction: LogRestriction, offset: int
    ) -> Progress | NothingYet:
        max_records = min(leased.pace.records, self.options.budget.batch_records)
        with self._readers().patience(tp) as timeout_ms:
            return leased.reader.read(offset, stop=restriction.stop, max_records=max_records, timeout_ms=timeout_ms)

    def _note_idleness(self, estimator: WatermarkEstimator, step: NothingYet, seen_ms: int) -> None:
        if step.at_end:
            estimator.nothing_new(seen_ms, self.options.max_out_of_orderness, self.options.idle)
        else:
            estimator.busy()

    def _observe(self, tp: TopicPartition, leased: Lease, step: Progress, estimator: WatermarkEstimator) -> None:
        """Counts a batch, notices a handoff, tells the observer."""
        assert step.batch is not None
        self._counters[step.store].inc(len(step.batch))
        if leased.last_store not in {None, step.store}:
            self._handoffs.inc()
            _LOGGER.info("%s: handoff to %s before offset %d", tp, step.store.value, step.next_offset)
        leased.last_store = step.store
        if self.options.on_progress is not None:
            self.options.on_progress(
                ReadProgress(
                    topic=tp.topic,
                    partition=tp.partition,
                    next_offset=step.next_offset,
                    records=len(step.batch),
                    store=step.store.value,
                    watermark=estimator.get_estimator_state().reported,
                    known_end=self._readers().known_end(tp),
                )
            )


class ReadUnbounded(_ReadLog):
    """Reads for ever."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: Element,
        tracker: RestrictionTracker = beam.DoFn.RestrictionParam(),  # noqa: B008 - Beam's way of asking for it
        estimator: WatermarkEstimator = beam.DoFn.WatermarkEstimatorParam(),  # noqa: B008
    ) -> Iterator[WindowedValue]:
        """See `_ReadLog._read`."""
        return self._read(element, tracker, estimator)


class ReadBounded(_ReadLog):
    """Reads up to a stop. A class of its own, because Beam tells the two apart by the class."""

    def process(
        self,
        element: Element,
        tracker: RestrictionTracker = beam.DoFn.RestrictionParam(),  # noqa: B008
        estimator: WatermarkEstimator = beam.DoFn.WatermarkEstimatorParam(),  # noqa: B008
    ) -> Iterator[WindowedValue]:
        """See `_ReadLog._read`."""
        return self._read(element, tracker, estimator)


def _time_is_up(restriction: LogRestriction, step: NothingYet, seen_ms: int) -> bool:
    """Rule R6, a stop in the future without a record at or after it: the clock is past it, the partition caught up."""
    return restriction.stop_before_ms is not None and step.at_end and seen_ms >= restriction.stop_before_ms


def _before_instant(step: Progress, offset: int, stop_before_ms: int | None) -> tuple[Progress, bool]:
    """Cuts progress before the first record of the stop instant; True where such a record was met."""
    if stop_before_ms is None or step.batch is None:
        return step, False
    for record_offset, timestamp in zip(step.batch.offsets(), step.batch.timestamps(), strict=True):
        if timestamp is not None and timestamp >= stop_before_ms:
            kept = step.batch.between(offset, record_offset)
            return replace(step, batch=kept if kept else None, next_offset=record_offset), True
    return step, False
