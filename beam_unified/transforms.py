"""The PTransforms. Options are checked here, when the pipeline is built; `expand` reads like the picture in DESIGN.md."""

import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import UnionType
from typing import Any, Literal, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders import registry
from apache_beam.pvalue import PBegin, PCollection

from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.dead_letters import DeadLetter
from beam_unified.decoding.decoder import Decoder
from beam_unified.decoding.limits import DeadLetterLimit
from beam_unified.errors import ConfigError
from beam_unified.event_time import KafkaTimestamp, TimestampFn, event_time, to_micros
from beam_unified.kafka.client import Kafka
from beam_unified.late_files import LateFile
from beam_unified.positions import (
    Launch,
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
from beam_unified.reading.reader import OnGap, ReadOptions
from beam_unified.records import Record
from beam_unified.replay_speed import PinnedSpeed, ReplaySpeed
from beam_unified.snapshots.snapshot import Snapshot
from beam_unified.source.arrow import ExplodeRows, RecordBatchCoder
from beam_unified.source.call import DEAD_LETTERS, LATE_FILES, POSITIONS
from beam_unified.source.chunks import Chunk, Decoded, Explode
from beam_unified.source.coders import ChunkCoder, DeadLetterCoder, DecodedCoder, LateFileCoder, RecordCoder
from beam_unified.source.columns import arrow_output
from beam_unified.source.committing import CommitPositions
from beam_unified.source.discovery import Discover, find_partitions
from beam_unified.source.dofn import ReadBounded, ReadUnbounded
from beam_unified.source.lacks import check_lacks
from beam_unified.source.membership import register
from beam_unified.source.options import ReadProgress, SourceOptions, Synchronised, Topics
from beam_unified.source.pacing import CallBudget
from beam_unified.source.pieces import CutInPieces
from beam_unified.source.rows import with_schema
from beam_unified.source.runners import check_runner, keep_prism_from_splitting, needs_one_watermark, warn_of_late_loss
from beam_unified.stores import ArchiveSource, KafkaSource
from beam_unified.sync.options import SyncGroup, WaitMode
from beam_unified.sync.reports import RateLimit
from beam_unified.watermarks import IdlePolicy

registry.register_coder(Record, RecordCoder)
registry.register_coder(Chunk, ChunkCoder)
registry.register_coder(DeadLetter, DeadLetterCoder)
registry.register_coder(LateFile, LateFileCoder)
registry.register_coder(Decoded, DecodedCoder)
registry.register_coder(pa.RecordBatch, RecordBatchCoder)

_LONGEST = timedelta(days=36_500)  # far beyond use, and far from where 64 bits of microseconds end
_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)


class Results(NamedTuple):
    """What `ReadUnified` gives with `dead_letters=True`.

    Attributes:
        records: What it gives without.
        dead_letters: `DeadLetter`s: skipped gaps, records that cannot be decoded or have no event time.
    """

    records: PCollection
    dead_letters: PCollection


class LateFileResults(NamedTuple):
    """What `ReadUnified` gives with `late_files=True`.

    Attributes:
        records: What it gives without.
        late_files: `LateFile`s: flushes that landed when their offsets had been skipped.
    """

    records: PCollection
    late_files: PCollection


class AllResults(NamedTuple):
    """What `ReadUnified` gives with `dead_letters=True` and `late_files=True`.

    Attributes:
        records: What it gives without.
        dead_letters: As in `Results`.
        late_files: As in `LateFileResults`.
    """

    records: PCollection
    dead_letters: PCollection
    late_files: PCollection


_APART: Mapping[str, tuple[str, type]] = {
    DEAD_LETTERS: ("Dead letters", DeadLetter),
    LATE_FILES: ("Late files", LateFile),
}
_RESULTS: Mapping[tuple[str, ...], Callable[..., Results | LateFileResults | AllResults]] = {
    (DEAD_LETTERS,): Results,
    (LATE_FILES,): LateFileResults,
    (DEAD_LETTERS, LATE_FILES): AllResults,
}


