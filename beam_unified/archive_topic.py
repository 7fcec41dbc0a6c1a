"""`ArchiveTopic`: the archiver as a transform. A splittable DoFn over partitions, a thin shell round `archiver`.

A restriction is how far the flushes of a partition have been given out; a claim of the tracker covers a flush that is committed.
What is archived is in the archive alone, so a restored or doubled job, or one begun anew, goes on where the commits end and
gives out those behind its restriction. Nothing is split but "now".
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionTracker, WatermarkEstimator
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.utils import windowed_value
from apache_beam.utils.timestamp import Duration
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

from beam_unified import metrics
from beam_unified.archive.archive import Archive
from beam_unified.archive.storage import creates_exclusively
from beam_unified.archiver import pool as pools
from beam_unified.archiver.announcements import CommitTopic
from beam_unified.archiver.archiver import ArchiverRules, Nobody, OnGap, PartitionArchiver
from beam_unified.archiver.planning import FlushLimits
from beam_unified.archiver.pool import ArchiverPool, Working
from beam_unified.clock import SYSTEM_CLOCK, Clock, iso
from beam_unified.errors import ConfigError
from beam_unified.event_time import KafkaTimestamp
from beam_unified.flushes import Flush
from beam_unified.offsets import TopicPartition
from beam_unified.positions import (
    AtTimestamp,
    PinnedStop,
    Start,
    StartPosition,
    StopPosition,
    pin_start,
    pin_stop,
    start_of,
    stop_of,
)
from beam_unified.reading.reader import ReadOptions
from beam_unified.reading.resolve import StopBefore, resolve_start, resolve_stop
from beam_unified.source.chunks import WINDOWS
from beam_unified.source.coders import RestrictionCoder, WatermarkStateCoder
from beam_unified.source.discovery import Assigned, Discover, Element, find_partitions
from beam_unified.source.joint import joint_watermark
from beam_unified.source.options import SourceOptions, Topics
from beam_unified.source.pacing import CallBudget
from beam_unified.source.patience import shared_patience
from beam_unified.source.restriction import LogRestriction
from beam_unified.source.runners import (
    check_runner,
    keep_prism_from_splitting,
    needs_one_watermark,
    refuse_old_direct_runner,
)
from beam_unified.source.tracker import End, LogTracker, UpTo
from beam_unified.source.watermark import LogWatermarkEstimator
from beam_unified.stores import KafkaSource
from beam_unified.watermarks import IdlePolicy, WatermarkState

_RESUME_DELAY = Duration(micros=100_000)
_LIMITS = FlushLimits()
_IDLE = IdlePolicy(advance=True, timeout_ms=0)


class ArchivedFlush(NamedTuple):
    """What `ArchiveTopic` gives: a flush that is committed, and announced where that was asked for.

    Attributes:
        topic: Topic.
        partition: Partition.
        start: First offset covered.
        stop: Offset after the last one covered.
        min_timestamp: Smallest Kafka timestamp in it, milliseconds; None where no record has one.
        max_timestamp: Largest one.
    """

    topic: str
    partition: int
    start: int
    stop: int
    min_timestamp: int | None
    max_timestamp: int | None


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What the DoFn needs, checked. Picklable."""

    source: SourceOptions
    archive: Archive
    rules: ArchiverRules
    announce: CommitTopic | None


