"""One call of `process`: reads on from where a restriction starts until its budget is spent or nothing is left to do.

`dofn` makes a `Call` for each; everything it decides with is elsewhere. It reads a bounded amount and defers the rest (R8); a
restriction ends only in a call that emitted nothing (T4). It claims, observes and emits a batch at a time.
"""

import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from apache_beam.io.iobase import RestrictionTracker, WatermarkEstimator
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils import windowed_value
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Duration
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

from beam_unified import dead_letters, metrics, watermarks
from beam_unified.dead_letters import DeadLetter
from beam_unified.decoding.interpreter import Interpreter, Meaning
from beam_unified.decoding.limits import Tally
from beam_unified.errors import ArchiveUnavailableError, KafkaUnavailableError, TooManyDeadLettersError
from beam_unified.metrics import Metric
from beam_unified.offsets import TopicPartition
from beam_unified.reading.late import look
from beam_unified.reading.reader import Gap, Lineage, NothingYet, Progress
from beam_unified.records import Batch
from beam_unified.source.chunks import WINDOWS, Chunk
from beam_unified.source.discovery import Assigned
from beam_unified.source.joint import joint_watermark
from beam_unified.source.membership import Membership
from beam_unified.source.options import ReadProgress, SourceOptions
from beam_unified.source.pool import Early, Lease, ReaderPool
from beam_unified.source.restriction import LogRestriction
from beam_unified.source.tracker import End, Noticed, UpTo
from beam_unified.sync.policy import Hold
from beam_unified.sync.synchronizer import Turn

_LOGGER = logging.getLogger(__name__)

DEAD_LETTERS = "dead_letters"
LATE_FILES = "late_files"
POSITIONS = "positions"
"""Tags of outputs."""

Emitted: TypeAlias = WindowedValue | TaggedOutput