class ReadUnified(beam.PTransform):
    """Reads topics as one log each: archived files first, then Kafka, from the exact next offset.

    The output has event timestamps from `timestamp_fn`; per partition it is in offset order, every record once per
    attempt of the runner (the numbered rules are in docs/guarantees.md). With `dead_letters=True` the output is `Results`, with
    `late_files=True` `LateFileResults`, with both `AllResults`: `.records` first.

    Traps: with `max_out_of_orderness` too small, records out of order are late and windows drop them. Without `stop` the
    pipeline never ends; DirectRunner then shows nothing after the first shuffle. Without `dead_letters` a record without an
    event time fails the pipeline. Without `stop` the watermark follows the search for new partitions, too: it is
    one to two `discovery_interval`s behind the clock, at best.

    Args:
        topic: Name of a topic, several names, or a compiled pattern for the whole name. With a pattern, and without
            `stop`, topics that appear later are read too.
        kafka: `Kafka("host:9092", config={...})`, or a testing kit's.
        archive: `Archive("s3://bucket/root")`, or a testing kit's; None reads Kafka only.
        start: Where to start; the first offset that either store holds by default. See `Start`.
        stop: Where to stop; a bounded PCollection then. See `Stop`.
        timestamp_fn: Event time of a record; required. `KafkaTimestamp()`, `JsonField("time", unit="ms")`, or a function
            `Record -> aware datetime | Timestamp`. With a decoder a function gets the decoded value instead, and there is
            `Field("time", unit="ms")`; both use the value that the output gets, which is decoded once.
        decoder: What the bytes of a value mean: `Json(Pin)`, `Text()`, or see docs/decoding.md. The output's type and coder
            follow from it. A record that it cannot decode fails the pipeline, or is a dead letter.
        max_out_of_orderness: How much older than its predecessors a record may be without being late.
        initial_watermark: Event time before which no record is expected; None takes the start where that says something
            about event time, else the minimum.
        on_idle: "advance": a partition at its end lets the watermark follow the clock; "hold": it does not. None is
            "advance" with `KafkaTimestamp`, else "hold" (event time may be years from the clock).
        idle_timeout: How long there must be nothing new before a partition counts as idle.
        output: "value" for the value: bytes, or what the decoder gives. "record" for `Record`; with a decoder for `Decoded`, the
            value beside the record. "arrow" for `pyarrow.RecordBatch`, thousands of records each (docs/arrow.md).
        ordered: False reads the archived part of a partition in pieces, of a flush or more, side by side; the output then is
            in order within a piece only, and the watermark is held back by the slowest piece.
        prefer: Which store serves an offset that both hold; "archive" spares the brokers.
        on_gap: What becomes of offsets that neither store has, although later records exist, when `gap_timeout` is over:
            "fail"; "skip", with an error in the log, the counter `gaps` and a dead letter; "wait" for ever.
        gap_timeout: How long to look for a late file first.
        dead_letters: Give `Results` with a second output, instead of failing over a record that cannot be decoded or timed.
        dead_letter_limit: How many may be bad before the pipeline fails all the same; None is any number.
        late_files: Give a further output, of flushes that landed in the archive when a reader with `on_gap="skip"` had skipped
            their offsets. Not with `ordered=False`. They are logged and counted (`late_files`) in any case.
        late_file_interval: How often a reader that has skipped something lists its partition anew to find them.
        discovery_interval: How often to look for new partitions, and for new topics of a pattern; None does not look. Not
            used with `stop`.
        sync: The group of sources that this one keeps in step with (docs/synchronisation.md); the topics must be named, and read
            in order. The output watermark then is at most the slowest reader's plus `max_drift`.
        wait_for: Topic of the group -> instant, or `LAUNCH`: read nothing until every partition of that topic has come so far.
        wait_mode: "closed", or "not_past": read what is before the instant meanwhile.
        rate_limit: Of each topic, over all workers.
        replay_speed: Give records no faster than `ReplaySpeed(factor, start)` says, in event time: for load tests. Not with
            `ordered=False`.
        commit_group: A consumer group to which positions are committed every 5 s, for lag monitors, once the runner has made safe
            what was emitted before them; never read. Needs `Kafka`, order, and a runner that finalizes bundles: Flink does with
            checkpoints. The group must have no members.
        validate: Ask both stores for the topic while the pipeline is built. Turn off where the machine that builds the
            pipeline cannot reach them; the same checks then run on the workers.
        on_progress: Called on the worker once a batch, and about ten times a second for a reader that the sync group holds. Must
            be picklable and quick.
        clock: For tests.

    Raises:
        ConfigError: an option that cannot work.
        StoreError: with `validate`, an unknown topic, no broker, no bucket, no archive of the topic, wrong credentials.
    """

    def __init__(
        self,
        topic: str | Sequence[str] | re.Pattern[str],
        kafka: KafkaSource,
        archive: ArchiveSource | None,
        *,
        timestamp_fn: TimestampFn | None = None,
        decoder: Decoder | None = None,
        start: StartPosition | None = None,
        stop: StopPosition | None = None,
        max_out_of_orderness: timedelta = timedelta(0),
        initial_watermark: datetime | None = None,
        on_idle: str | None = None,
        idle_timeout: timedelta = timedelta(seconds=10),
        output: Literal["value", "record", "arrow"] = "value",
        ordered: bool = True,
        prefer: Prefer = "archive",
        on_gap: OnGap = "fail",
        gap_timeout: timedelta = timedelta(seconds=30),
        dead_letters: bool = False,
        dead_letter_limit: DeadLetterLimit | None = None,
        late_files: bool = False,
        late_file_interval: timedelta = timedelta(minutes=1),
        discovery_interval: timedelta | None = timedelta(seconds=5),
        sync: SyncGroup | None = None,
        wait_for: Mapping[str, datetime | str | Launch] | None = None,
        wait_mode: WaitMode = "closed",
        rate_limit: RateLimit | None = None,
        replay_speed: ReplaySpeed | None = None,
        commit_group: str | None = None,
        validate: bool = True,
        on_progress: Callable[[ReadProgress], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__()
        topics = _topics(topic)
        _decoder(decoder)
        times = event_time(timestamp_fn, decoded=decoder is not None)
        _position("start", start, StartPosition, "Start")
        _position("stop", stop, StopPosition, "Stop")
        _one_of("on_idle", on_idle, (None, "advance", "hold"))
        _one_of("output", output, ("value", "record", "arrow"))
        _one_of("prefer", prefer, ("archive", "kafka"))
        _one_of("on_gap", on_gap, ("fail", "skip", "wait"))
        _one_of("ordered", ordered, (True, False))
        _one_of("dead_letters", dead_letters, (True, False))
        _limit(dead_letter_limit, dead_letters=dead_letters)
        _one_of("late_files", late_files, (True, False))
        if late_files and not ordered:
            raise ConfigError(
                "late_files and ordered=False exclude each other: a piece ends with its last record, and nobody looks for what "
                "it skipped. Read in order, or look afterwards with find_late_files(...)."
            )
        if discovery_interval is not None:
            _duration("discovery_interval", discovery_interval)
            if not discovery_interval:
                raise ConfigError("discovery_interval must be longer than 0; None does not look for new partitions.")
        for name, value in (
            ("max_out_of_orderness", max_out_of_orderness),
            ("idle_timeout", idle_timeout),
            ("gap_timeout", gap_timeout),
            ("late_file_interval", late_file_interval),
        ):
            _duration(name, value)
        advance = isinstance(times, KafkaTimestamp) if on_idle is None else on_idle == "advance"
        now_ms = clock.now_ms()
        check_lacks(archive, times, output=output, start=start, stop=stop)
        self._output: Literal["value", "record", "arrow"] = output
        self._decoder = decoder
        self._validate = validate
        self._start: PinnedStart = pin_start(Start.earliest() if start is None else start, now_ms)
        self._stop: PinnedStop | None = None if stop is None else pin_stop(stop, now_ms)
        check_order(self._start, self._stop)
        self._options = SourceOptions(
            key=f"{topics}-{uuid.uuid4()}",
            topics=topics,
            kafka=kafka,
            archive=archive,
            start=self._start,
            stop=self._stop,
            ordered=ordered,
            decoder=decoder,
            event_time=times,
            max_out_of_orderness=max_out_of_orderness // _MICROSECOND,
            initial_watermark=None if initial_watermark is None else _initial(initial_watermark),
            idle=IdlePolicy(advance=advance, timeout_ms=idle_timeout // _MILLISECOND),
            reading=ReadOptions(prefer=prefer, on_gap=on_gap, gap_timeout=gap_timeout),
            dead_letters=dead_letters,
            dead_letter_limit=dead_letter_limit,
            late_files=late_files,
            late_file_interval=late_file_interval,
            budget=CallBudget.of_columns() if output == "arrow" else CallBudget(),
            arrow=arrow_output(decoder) if output == "arrow" else None,
            one_watermark=False,
            sync=_synchronised(sync, topics, ordered=ordered, wait_for=wait_for, mode=wait_mode, limit=rate_limit),
            speed=_speed(replay_speed, now_ms, ordered=ordered),
            commit_group=_commit_group(commit_group, kafka, ordered=ordered),
            clock=clock,
            on_progress=on_progress,
        )
        self._discovery_s = (
            None if stop is not None or discovery_interval is None else discovery_interval.total_seconds()
        )

    @classmethod
    def from_snapshot(
        cls,
        snapshot: Snapshot | str | os.PathLike[str],
        *,
        timestamp_fn: TimestampFn | None = None,
        storage_options: Mapping[str, Any] | None = None,
        topics: str | Sequence[str] | None = None,
        archive_root: str | None = None,
        **options: Any,
    ) -> "ReadUnified":
        """Replays a snapshot: the same records and event times each time, without a broker (R9).

        Args:
            snapshot: Path or URL of a file that `Snapshot.save` wrote, or the snapshot itself.
            timestamp_fn: As above; required.
            storage_options: Passed to fsspec for the archive, and for the snapshot file.
            topics: Some of its topics; None for all.
            archive_root: Where the archive is now, if it was moved or copied since.
            options: Any other option above. Where to start and to stop is what the snapshot pins.

        Raises:
            ConfigError: no snapshot file; an option that the snapshot decides, or that cannot work.
            SnapshotChangedError: with `validate`, a pinned file is missing or changed, or others came into the pinned
                ranges. A worker looks again, and at the content of each file that it opens.
        """
        if decided := sorted({"topic", "kafka", "archive", "start", "stop"} & options.keys()):
            raise ConfigError(f"{decided[0]} is what the snapshot pins: leave it out, or read with ReadUnified(...).")
        pinned = snapshot if isinstance(snapshot, Snapshot) else Snapshot.load(snapshot, storage_options)
        pinned = pinned if topics is None else pinned.only(topics)
        return cls(
            pinned.topics,
            pinned.kafka(),
            pinned.archive(storage_options, root=archive_root),
            start=pinned.start(),
            stop=pinned.stop(),
            timestamp_fn=timestamp_fn,
            **options,
        )

    def expand(self, pbegin: PBegin) -> Any:
        """Topics -> partitions -> chunks -> records, or batches of them: a PCollection, or one of the `Results`."""
        check_runner(pbegin.pipeline)
        keep_prism_from_splitting(pbegin.pipeline)
        self._options = replace(self._options, one_watermark=needs_one_watermark(pbegin.pipeline))
        warn_of_late_loss(pbegin.pipeline.options)
        if self._options.sync is not None:
            register(pbegin.pipeline, self._options.sync, self._options.topics.names)
        if self._validate:
            find_partitions(self._options)
        partitions = pbegin | "Partitions" >> Discover(self._options, self._discovery_s)
        if not self._options.ordered:
            partitions = partitions | "Pieces" >> CutInPieces(self.splittable_dofn())
        read = beam.ParDo(self.splittable_dofn()).with_output_types(
            Chunk if self._output != "arrow" else pa.RecordBatch
        )
        apart = (DEAD_LETTERS,) * self._options.dead_letters + (LATE_FILES,) * self._options.late_files
        tags = apart + (POSITIONS,) * (self._options.commit_group is not None)
        if not tags:
            return self._elements(partitions | "Read" >> read)
        found = partitions | "Read" >> read.with_outputs(*tags, main="chunks")
        if self._options.commit_group is not None:
            assert isinstance(self._options.kafka, Kafka), "checked when the transform was made"
            commit = CommitPositions(self._options.key, self._options.kafka, self._options.commit_group)
            _ = found[POSITIONS] | "Commit positions" >> beam.ParDo(commit)
        elements = self._elements(found.chunks)
        return _RESULTS[apart](elements, *(_typed(tag, found[tag]) for tag in apart)) if apart else elements

    def _elements(self, chunks: PCollection) -> PCollection:
        """What the source emitted, as the user wants it."""
        if self._output == "arrow":
            return chunks
        return chunks | "Explode" >> beam.ParDo(self.explode_dofn()).with_output_types(self._output_type())

    def _output_type(self) -> object:
        if self._decoder is None:
            return Record if self._output == "record" else bytes | None
        return Decoded if self._output == "record" else with_schema(self._decoder.element_type)

    def splittable_dofn(self) -> ReadUnbounded | ReadBounded:
        """The DoFn that reads; for `harness`, which drives it without a runner."""
        return ReadUnbounded(self._options) if self._stop is None else ReadBounded(self._options)

    def explode_dofn(self) -> Explode | ExplodeRows:
        """The DoFn that makes elements, a record each, of what it emits; with output="arrow" users put it there."""
        return ExplodeRows() if self._output == "arrow" else Explode(self._output, self._decoder)

    def display_data(self) -> dict[str, object]:
        """What runners show about this step. No addresses, no settings: those may hold secrets."""
        return {
            "topic": str(self._options.topics),
            "start": str(self._start),
            "stop": str(self._stop),
            "output": self._output,
            **({} if self._decoder is None else {"decoder": type(self._decoder).__name__}),
        }


def _typed(tag: str, output: PCollection) -> PCollection:
    """An output as it is, of a type that has a coder."""
    label, element = _APART[tag]
    return output | label >> beam.Map(_itself).with_output_types(element)


def _itself(element: object) -> object:
    return element


def _decoder(decoder: object) -> None:
    if decoder is not None and (isinstance(decoder, type) or not isinstance(decoder, Decoder)):
        raise ConfigError(f"decoder must be a decoder such as Json(Pin) or Text(), got {decoder!r}.")


def _limit(limit: object, *, dead_letters: bool) -> None:
    if limit is None:
        return
    if not isinstance(limit, DeadLetterLimit):
        raise ConfigError(f"dead_letter_limit must be a DeadLetterLimit, got {limit!r}.")
    if not dead_letters:
        raise ConfigError(
            "dead_letter_limit without dead_letters=True: the first bad record fails the pipeline anyway."
        )


def _topics(topic: object) -> Topics:
    """The topics a user named. Raises ConfigError."""
    if isinstance(topic, re.Pattern) and isinstance(topic.pattern, str):
        return Topics(pattern=topic)
    names = [topic] if isinstance(topic, str) else topic
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(
            f"topic must be the name of a topic, a list of names, or a compiled pattern such as re.compile('pins-.*'), "
            f"got {topic!r}."
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"topic names a topic twice: {', '.join(names)}.")
    return Topics(names=tuple(names))


def _synchronised(
    sync: SyncGroup | None,
    topics: Topics,
    *,
    ordered: bool,
    wait_for: Mapping[str, datetime | str | Launch] | None,
    mode: WaitMode,
    limit: RateLimit | None,
) -> Synchronised | None:
    """The group and what is asked of it. Raises ConfigError."""
    if sync is None:
        for option, value in (("wait_for", wait_for), ("rate_limit", limit)):
            if value is not None:
                raise ConfigError(
                    f"{option} is kept by a sync group: add sync=SyncGroup('my-job', ['{topics}', ...]), with "
                    "coordinator=KafkaSyncTopic(kafka=...) where there are several workers."
                )
        return None
    if not isinstance(sync, SyncGroup):
        raise ConfigError(f"sync must be a SyncGroup, got {sync!r}.")
    if topics.pattern is not None:
        raise ConfigError(f"sync needs topics by name, got the pattern {topics}: the group must know whom to wait for.")
    if not ordered:
        raise ConfigError(
            "sync and ordered=False exclude each other: drift and gates follow one watermark a partition."
        )
    return Synchronised(sync, sync.rules(topics.names, wait_for=wait_for, mode=mode, limit=limit))


def _speed(speed: object, now_ms: int, *, ordered: bool) -> PinnedSpeed | None:
    if speed is None:
        return None
    if not isinstance(speed, ReplaySpeed):
        raise ConfigError(f"replay_speed must be a ReplaySpeed(factor, start), got {speed!r}.")
    if not ordered:
        raise ConfigError("replay_speed and ordered=False exclude each other: pieces of one partition lie days apart.")
    return speed.pinned(now_ms)


def _commit_group(group: object, kafka: KafkaSource, *, ordered: bool) -> str | None:
    if group is None:
        return None
    if not isinstance(group, str) or not group:
        raise ConfigError(f"commit_group must be the name of a consumer group, got {group!r}.")
    if not isinstance(kafka, Kafka):
        raise ConfigError(f"commit_group needs Kafka('host:9092') to commit to, got {kafka!r}.")
    if not ordered:
        raise ConfigError(
            "commit_group and ordered=False exclude each other: a partition in pieces has no one position."
        )
    return group


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