class ArchiveTopic(beam.PTransform):
    """Writes topics to the archive (layout A1), exactly once, and gives `ArchivedFlush`es (docs/archiving.md).

    Kill it anywhere, run two of them: no record is lost, and none is there twice once no claim is open. The output has each flush
    once per attempt of the runner, in order within a partition; its event time is when the flush was given out. An archive
    that holds a partition already is continued where its commits end, whatever `start` says.

    Traps: a flush is read by nobody before it is committed, so `flush_interval` is what the archive may be behind. Nobody but
    archivers of this package may write to it. Changing `isolation_level` of an archive that exists is refused.

    Args:
        topic: Name of a topic, or several names.
        kafka: `Kafka("host:9092", config={...})`.
        archive: Where to: S3, local disk (GCS has what is needed, and is not tested).
        start: Where to begin a partition that is not in the archive yet; the first offset that Kafka holds by default.
        stop: Where to stop; everything below is committed when the pipeline ends. None goes on for ever.
        flush_records: A flush is due when it holds so many records.
        flush_bytes: ... or so many bytes of Parquet.
        flush_interval: ... or when its first record was read so long ago.
        on_gap: What becomes of offsets that Kafka forgot before they were archived: "fail", or "skip" with an error in the log.
        notify: Topic of Kafka on which every commit is announced.
        discovery_interval: How often to look for new partitions; None does not. Not used with `stop`.
        validate: Ask both stores while the pipeline is built.
        clock: For tests.

    Raises:
        ConfigError: an option that cannot work; a storage without conditional create; with `validate`, a topic for `notify`
            that forgets what is announced.
        StoreError: with `validate`, an unknown topic, no broker, no bucket, wrong credentials.
    """

    def __init__(
        self,
        topic: str | Sequence[str],
        kafka: KafkaSource,
        archive: Archive,
        *,
        start: StartPosition | None = None,
        stop: StopPosition | None = None,
        flush_records: int = _LIMITS.records,
        flush_bytes: int = _LIMITS.size_bytes,
        flush_interval: timedelta = _LIMITS.age,
        on_gap: OnGap = "fail",
        notify: CommitTopic | None = None,
        discovery_interval: timedelta | None = timedelta(seconds=5),
        validate: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__()
        names = _names(topic)
        _at_least_one("flush_records", flush_records)
        _at_least_one("flush_bytes", flush_bytes)
        _longer_than_nothing("flush_interval", flush_interval)
        if discovery_interval is not None:
            _longer_than_nothing("discovery_interval", discovery_interval)
        if on_gap not in {"fail", "skip"}:
            raise ConfigError(f"on_gap must be 'fail' or 'skip', got {on_gap!r}.")
        if not creates_exclusively(archive.root):
            raise ConfigError(
                f"archive {archive.root}: this file system is not known to create an object for one of several writers, which "
                "exactly-once archiving needs. Use s3://, gs:// or a local folder."
            )
        archive.storage()  # which refuses what is only read
        now_ms = clock.now_ms()
        pinned = None if stop is None else pin_stop(stop, now_ms)
        _check_stop(pinned, names, now_ms)
        self._validate = validate
        self._discovery_s = (
            None if stop is not None or discovery_interval is None else discovery_interval.total_seconds()
        )
        self._options = _Options(
            source=SourceOptions(
                key=f"archive-{'-'.join(names)}-{uuid.uuid4()}",
                topics=Topics(names=names),
                kafka=kafka,
                archive=None,  # that it is not there yet is no error
                start=pin_start(Start.earliest() if start is None else start, now_ms),
                stop=pinned,
                ordered=True,
                decoder=None,
                event_time=KafkaTimestamp(),
                max_out_of_orderness=0,
                initial_watermark=None,
                idle=_IDLE,
                reading=ReadOptions(),
                dead_letters=False,
                dead_letter_limit=None,
                late_files=False,
                late_file_interval=timedelta(0),
                budget=CallBudget(),
                arrow=None,
                one_watermark=False,
                sync=None,
                speed=None,
                clock=clock,
                commit_group=None,
                on_progress=None,
            ),
            archive=archive,
            rules=ArchiverRules(
                limits=FlushLimits(records=flush_records, size_bytes=flush_bytes, age=flush_interval),
                on_gap=on_gap,
                isolation_level=kafka.isolation_level,
            ),
            announce=notify,
        )

    def expand(self, pbegin: PBegin) -> PCollection:
        """Topics -> partitions -> flushes."""
        check_runner(pbegin.pipeline)
        keep_prism_from_splitting(pbegin.pipeline)
        source = replace(self._options.source, one_watermark=needs_one_watermark(pbegin.pipeline))
        options = replace(self._options, source=source)
        if self._validate:
            find_partitions(options.source)
            _check_archive(options)
            if options.announce is not None:
                options.announce.check()
        dofn = _ArchiveUnbounded(options) if options.source.stop is None else _ArchiveBounded(options)
        return (
            pbegin
            | "Partitions" >> Discover(options.source, self._discovery_s)
            | "Archive" >> beam.ParDo(dofn).with_output_types(ArchivedFlush)
        )

    def display_data(self) -> dict[str, object]:
        """What runners show about this step. No addresses, no settings: those may hold secrets."""
        limits = self._options.rules.limits
        return {
            "topic": str(self._options.source.topics),
            "flush_records": limits.records,
            "flush_bytes": limits.size_bytes,
        }


def _names(topic: object) -> tuple[str, ...]:
    names = (topic,) if isinstance(topic, str) else tuple(topic) if isinstance(topic, Sequence) else ()
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"topic must be the name of a topic or a list of different names, got {topic!r}.")
    return names