_RESUME_DELAY = Duration(micros=100_000)  # runners that honour it ask again after this when there was nothing to do
_MILLISECOND = 1_000  # microseconds


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the calls of one DoFn share."""

    options: SourceOptions
    readers: ReaderPool
    membership: Membership
    interpreter: Interpreter


class Call:
    """One call, for one partition or piece of it. Mutable: it is where the call stands."""

    def __init__(
        self, shared: Surroundings, assigned: Assigned, tracker: RestrictionTracker, estimator: WatermarkEstimator
    ) -> None:
        """Reads nothing yet."""
        self._options, self._readers = shared.options, shared.readers
        self._membership = shared.membership
        self._interpreter = shared.interpreter
        self._looked_at: tuple[Batch, Meaning | None, list[DeadLetter]] | None = None
        self._assigned, self._tp = assigned, assigned.tp
        self._tracker, self._estimator = tracker, estimator
        self._restriction: LogRestriction = tracker.current_restriction()
        self._offset = self._restriction.start
        self._lineage = Lineage(self._restriction.topic_id, self._restriction.leader_epoch)
        self._skipped = self._restriction.skipped
        self._records = self._size_bytes = 0
        self._emitted = self._looked = self._early = False
        self._last_batch: Batch | None = None
        self._began = self._options.clock.monotonic()
        self._turn = self._next_turn()

    def run(self) -> Iterator[Emitted]:
        """Everything that the call emits."""
        restriction = self._restriction
        joint = joint_watermark(self._options.key) if self._options.one_watermark else None
        self._estimator.start_call(joint, member(self._tp, restriction), cap=self._turn.watermark_cap)
        if self._turn.hold is not None and not restriction.ends_at(restriction.start):
            self._keep_waiting(self._turn.hold)
        else:
            piece_at = restriction.start if restriction.splittable else None
            from_the_start = self._assigned.unseen_ms is None
            with self._readers.lease(self._tp, piece_at=piece_at, archive_must_exist=from_the_start) as leased:
                yield from self._look_for_late_files(leased)
                yield from self._read(leased)
        if not restriction.splittable:  # of pieces there are many, and none of them is at the end of the log
            self._tell_lag()
        if self._options.commit_group is not None and self._offset > restriction.start:
            yield self._beside(POSITIONS, (self._tp.topic, self._tp.partition, self._offset))

    # -- reading

    def _read(self, leased: Lease) -> Iterator[Emitted]:
        clock, budget = self._options.clock, self._options.budget
        while not self._restriction.ends_at(self._offset):
            batch_began, asked_ms = clock.monotonic(), clock.now_ms()
            step = self._fetch(leased)
            if isinstance(step, NothingYet):
                if self._found_the_end(step, asked_ms):
                    break
                return
            step, last = _before_instant(step, self._offset, self._restriction.stop_before_ms)
            step, limited = self._before_gate(step)
            step, limited = self._before_due(leased, step, limited=limited)
            if step.next_offset > self._offset:
                claimed = self._claim(step)
                if claimed is None:
                    return
                step = claimed
                yield from self._deliver(leased, step)
            if last and not limited:
                break
            leased.pace = leased.pace.after(
                records=_count(step), seconds=clock.monotonic() - batch_began, budget=budget
            )
            if self._must_pause():
                return
            self._restriction = self._tracker.current_restriction()  # a runner may have split it
        yield from self._finish(leased)

    def _fetch(self, leased: Lease) -> Progress | NothingYet | Gap:
        early, leased.early = leased.early, None
        if early is not None and early.offset == self._offset:
            return early.step
        max_records = min(leased.pace.records, self._options.budget.batch_records)
        step = leased.reader.read(
            self._offset,
            stop=self._restriction.stop,
            max_records=max_records if self._turn.records is None else min(max_records, self._turn.records),
            timeout_ms=self._readers.patience.of(self._tp),
            lineage=self._lineage,
        )
        self._readers.note_end(self._tp, step.high_watermark)
        return step

    def _found_the_end(self, step: NothingYet, asked_ms: int) -> bool:
        """Whether nothing more can come (R6): the stop was an instant, which has passed. If not, defers."""
        seen_ms = asked_ms - round(step.checked_s_ago * 1_000)
        stop_before_ms = self._restriction.stop_before_ms
        if stop_before_ms is not None and step.at_end and seen_ms >= stop_before_ms:
            return True
        if step.at_end:
            self._membership.idle(self._tp)
            self._estimator.nothing_new(seen_ms, self._options.max_out_of_orderness, self._options.idle)
        else:
            self._estimator.busy()
        self._readers.patience.had_work(self._tp, had_work=self._emitted)
        self._tracker.defer_remainder(_RESUME_DELAY)
        return False

    def _claim(self, step: Progress | Gap) -> Progress | Gap | None:
        """Claims what a step covers; None where the runner has taken it all. What it took of a piece is cut off the step."""
        while not self._tracker.try_claim(UpTo(step.next_offset, _epoch(step), isinstance(step, Gap))):
            stop = self._tracker.current_restriction().stop
            if stop is None or not self._offset < stop < step.next_offset:
                return None
            step = step.until(self._offset, stop)
        self._offset, self._lineage = step.next_offset, replace(self._lineage, leader_epoch=_epoch(step))
        return step

    def _must_pause(self) -> bool:
        """Whether the budget is spent, or sync group or replay speed want a pause. If so, defers."""
        self._turn = self._next_turn()
        if self._early:
            self._tell(next_offset=self._offset, held_by="speed")
            self._readers.patience.had_work(self._tp, had_work=False)
            self._readers.patience.wait(self._tp)
            self._tracker.defer_remainder(_RESUME_DELAY)
            return True
        seconds = self._options.clock.monotonic() - self._began
        spent = self._options.budget.spent(records=self._records, size_bytes=self._size_bytes, seconds=seconds)
        if self._turn.hold is None and not spent:
            return False
        self._readers.patience.had_work(self._tp, had_work=True)
        if self._turn.hold is None:
            self._tracker.defer_remainder()
        else:
            self._tell(next_offset=self._offset, held_by=self._turn.hold.value)
            self._tracker.defer_remainder(_RESUME_DELAY)
        return True

    def _finish(self, leased: Lease) -> Iterator[Emitted]:
        """Nothing is left to read."""
        if not self._emitted:
            yield from self._look_for_late_files(leased, last=True)
        self._readers.patience.had_work(self._tp, had_work=False)
        if self._emitted:
            self._tracker.defer_remainder()  # the closing step: what was emitted must be out before the end is claimed
        elif self._tracker.try_claim(End()):
            self._estimator.end()
            if self._restriction.splittable:
                leased.reader.close()  # its file, too, where it ended in the middle of one: others want the room
            self._membership.done(self._assigned, self._own_watermark(), self._offset)

    # -- late files

    def _look_for_late_files(self, leased: Lease, *, last: bool = False) -> Iterator[Emitted]:
        """Tells of what has landed for skipped offsets (A4): looks at times, and once more before the reader ends.

        Not for a piece of an unordered partition: that ends with its last record. While the archive is away nobody looks, for the
        reader may not need it now; what was skipped stays noted.
        """
        archive, now = leased.archive, self._options.clock.monotonic()
        if not self._skipped or archive is None or self._restriction.splittable or self._looked:
            return
        waited = None if leased.looked_at is None else now - leased.looked_at
        if not last and waited is not None and waited < self._options.late_file_interval.total_seconds():
            return
        leased.looked_at = now
        try:
            found = look(archive, self._tp, self._skipped, self._options.clock.now_ms())
        except (ArchiveUnavailableError, KafkaUnavailableError) as error:
            if last:
                raise
            _LOGGER.warning("%s: could not look for late files, will try again: %s", self._tp, error)
            return
        self._looked = True
        for late, offsets in found:
            if not self._tracker.try_claim(Noticed(offsets)):
                return  # whoever has the rest of the restriction will find it
            self._emitted = True
            _LOGGER.warning("%s", late)
            self._count(metrics.LATE_FILES, 1)
            if self._options.late_files:
                yield self._beside(LATE_FILES, late)

    # -- in a sync group

    def _own_watermark(self) -> int | None:
        return watermarks.own(self._estimator.get_estimator_state())

    def _next_turn(self) -> Turn:
        """Reports, and asks what may be read next."""
        turn = self._membership.turn(self._assigned, self._own_watermark(), self._offset)
        if turn.held_ms:
            self._estimator.held(sum(turn.held_ms.values()))
        return turn

    def _keep_waiting(self, hold: Hold) -> None:
        """The reader is held: no store is asked."""
        self._tell(next_offset=self._offset, held_by=hold.value)
        self._readers.patience.had_work(self._tp, had_work=False)
        self._readers.patience.wait(self._tp)
        self._tracker.defer_remainder(_RESUME_DELAY)

    def _before_gate(self, step: Progress | Gap) -> tuple[Progress | Gap, bool]:
        """Cuts progress before the first record that a closed gate does not allow; True where one was met (S3)."""
        limit = self._turn.emit_before
        if limit is None or isinstance(step, Gap) or step.batch is None:
            return step, False
        offset = self._first_from(step.batch, limit)
        if offset is None:
            return step, False
        self._membership.reached_limit(self._tp, offset)
        return step.until(self._offset, offset), True

    def _before_due(self, leased: Lease, step: Progress | Gap, *, limited: bool) -> tuple[Progress | Gap, bool]:
        """Keeps for later calls what the speed of the replay does not allow yet; True where something is left."""
        speed = self._options.speed
        if speed is None or isinstance(step, Gap) or step.batch is None:
            return step, limited
        offset = self._first_from(step.batch, speed.due_before(self._options.clock.now_ms()))
        if offset is None:
            return step, limited
        leased.early = Early(offset, step.since(offset))
        self._early = True
        return step.until(self._offset, offset), True

    def _first_from(self, batch: Batch, limit: int) -> int | None:
        """Offset of the first record whose event time is `limit` or later, in microseconds; None where all are earlier."""
        found, _ = self._meaning(batch)
        if found is None or found.newest < limit:
            return None
        return found.batch.offsets()[next(at for at, micros in enumerate(found.micros) if micros >= limit)]

    # -- what comes out

    def _deliver(self, leased: Lease, step: Progress | Gap) -> Iterator[Emitted]:
        """Emits what a claimed step brought, if anything."""
        if isinstance(step, Gap):
            self._emitted = True
            yield from self._give_up(step)
        elif step.batch is not None:
            self._emitted = True
            self._records += len(step.batch)
            size_bytes = step.batch.size_bytes()
            self._size_bytes += size_bytes
            yield from self._emit(leased, step.batch)
            self._observe(leased, step, len(step.batch), size_bytes)

    def _emit(self, leased: Lease, batch: Batch) -> Iterator[Emitted]:
        """A batch as one element; with dead letters, its good records as one and the others apart."""
        max_out_of_orderness = self._options.max_out_of_orderness
        found, bad = self._meaning(batch)
        self._check_limit(leased, batch, bad)
        if found is not None:
            late = watermarks.late(self._estimator.get_estimator_state(), found.micros, max_out_of_orderness)
            if late.records:
                self._count(metrics.LATE, late.records)
                self._count(metrics.LATE_MS, late.total // _MILLISECOND)
                metrics.LATE_BY_MS.of(self._tp.topic).update(late.most // _MILLISECOND)
            yield self._element(found)
            self._estimator.emitted(found.newest, max_out_of_orderness)
        if bad:
            self._count(metrics.CORRUPTED, len(bad))
            yield from self._dead_letters(bad)

    def _element(self, found: Meaning) -> WindowedValue:
        """A chunk, or a batch of columns (see `arrow` for its timestamp)."""
        arrow, micros = self._options.arrow, found.oldest
        if arrow is None:
            chunk = Chunk(found.batch, found.micros, found.elements)
            return windowed_value.create(chunk, micros, WINDOWS, PANE_INFO_UNKNOWN)
        micros = max(micros, self._estimator.current_watermark().micros)
        return windowed_value.create(arrow.batch(self._tp, found), micros, WINDOWS, PANE_INFO_UNKNOWN)

    def _meaning(self, batch: Batch) -> tuple[Meaning | None, list[DeadLetter]]:
        """Good records and bad ones. Raises BadRecordError where no dead letters are wanted. Nothing is decoded twice."""
        if self._looked_at is None or self._looked_at[0] is not batch:
            if self._options.dead_letters:
                self._looked_at = batch, *self._interpreter.sorted_out(batch)
            else:
                self._looked_at = batch, self._interpreter.meaning(batch), []
        return self._looked_at[1:]

    def _check_limit(self, leased: Lease, batch: Batch, bad: list[DeadLetter]) -> None:
        """Raises TooManyDeadLettersError, before anything of the batch is emitted."""
        limit = self._options.dead_letter_limit
        if limit is None:
            return
        leased.tally = leased.tally or Tally(limit)
        exceeded = leased.tally.take(batch.offsets(), {letter.offset for letter in bad})
        if exceeded is not None:
            raise TooManyDeadLettersError(
                f"{self._tp}: {exceeded}, up to offset {bad[-1].offset}. Mend what is wrong, or raise dead_letter_limit. "
                f"The last one: {bad[-1].error}"
            )

    def _give_up(self, gap: Gap) -> Iterator[Emitted]:
        """A gap that is skipped: said, counted, and a dead letter where there is an output for it (R5)."""
        letter = dead_letters.of_gap(self._tp, gap.offsets)
        _LOGGER.error("%s", letter.error)
        self._count(metrics.GAPS, 1)
        self._count(metrics.GAP_OFFSETS, gap.offsets.stop - gap.offsets.start)
        if self._options.dead_letters:
            yield from self._dead_letters([letter])

    def _dead_letters(self, letters: Sequence[DeadLetter]) -> Iterator[Emitted]:
        self._count(metrics.DEAD_LETTERS, len(letters))
        for letter in letters:
            yield self._beside(DEAD_LETTERS, letter)

    def _beside(self, tag: str, element: object) -> Emitted:
        reported = self._estimator.get_estimator_state().reported
        micros = MIN_TIMESTAMP.micros if reported is None else reported
        return TaggedOutput(tag, windowed_value.create(element, micros, WINDOWS, PANE_INFO_UNKNOWN))

    def _observe(self, leased: Lease, step: Progress, records: int, size_bytes: int) -> None:
        """Counts a batch, notices a handoff, tells group and observer."""
        self._count(metrics.RECORDS[step.store], records)
        self._count(metrics.BYTES[step.store], size_bytes)
        self._last_batch = step.batch
        if step.repeated:
            self._count(metrics.DUPLICATES, step.repeated)
        self._membership.spent(self._tp, step.store, records=records, size_bytes=size_bytes)
        if leased.last_store not in {None, step.store}:
            self._count(metrics.HANDOFFS[step.store], 1)
            _LOGGER.info("%s: handoff to %s before offset %d", self._tp, step.store.value, step.next_offset)
        leased.last_store = step.store
        self._tell(next_offset=step.next_offset, records=records, store=step.store.value)

    def _count(self, counter: Metric, number: int) -> None:
        counter.of(self._tp.topic).inc(number)

    def _tell_lag(self) -> None:
        """How far the reader is behind; by what this worker has last seen of the end of the log, or of the stop (B3)."""
        if self._last_batch is not None:
            last = self._last_batch.between(self._last_batch.last_offset(), None)  # a column of one, not of thousands
            self._readers.note_time(self._tp, last.timestamps()[-1])
        behind = backlog(self._restriction, self._offset, self._readers.known_end(self._tp))
        last_ms = self._readers.last_time(self._tp)
        lag_ms = 0 if not behind else None if last_ms is None else max(0, self._options.clock.now_ms() - last_ms)
        metrics.set_lag(self._tp, records=behind, milliseconds=lag_ms)

    def _tell(
        self, *, next_offset: int, records: int = 0, store: str | None = None, held_by: str | None = None
    ) -> None:
        """Tells the observer, if there is one."""
        if self._options.on_progress is not None:
            self._options.on_progress(
                ReadProgress(
                    topic=self._tp.topic,
                    partition=self._tp.partition,
                    next_offset=next_offset,
                    records=records,
                    store=store,
                    watermark=self._estimator.get_estimator_state().reported,
                    known_end=self._readers.known_end(self._tp),
                    held_by=held_by,
                )
            )


def member(tp: TopicPartition, restriction: LogRestriction) -> Hashable:
    """Who reports a watermark: the partition; of one in pieces each piece, and the partition for what follows them."""
    return (tp, restriction.stop) if restriction.splittable else tp


def backlog(restriction: LogRestriction, offset: int, known_end: int) -> int:
    """Offsets from `offset` to where the restriction ends, or to the known end of its log: an estimate of its records."""
    end = max(restriction.known_end, known_end) if restriction.stop is None else restriction.stop
    return max(0, end - offset)


def _epoch(step: Progress | Gap) -> int | None:
    return None if isinstance(step, Gap) else step.leader_epoch


def _count(step: Progress | Gap) -> int:
    return 0 if isinstance(step, Gap) or step.batch is None else len(step.batch)


def _before_instant(step: Progress | Gap, offset: int, stop_before_ms: int | None) -> tuple[Progress | Gap, bool]:
    """Cuts progress before the first record of the stop instant; True where such a record was met."""
    if stop_before_ms is None or isinstance(step, Gap) or step.batch is None:
        return step, False
    for record_offset, timestamp in zip(step.batch.offsets(), step.batch.timestamps(), strict=True):
        if timestamp is not None and timestamp >= stop_before_ms:
            return step.until(offset, record_offset), True
    return step, False
