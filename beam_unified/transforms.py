"""The PTransforms. Options are checked here, when the pipeline is built; `expand` reads like the picture in DESIGN.md."""

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from types import UnionType

import apache_beam as beam
from apache_beam.coders import registry
from apache_beam.pvalue import PBegin, PCollection

from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.errors import ConfigError
from beam_unified.event_time import KafkaTimestamp, TimestampFn, event_time, to_micros
from beam_unified.positions import (
    AtOffsets,
    PinnedStart,
    PinnedStop,
    Start,
    StartPosition,
    StopPosition,
    check_order,
    pin_start,
    pin_stop,
)
from beam_unified.reading.choice import Prefer
from beam_unified.reading.reader import ReadOptions
from beam_unified.records import Record
from beam_unified.source.chunks import Chunk, Explode, Output
from beam_unified.source.coders import ChunkCoder, RecordCoder
from beam_unified.source.dofn import Element, ReadBounded, ReadProgress, ReadUnbounded, SourceOptions
from beam_unified.source.pacing import CallBudget
from beam_unified.source.runners import check_runner, keep_prism_from_splitting, warn_of_late_loss
from beam_unified.stores import ArchiveSource, KafkaSource
from beam_unified.watermarks import IdlePolicy

registry.register_coder(Record, RecordCoder)
registry.register_coder(Chunk, ChunkCoder)

_LONGEST = timedelta(days=36_500)  # far beyond use, and far from where 64 bits of microseconds end
_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)