def _at_least_one(option: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{option} must be a number of at least 1, got {value!r}.")


def _longer_than_nothing(option: str, value: object) -> None:
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise ConfigError(f"{option} must be a timedelta longer than 0, got {value!r}.")


def _check_stop(stop: PinnedStop | None, topics: Sequence[str], now_ms: int) -> None:
    """Whether it is an offset by now: waiting for an instant would leave a flush open till then."""
    if stop is None:
        return
    for topic in topics:
        to = stop_of(stop, topic)
        if isinstance(to, AtTimestamp) and to.timestamp_ms > now_ms:
            raise ConfigError(
                f"stop is {iso(to.timestamp_ms)}, still to come: an archiver stops at what is there already."
            )


def _check_archive(options: _Options) -> None:
    """Whether the storage answers, and what is there was archived under the same isolation level."""
    archive = options.archive.connect()
    try:
        for topic in options.source.topics.names:
            archive.check(topic, isolation_level=options.rules.isolation_level, must_exist=False)
    finally:
        archive.close()


class _Archive(beam.DoFn, RestrictionProvider, WatermarkEstimatorProvider):
    """Archives one partition."""

    def __init__(self, options: _Options) -> None:
        self.options = options
        self._pool: ArchiverPool | None = None

    def setup(self) -> None:
        """Joins the pool of this process."""
        clock, age = self.options.source.clock, self.options.rules.limits.age
        self._pool = pools.POOLS.acquire(self.options.source.key, lambda: ArchiverPool(clock, age))
        self._patience = shared_patience(self.options.source.key, self.options.source.clock)

    def teardown(self) -> None:
        """Leaves it; the last one to leave closes the connections."""
        if self._pool is not None:
            self._pool = None
            pools.POOLS.release(self.options.source.key)

    # -- what Beam asks

    def initial_restriction(self, element: Element) -> LogRestriction:
        """From where the commits end, or, where there are none, from `start`."""
        options, assigned = self.options.source, Assigned(*element)
        kafka, archive = options.kafka.connect(), self.options.archive.connect()
        try:
            tp, stop = assigned.tp, None
            archive.check(tp.topic, isolation_level=self.options.rules.isolation_level, must_exist=False)
            start = archive.index(tp).stop
            if start is None:
                found_later = assigned.unseen_ms is not None
                start = 0 if found_later else resolve_start(start_of(options.start, tp.topic), tp, kafka, None)
            if options.stop is not None:
                now_ms = options.clock.now_ms()
                found = resolve_stop(stop_of(options.stop, tp.topic), tp, kafka, None, now_ms=now_ms)
                assert not isinstance(found, StopBefore), "refused when the pipeline was built"
                stop = max(start, found)
            return LogRestriction(start=start, stop=stop, known_end=kafka.bounds(tp).stop)
        finally:
            kafka.close()
            archive.close()

    def create_tracker(self, restriction: LogRestriction) -> LogTracker:
        """Tracker of a restriction."""
        return LogTracker(restriction)

    def restriction_coder(self) -> Coder:
        """Explicit and versioned (B5)."""
        refuse_old_direct_runner()
        return RestrictionCoder()

    def restriction_size(self, element: Element, restriction: LogRestriction) -> int:
        """Offsets below the end that was known at the start: an estimate."""
        del element
        return max(0, (restriction.known_end if restriction.stop is None else restriction.stop) - restriction.start)

    def initial_estimator_state(self, element: Element, restriction: LogRestriction) -> WatermarkState:
        """Not known yet."""
        del element, restriction
        return WatermarkState()

    def create_watermark_estimator(self, estimator_state: WatermarkState) -> LogWatermarkEstimator:
        """Estimator that goes on from a state."""
        return LogWatermarkEstimator(estimator_state)

    def estimator_state_coder(self) -> Coder:
        """Explicit and versioned (B5)."""
        return WatermarkStateCoder()

    # -- archiving

    def _run(self, element: Element, tracker: RestrictionTracker, estimator: Any) -> Iterator[WindowedValue]:
        """A call: gives out what is committed, and drives the archiver until the budget is spent or there is nothing to do."""
        assert self._pool is not None, "Beam sets a DoFn up before it calls process"
        options, tp = self.options.source, Assigned(*element).tp
        restriction: LogRestriction = tracker.current_restriction()
        estimator.start_call(joint_watermark(options.key) if options.one_watermark else None, tp)
        began, emitted = options.clock.monotonic(), False
        with self._pool.lease(tp, restriction.start, lambda: self._open(tp, restriction.start)) as working:
            while True:
                for flush in () if working.busy else working.archiver.committed(working.offset):
                    if flush.stop <= working.offset or restriction.ends_at(working.offset):
                        continue  # no claim would cover it: it was given out with the stop that it reaches over
                    if not self._claim(tracker, working, flush.stop, restriction.stop):
                        return
                    emitted = True
                    yield self._output(tp, flush, estimator)
                if self._ended(tracker, working, restriction.stop):
                    if emitted:
                        tracker.defer_remainder()  # what was emitted must be out before the end is claimed (T4)
                        return
                    break
                went_on = working.advance(restriction.stop, self._patience.of(tp))
                if not went_on or options.clock.monotonic() - began > options.budget.seconds:
                    self._patience.had_work(tp, had_work=went_on)
                    if not emitted and not working.busy:
                        estimator.nothing_new(options.clock.now_ms(), 0, _IDLE)
                    tracker.defer_remainder(None if went_on else _RESUME_DELAY)
                    return
        self._pool.done(tp)
        if tracker.try_claim(End()):
            estimator.end()

    def _claim(self, tracker: RestrictionTracker, working: Working, offset: int, stop: int | None) -> bool:
        """Claims up to an offset that is beyond what was claimed, or to the stop where that comes first."""
        offset = offset if stop is None else min(offset, stop)
        claimed: bool = tracker.try_claim(UpTo(offset))
        if claimed:
            working.offset = offset
        return claimed

    def _ended(self, tracker: RestrictionTracker, working: Working, stop: int | None) -> bool:
        """Whether nothing is left below the stop: all is committed, or Kafka had forgotten it."""
        if stop is None or working.busy:
            return False
        if working.offset >= stop:
            return True
        return working.archiver.done(stop) and self._claim(tracker, working, stop, stop)

    def _output(self, tp: TopicPartition, flush: Flush, estimator: Any) -> WindowedValue:
        state, now = estimator.get_estimator_state(), self.options.source.clock.now_ms() * 1_000
        micros = max(now, state.reported or now, state.earned or now)
        estimator.emitted(micros, 0)
        metrics.FLUSHES_ARCHIVED.of(tp.topic).inc()
        found = ArchivedFlush(tp.topic, tp.partition, flush.start, flush.stop, flush.min_timestamp, flush.max_timestamp)
        return windowed_value.create(found, micros, WINDOWS, PANE_INFO_UNKNOWN)

    def _open(self, tp: TopicPartition, first: int) -> PartitionArchiver:
        options = self.options
        kafka = options.source.kafka.connect()
        try:
            announcer = Nobody() if options.announce is None else options.announce.connect()
        except BaseException:
            kafka.close()
            raise
        return PartitionArchiver(
            tp, options.archive.storage(), kafka, announcer=announcer, rules=options.rules, clock=options.source.clock, first=first
        )  # fmt: skip


class _ArchiveUnbounded(_Archive):
    """For ever."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: Element,
        tracker: RestrictionTracker = beam.DoFn.RestrictionParam(),  # noqa: B008 - Beam's way of asking for it
        estimator: WatermarkEstimator = beam.DoFn.WatermarkEstimatorParam(),  # noqa: B008
    ) -> Iterator[Any]:
        """See `_Archive._run`."""
        return self._run(element, tracker, estimator)


class _ArchiveBounded(_Archive):
    """Up to a stop. A class of its own, because Beam tells the two apart by the class."""

    def process(
        self,
        element: Element,
        tracker: RestrictionTracker = beam.DoFn.RestrictionParam(),  # noqa: B008
        estimator: WatermarkEstimator = beam.DoFn.WatermarkEstimatorParam(),  # noqa: B008
    ) -> Iterator[Any]:
        """See `_Archive._run`."""
        return self._run(element, tracker, estimator)
