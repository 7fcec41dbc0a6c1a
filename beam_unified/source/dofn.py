"""The splittable DoFn, as Beam wants it: restrictions, watermark estimators, coders, life cycle. `call` does the reading.

One element is one partition. `chunks.Explode` behind it makes elements of the batches.
"""

import logging
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionTracker, WatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider

from beam_unified.decoding.interpreter import Interpreter
from beam_unified.offsets import TopicPartition
from beam_unified.positions import start_of, stop_of
from beam_unified.reading.resolve import StopBefore, resolve_start, resolve_stop
from beam_unified.source import pool as pools
from beam_unified.source.call import Call, Emitted, Surroundings, backlog, member
from beam_unified.source.coders import RestrictionCoder, WatermarkStateCoder
from beam_unified.source.discovery import Assigned, Element
from beam_unified.source.joint import joint_watermark
from beam_unified.source.membership import join
from beam_unified.source.options import SourceOptions
from beam_unified.source.patience import shared_patience
from beam_unified.source.pool import ReaderPool
from beam_unified.source.restriction import LogRestriction
from beam_unified.source.runners import refuse_old_direct_runner
from beam_unified.source.tracker import LogTracker
from beam_unified.source.watermark import LogWatermarkEstimator
from beam_unified.watermarks import WatermarkState

_LOGGER = logging.getLogger(__name__)

_MOST_PIECES = 1_024  # of one partition; beyond, neighbouring flushes are one piece


class _ReadLog(beam.DoFn, RestrictionProvider, WatermarkEstimatorProvider):
    """Reads one partition of the unlimited log."""

    def __init__(self, options: SourceOptions) -> None:
        self.options = options
        self._surroundings: Surroundings | None = None

    # -- life cycle

    def setup(self) -> None:
        """Joins the pool of this process, and the sync group."""
        readers = self._acquire()
        membership = join(self.options.sync, with_archive=self.options.archive is not None)
        arrow = self.options.arrow
        interpreter = Interpreter(
            self.options.decoder,
            self.options.event_time,
            columns=arrow is not None,
            pack=None if arrow is None else arrow.column,
        )
        self._surroundings = Surroundings(self.options, readers, membership, interpreter)

    def teardown(self) -> None:
        """Leaves both; the last one to leave closes the connections."""
        if self._surroundings is not None:
            self._surroundings.membership.leave()
            self._surroundings = None
            pools.POOLS.release(self.options.key)

    def _acquire(self) -> ReaderPool:
        options = self.options
        patience = shared_patience(options.key if options.sync is None else options.sync.group.run_id, options.clock)
        return pools.POOLS.acquire(
            options.key, lambda: ReaderPool(options.kafka, options.archive, options.reading, options.clock, patience)
        )

    # -- the restriction

    def initial_restriction(self, element: Element) -> LogRestriction:
        """Asks both stores where to start and stop. Relative instants were fixed when the pipeline was built (R6).

        Runners call it on a copy of the DoFn that they neither set up nor tear down: what it takes it gives back.
        """
        assigned = Assigned(*element)
        if assigned.piece is not None:
            return self.restriction_coder().decode(assigned.piece)  # type: ignore[no-any-return]  # coders are untyped
        readers = self._acquire()
        try:
            return self._first_restriction(assigned, readers)
        finally:
            pools.POOLS.release(self.options.key)

    def _first_restriction(self, assigned: Assigned, readers: ReaderPool) -> LogRestriction:
        options, tp, topic, unseen_ms = self.options, assigned.tp, assigned.topic, assigned.unseen_ms
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
        What is a piece already is not cut again (see `pieces`, which makes the first cut).
        """
        assigned = Assigned(*element)
        if self.options.ordered or self.options.archive is None or assigned.piece is not None:
            return (restriction,)
        tp, readers = assigned.tp, self._acquire()
        try:
            with readers.lease(tp, archive_must_exist=False) as leased:
                assert leased.archive is not None
                ends = [flush.stop for flush in leased.archive.index(tp) if flush.stop > restriction.start]
        finally:
            pools.POOLS.release(self.options.key)
        pieces = restriction.pieces(_thinned(sorted(set(ends)), _MOST_PIECES))
        if self.options.one_watermark:
            joint = joint_watermark(self.options.key)
            for piece in pieces:
                joint.expect(member(tp, piece), piece.initial_watermark)
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
        """Backlog in offsets, from the last known end: an estimate. No I/O: it runs at every self-checkpoint.

        None while the sync group holds the reader: more workers would not make it faster.
        """
        tp, here = TopicPartition(*element[:2]), self._surroundings
        if here is not None and here.membership.holds(tp):
            return 0
        return backlog(restriction, restriction.start, 0 if here is None else here.readers.known_end(tp))

    # -- the watermark

    def initial_estimator_state(self, element: Element, restriction: LogRestriction) -> WatermarkState:
        """The initial watermark; in a sync group, it is reported when the group allows it (S5)."""
        if self.options.sync is not None:
            return WatermarkState(earned=restriction.initial_watermark)
        return WatermarkState(reported=restriction.initial_watermark)

    def create_watermark_estimator(self, estimator_state: WatermarkState) -> LogWatermarkEstimator:
        """Estimator that goes on from a state."""
        return LogWatermarkEstimator(estimator_state)

    def estimator_state_coder(self) -> Coder:
        """Explicit and versioned (B5)."""
        return WatermarkStateCoder()

    # -- reading

    def _read(self, element: Element, tracker: RestrictionTracker, estimator: WatermarkEstimator) -> Iterator[Emitted]:
        """See `call`."""
        assert self._surroundings is not None, "Beam sets a DoFn up before it calls process"
        return Call(self._surroundings, Assigned(*element), tracker, estimator).run()


class ReadUnbounded(_ReadLog):
    """Reads for ever."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: Element,
        tracker: RestrictionTracker = beam.DoFn.RestrictionParam(),  # noqa: B008 - Beam's way of asking for it
        estimator: WatermarkEstimator = beam.DoFn.WatermarkEstimatorParam(),  # noqa: B008
    ) -> Iterator[Any]:
        """Gives `call.Emitted`, which is not named here: Beam warns of return types with `TaggedOutput`."""
        return self._read(element, tracker, estimator)


class ReadBounded(_ReadLog):
    """Reads up to a stop. A class of its own, because Beam tells the two apart by the class."""

    def process(
        self,
        element: Element,
        tracker: RestrictionTracker = beam.DoFn.RestrictionParam(),  # noqa: B008
        estimator: WatermarkEstimator = beam.DoFn.WatermarkEstimatorParam(),  # noqa: B008
    ) -> Iterator[Any]:
        """As `ReadUnbounded.process`."""
        return self._read(element, tracker, estimator)


def _thinned(boundaries: list[int], most: int) -> list[int]:
    """At most so many of them, evenly, the last one among them."""
    every = -(-len(boundaries) // most)
    return boundaries if every <= 1 else boundaries[::-1][::every][::-1]