class ReadUnified(beam.PTransform):
    """Reads a topic as one log: archived files first, then Kafka, from the exact next offset.

    The output has event timestamps from `timestamp_fn`; per partition it is in offset order, every record once per
    attempt of the runner (the numbered rules are in docs/guarantees.md).

    Traps: with `max_out_of_orderness` too small, records out of order are late and windows drop them. Without `stop` the
    pipeline never ends; DirectRunner then shows nothing after the first shuffle. Records without an event time fail the
    pipeline.

    Args:
        topic: Name of the topic.
        kafka: `Kafka("host:9092", config={...})`, or a testing kit's.
        archive: `Archive("s3://bucket/root")`, or a testing kit's; None reads Kafka only.
        start: Where to start; the first offset that either store holds by default. See `Start`.
        stop: Where to stop; a bounded PCollection then. See `Stop`.
        timestamp_fn: Event time of a record; required. `KafkaTimestamp()`, `JsonField("time", unit="ms")`, or a function
            `Record -> aware datetime | Timestamp`.
        max_out_of_orderness: How much older than its predecessors a record may be without being late.
        initial_watermark: Event time before which no record is expected; None takes the start where that says something
            about event time, else the minimum.
        on_idle: "advance": a partition at its end lets the watermark follow the clock; "hold": it does not. None is
            "advance" with `KafkaTimestamp`, else "hold" (event time may be years from the clock).
        idle_timeout: How long there must be nothing new before a partition counts as idle.
        output: "value" for the bytes of the value, "record" for `Record`.
        prefer: Which store serves an offset that both hold; "archive" spares the brokers.
        gap_timeout: How long to look for a late file when neither store has an offset, before that is an error.
        validate: Ask both stores for the topic while the pipeline is built. Turn off where the machine that builds the
            pipeline cannot reach them; the same checks then run on the workers.
        on_progress: Called on the worker once a batch. Must be picklable and quick.
        clock: For tests.

    Raises:
        ConfigError: an option that cannot work.
        StoreError: with `validate`, an unknown topic, no broker, no bucket, no archive of the topic, wrong credentials.
    """

    def __init__(
        self,
        topic: str,
        kafka: KafkaSource,
        archive: ArchiveSource | None,
        *,
        timestamp_fn: TimestampFn | None = None,
        start: StartPosition | None = None,
        stop: StopPosition | None = None,
        max_out_of_orderness: timedelta = timedelta(0),
        initial_watermark: datetime | None = None,
        on_idle: str | None = None,
        idle_timeout: timedelta = timedelta(seconds=10),
        output: Output = "value",
        prefer: Prefer = "archive",
        gap_timeout: timedelta = timedelta(seconds=30),
        validate: bool = True,
        on_progress: Callable[[ReadProgress], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__()
        if not topic or not isinstance(topic, str):
            raise ConfigError(f"topic must be the name of one topic, got {topic!r}.")
        times = event_time(timestamp_fn)
        _position("start", start, StartPosition, "Start")
        _position("stop", stop, StopPosition, "Stop")
        _one_of("on_idle", on_idle, (None, "advance", "hold"))
        _one_of("output", output, ("value", "record"))
        _one_of("prefer", prefer, ("archive", "kafka"))
        for name, value in (
            ("max_out_of_orderness", max_out_of_orderness),
            ("idle_timeout", idle_timeout),
            ("gap_timeout", gap_timeout),
        ):
            _duration(name, value)
        advance = isinstance(times, KafkaTimestamp) if on_idle is None else on_idle == "advance"
        now_ms = clock.now_ms()
        self._topic = topic
        self._output = output
        self._validate = validate
        self._start: PinnedStart = pin_start(Start.earliest() if start is None else start, now_ms)
        self._stop: PinnedStop | None = None if stop is None else pin_stop(stop, now_ms)
        check_order(self._start, self._stop)
        self._options = SourceOptions(
            key=f"{topic}-{uuid.uuid4()}",
            kafka=kafka,
            archive=archive,
            start=self._start,
            stop=self._stop,
            event_time=times,
            max_out_of_orderness=max_out_of_orderness // _MICROSECOND,
            initial_watermark=None if initial_watermark is None else _initial(initial_watermark),
            idle=IdlePolicy(advance=advance, timeout_ms=idle_timeout // _MILLISECOND),
            reading=ReadOptions(prefer=prefer, gap_timeout=gap_timeout),
            budget=CallBudget(),
            clock=clock,
            on_progress=on_progress,
        )

    def expand(self, pbegin: PBegin) -> PCollection:
        """Topic -> partitions -> records."""
        check_runner(pbegin.pipeline)
        keep_prism_from_splitting(pbegin.pipeline)
        warn_of_late_loss(pbegin.pipeline.options)
        if self._validate:
            find_partitions(self._topic, self._options)
        return (
            pbegin
            | "Topic" >> beam.Create([self._topic], reshuffle=False)
            | "Partitions" >> beam.ParDo(_ListPartitions(self._options)).with_output_types(tuple[str, int])
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(self.splittable_dofn()).with_output_types(Chunk)
            | "Explode" >> beam.ParDo(self.explode_dofn()).with_output_types(self._output_type())
        )

    def _output_type(self) -> object:
        return Record if self._output == "record" else bytes | None

    def splittable_dofn(self) -> ReadUnbounded | ReadBounded:
        """The DoFn that reads; for `harness`, which drives it without a runner."""
        return ReadUnbounded(self._options) if self._stop is None else ReadBounded(self._options)

    def explode_dofn(self) -> Explode:
        """The DoFn behind it, which makes elements of what it emits."""
        return Explode(self._output)

    def display_data(self) -> dict[str, object]:
        """What runners show about this step. No addresses, no settings: those may hold secrets."""
        return {
            "topic": self._topic,
            "start": str(self._start),
            "stop": str(self._stop),
            "output": self._output,
        }


class _ListPartitions(beam.DoFn):
    """Topic -> its partitions, as they are when the job starts."""

    def __init__(self, options: SourceOptions) -> None:
        self._options = options

    def process(self, topic: str) -> Iterator[Element]:
        """One topic."""
        for partition in find_partitions(topic, self._options):
            yield topic, partition


def find_partitions(topic: str, options: SourceOptions) -> tuple[int, ...]:
    """Asks both stores whether they can serve the topic, and for its partitions.

    Raises:
        StoreError: a store cannot.
        ConfigError: start or stop offsets that do not fit the topic.
    """
    kafka = options.kafka.connect()
    try:
        partitions = kafka.partitions(topic)
    finally:
        kafka.close()
    for option, position in (("start", options.start), ("stop", options.stop)):
        if isinstance(position, AtOffsets):
            position.check_covers(topic, partitions, option=option)
    if options.archive is not None:
        archive = options.archive.connect()
        try:
            archive.check(topic, isolation_level=options.kafka.isolation_level)
        finally:
            archive.close()
    return partitions


def _initial(instant: datetime) -> int:
    try:
        return to_micros(instant) // 1_000 * 1_000  # watermarks are whole milliseconds
    except (TypeError, ValueError) as error:
        raise ConfigError(f"initial_watermark: {error}.") from error


def _position(option: str, value: object, allowed: UnionType, named: str) -> None:
    if value is not None and not isinstance(value, allowed):
        raise ConfigError(
            f"{option} must be made by {named}, for example {named}.at('2026-11-16T00:00:00Z'), got {value!r}."
        )


def _one_of(option: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{option} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")


def _duration(option: str, value: object) -> None:
    if not isinstance(value, timedelta) or not timedelta(0) <= value <= _LONGEST:
        raise ConfigError(f"{option} must be a timedelta of 0 to {_LONGEST.days} days, got {value!r}.")
