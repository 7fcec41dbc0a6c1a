"""The splittable DoFn: claims, emits and defers; everything it decides with is elsewhere.

One element is one partition. A call of `process` reads a bounded amount and defers the rest (R8); a restriction ends
only in a call that emitted nothing (T4). It claims, observes and emits a batch at a time; `chunks.Explode` behind it makes
elements of the batches.
"""

import logging
from collections.abc import Hashable, Iterator
from dataclasses import replace

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionTracker, WatermarkEstimator
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.utils import windowed_value
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Duration
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

from beam_unified import dead_letters, watermarks
from beam_unified.dead_letters import DeadLetter
from beam_unified.errors import BadRecordError
from beam_unified.event_time import checked_micros
from beam_unified.offsets import TopicPartition
from beam_unified.positions import start_of, stop_of
from beam_unified.reading.reader import Gap, Lineage, NothingYet, Progress
from beam_unified.reading.resolve import StopBefore, resolve_start, resolve_stop
from beam_unified.records import Batch, Store
from beam_unified.source import pool as pools
from beam_unified.source.chunks import WINDOWS, Chunk
from beam_unified.source.coders import RestrictionCoder, WatermarkStateCoder
from beam_unified.source.discovery import Assigned, Element
from beam_unified.source.joint import joint_watermark
from beam_unified.source.options import ReadProgress, SourceOptions
from beam_unified.source.pool import Lease, ReaderPool
from beam_unified.source.restriction import LogRestriction
from beam_unified.source.runners import refuse_old_direct_runner
from beam_unified.source.tracker import End, LogTracker, UpTo
from beam_unified.source.watermark import LogWatermarkEstimator
from beam_unified.watermarks import WatermarkState

_LOGGER = logging.getLogger(__name__)

DEAD_LETTERS = "dead_letters"
"""Tag of the output."""

_RESUME_DELAY = Duration(micros=100_000)  # runners that honour it ask again after this when there was nothing
_ADMISSION_DELAY = Duration(micros=500_000)  # a piece that waits for others to be done
_MOST_PIECES = 1_024  # of one partition; beyond, neighbouring flushes are one piece
_MILLISECOND = 1_000  # microseconds


class _ReadLog(beam.DoFn, RestrictionProvider, WatermarkEstimatorProvider):
    """Reads one partition of the unlimited log."""

    def __init__(self, options: SourceOptions) -> None:
        self.options = options
        self._pool: ReaderPool | None = None
        self._counters = {store: Metrics.counter("beam_unified", f"records_from_{store.value}") for store in Store}
        self._handoffs = Metrics.counter("beam_unified", "handoffs")
        self._gaps = Metrics.counter("beam_unified", "gaps")
        self._dead_letters = Metrics.counter("beam_unified", "dead_letters")
        self._late = Metrics.counter("beam_unified", "late_records")
        self._late_by_ms = Metrics.distribution("beam_unified", "late_by_ms")

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
            return self._first_restriction(Assigned(*element), readers)
        finally:
            pools.release(self.options.key)

    def _first_restriction(self, assigned: Assigned, readers: ReaderPool) -> LogRestriction:
        options, (topic, partition, unseen_ms) = self.options, assigned
        tp = TopicPartition(topic, partition)
        with readers.lease(tp, archive_must_exist=unseen_ms is None) as leased:
            known_end = leased.kafka.bounds(tp).stop
            # A partition found later is read from its beginning, and what is missing there is a gap (R10).
            found_later = unseen_ms is not None
            position = start_of(options.start, topic)
            start = 0 if found_later else resolve_start(position, tp, leased.kafka, leased.archive)
            stop: int | None = None
            stop_before_ms: int | None = None
            if options.stop is not None:
                now_ms = options.clock.now_ms()
                match resolve_stop(stop_of(options.stop, topic), tp, leased.kafka, leased.archive, now_ms=now_ms):
                    case StopBefore(timestamp_ms):
                        stop_before_ms = timestamp_ms
                    case offset:
                        stop = max(start, offset)
            topic_id = leased.kafka.topic_id(topic)
        readers.note_end(tp, known_end)
        _LOGGER.info("%s: reading from offset %d to %s", tp, start, stop or stop_before_ms or "wherever it goes")
        return LogRestriction(
            start=start,
            stop=stop,
            stop_before_ms=stop_before_ms,
            initial_watermark=options.initial_watermark_of(unseen_ms),
            known_end=known_end,
            topic_id=topic_id,
        )

    def split(self, element: Element, restriction: LogRestriction) -> tuple[LogRestriction, ...]:
        """Without order, the part that is archived now in pieces, cut where flushes end; what follows it is one more (R7).

        Every piece begins with the restriction's initial watermark, which so holds the output until each has passed it.
        """
        if self.options.ordered or self.options.archive is None or restriction.splittable:
            return (restriction,)
        tp, readers = TopicPartition(*element[:2]), self._acquire()
        try:
            with readers.lease(tp, archive_must_exist=False) as leased:
                assert leased.archive is not None
                ends = [flush.stop for flush in leased.archive.index(tp) if flush.stop > restriction.start]
        finally:
            pools.release(self.options.key)
        pieces = restriction.pieces(_thinned(sorted(set(ends)), _MOST_PIECES))
        if self.options.one_watermark:
            joint = joint_watermark(self.options.key)
            for piece in pieces:
                joint.expect(_member(tp, piece), piece.initial_watermark)
            if all(piece.splittable for piece in pieces):
                joint.leave(tp)
        return pieces

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
            seen = 0 if self._pool is None else self._pool.known_end(TopicPartition(*element[:2]))
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
    ) -> Iterator[WindowedValue | TaggedOutput]:
        """One call: reads on from the restriction's start until the budget is spent or nothing is left to do."""
        options, readers, (topic, partition, unseen_ms) = self.options, self._readers(), Assigned(*element)
        tp = TopicPartition(topic, partition)
        restriction: LogRestriction = tracker.current_restriction()
        estimator.start_call(joint_watermark(options.key) if options.one_watermark else None, _member(tp, restriction))
        piece_at = restriction.start if restriction.splittable else None
        if piece_at is not None and not readers.admits(tp, piece_at):
            tracker.defer_remainder(_ADMISSION_DELAY)
            return
        offset, lineage = restriction.start, Lineage(restriction.topic_id, restriction.leader_epoch)
        records, size_bytes, emitted, began = 0, 0, False, options.clock.monotonic()
        with readers.lease(tp, piece_at=piece_at, archive_must_exist=unseen_ms is None) as leased:
            while not restriction.ends_at(offset):
                batch_began, asked_ms = options.clock.monotonic(), options.clock.now_ms()
                step = self._step(tp, leased, restriction, offset, lineage)
                readers.note_end(tp, step.high_watermark)
                if isinstance(step, NothingYet):
                    seen_ms = asked_ms - round(step.checked_s_ago * 1_000)
                    if _time_is_up(restriction, step, seen_ms):
                        break
                    self._note_idleness(estimator, step, seen_ms)
                    readers.had_work(tp, had_work=emitted)
                    tracker.defer_remainder(_RESUME_DELAY)
                    return
                step, last = _before_instant(step, offset, restriction.stop_before_ms)
                if step.next_offset > offset:
                    claimed = _claim(tracker, step, offset)
                    if claimed is None:
                        return
                    step, offset, lineage = claimed, claimed.next_offset, replace(lineage, leader_epoch=_epoch(claimed))
                    batch = None if isinstance(step, Gap) else step.batch
                    yield from self._deliver(tp, leased, step, estimator)
                    emitted |= batch is not None or isinstance(step, Gap)
                    records, size_bytes = records + len(batch or ()), size_bytes + (batch.size_bytes() if batch else 0)
                if last:
                    break
                now = options.clock.monotonic()
                leased.pace = leased.pace.after(records=_count(step), seconds=now - batch_began, budget=options.budget)
                if options.budget.spent(records=records, size_bytes=size_bytes, seconds=now - began):
                    readers.had_work(tp, had_work=True)
                    tracker.defer_remainder()
                    return
                restriction = tracker.current_restriction()  # a runner may have split it
        readers.had_work(tp, had_work=False)
        if emitted:
            tracker.defer_remainder()  # the closing step: what this call emitted must be out before the end is claimed
        else:
            tracker.try_claim(End())
            estimator.end()

    def _step(
        self, tp: TopicPartition, leased: Lease, restriction: LogRestriction, offset: int, lineage: Lineage
    ) -> Progress | NothingYet | Gap:
        max_records = min(leased.pace.records, self.options.budget.batch_records)
        timeout_ms = self._readers().patience(tp)
        return leased.reader.read(
            offset, stop=restriction.stop, max_records=max_records, timeout_ms=timeout_ms, lineage=lineage
        )

    def _deliver(
        self, tp: TopicPartition, leased: Lease, step: Progress | Gap, estimator: WatermarkEstimator
    ) -> Iterator[WindowedValue | TaggedOutput]:
        """Emits what a claimed step brought, if anything."""
        if isinstance(step, Gap):
            yield from self._give_up(tp, step, estimator)
        elif step.batch is not None:
            yield from self._emit(step.batch, estimator)
            self._observe(tp, leased, step, step.batch, estimator)

    def _emit(self, batch: Batch, estimator: WatermarkEstimator) -> Iterator[WindowedValue | TaggedOutput]:
        """A batch as a chunk; with dead letters, as the chunks between its bad records, and those apart."""
        max_out_of_orderness = self.options.max_out_of_orderness
        for found in self._timed(batch):
            if isinstance(found, DeadLetter):
                yield self._dead_letter(found, estimator)
                continue
            late, late_by = watermarks.late(estimator.get_estimator_state(), found.micros, max_out_of_orderness)
            if late:
                self._late.inc(late)
                self._late_by_ms.update(late_by // _MILLISECOND)
            yield windowed_value.create(found, min(found.micros), WINDOWS, PANE_INFO_UNKNOWN)
            estimator.emitted(max(found.micros), max_out_of_orderness)

    def _timed(self, batch: Batch) -> Iterator[Chunk | DeadLetter]:
        """Chunks and dead letters, in order of offset. Raises BadRecordError where no dead letters are wanted."""
        times = self.options.event_time
        try:
            yield Chunk(batch, checked_micros(times, batch)[0])
        except BadRecordError:
            if not self.options.dead_letters:
                raise
            for record in batch.records():  # one by one: slow, and rare
                alone = batch.between(record.offset, record.offset + 1)
                try:
                    yield Chunk(alone, checked_micros(times, alone)[0])
                except BadRecordError as error:
                    yield dead_letters.of_record(record, error)

    def _give_up(self, tp: TopicPartition, gap: Gap, estimator: WatermarkEstimator) -> Iterator[TaggedOutput]:
        """A gap that is skipped: said, counted, and a dead letter where there is an output for it (R5)."""
        letter = dead_letters.of_gap(tp, gap.offsets)
        _LOGGER.error("%s", letter.error)
        self._gaps.inc()
        if self.options.dead_letters:
            yield self._dead_letter(letter, estimator)

    def _dead_letter(self, letter: DeadLetter, estimator: WatermarkEstimator) -> TaggedOutput:
        self._dead_letters.inc()
        reported = estimator.get_estimator_state().reported
        micros = MIN_TIMESTAMP.micros if reported is None else reported
        return TaggedOutput(DEAD_LETTERS, windowed_value.create(letter, micros, WINDOWS, PANE_INFO_UNKNOWN))

    def _note_idleness(self, estimator: WatermarkEstimator, step: NothingYet, seen_ms: int) -> None:
        if step.at_end:
            estimator.nothing_new(seen_ms, self.options.max_out_of_orderness, self.options.idle)
        else:
            estimator.busy()

    def _observe(
        self, tp: TopicPartition, leased: Lease, step: Progress, batch: Batch, estimator: WatermarkEstimator
    ) -> None:
        """Counts a batch, notices a handoff, tells the observer."""
        self._counters[step.store].inc(len(batch))
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
                    records=len(batch),
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
    ) -> Iterator[WindowedValue | TaggedOutput]:
        """See `_ReadLog._read`."""
        return self._read(element, tracker, estimator)


class ReadBounded(_ReadLog):
    """Reads up to a stop. A class of its own, because Beam tells the two apart by the class."""

    def process(
        self,
        element: Element,
        tracker: RestrictionTracker = beam.DoFn.RestrictionParam(),  # noqa: B008
        estimator: WatermarkEstimator = beam.DoFn.WatermarkEstimatorParam(),  # noqa: B008
    ) -> Iterator[WindowedValue | TaggedOutput]:
        """See `_ReadLog._read`."""
        return self._read(element, tracker, estimator)


def _member(tp: TopicPartition, restriction: LogRestriction) -> Hashable:
    """Who reports a watermark: the partition; of one in pieces each piece, and the partition for what follows them."""
    return (tp, restriction.stop) if restriction.splittable else tp


def _time_is_up(restriction: LogRestriction, step: NothingYet, seen_ms: int) -> bool:
    """Rule R6, a stop in the future without a record at or after it: the clock is past it, the partition caught up."""
    return restriction.stop_before_ms is not None and step.at_end and seen_ms >= restriction.stop_before_ms


def _claim(tracker: RestrictionTracker, step: Progress | Gap, offset: int) -> Progress | Gap | None:
    """Claims what a step covers; None where the runner has taken it all. What it took of a piece is cut off the step."""
    while not tracker.try_claim(UpTo(step.next_offset, _epoch(step))):
        stop = tracker.current_restriction().stop
        if stop is None or not offset < stop < step.next_offset:
            return None
        step = step.until(offset, stop)
    return step


def _epoch(step: Progress | Gap) -> int | None:
    return None if isinstance(step, Gap) else step.leader_epoch


def _count(step: Progress | Gap) -> int:
    return 0 if isinstance(step, Gap) or step.batch is None else len(step.batch)


def _thinned(boundaries: list[int], most: int) -> list[int]:
    """At most so many of them, evenly, the last one among them."""
    every = -(-len(boundaries) // most)
    return boundaries if every <= 1 else boundaries[::-1][::every][::-1]


def _before_instant(step: Progress | Gap, offset: int, stop_before_ms: int | None) -> tuple[Progress | Gap, bool]:
    """Cuts progress before the first record of the stop instant; True where such a record was met."""
    if stop_before_ms is None or isinstance(step, Gap) or step.batch is None:
        return step, False
    for record_offset, timestamp in zip(step.batch.offsets(), step.batch.timestamps(), strict=True):
        if timestamp is not None and timestamp >= stop_before_ms:
            return step.until(offset, record_offset), True
    return step, False
