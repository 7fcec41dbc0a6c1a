"""Which partitions there are: when the job starts, and, without a stop, those that appear later (R10).

    Topics -> at the start: (topic, partition), all of them -> Watch: those, and new ones -> reader

New ones are found by Beam's own `Watch`, which remembers what it has given. Whoever was not there at the start is read from
offset 0, and carries the time of the poll that did not see it yet: no record of it is older.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import apache_beam as beam
from apache_beam.coders import Coder, FastPrimitivesCoder, StrUtf8Coder, TupleCoder, VarIntCoder
from apache_beam.io.watch import PollFn, PollResult, Watch
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Duration, Timestamp

from beam_unified.errors import KafkaUnavailableError, UnknownTopicError
from beam_unified.offsets import TopicPartition
from beam_unified.positions import AtOffsets, start_of, stop_of
from beam_unified.source import joint
from beam_unified.source.options import SourceOptions

_LOGGER = logging.getLogger(__name__)

_DISCOVERY = "discovery"
"""Whose watermark stands for the partitions that are yet to be found."""


class Assigned(NamedTuple):
    """What travels to the reader: one partition, or a piece of one.

    Attributes:
        topic: Name of the topic.
        partition: Number of the partition.
        unseen_ms: For a partition found while the job runs: when it was last seen not to exist, milliseconds.
        partitions: How many partitions the topic had when this one was found, at least.
        piece: The restriction that it is to be read by, encoded; None for the whole partition (see `pieces`).
    """

    topic: str
    partition: int
    unseen_ms: int | None = None
    partitions: int = 1
    piece: bytes | None = None

    @property
    def tp(self) -> TopicPartition:
        """Topic and partition."""
        return TopicPartition(self.topic, self.partition)


Element = (
    tuple[str, int]
    | tuple[str, int, int | None]
    | tuple[str, int, int | None, int]
    | tuple[str, int, int | None, int, bytes | None]
)
"""`Assigned` on its way: a plain tuple, for the coders; what has a default may be left out."""

ELEMENT_TYPE = tuple[str, int, int | None, int, bytes | None]


def find_partitions(options: SourceOptions) -> tuple[Assigned, ...]:
    """Asks both stores whether they can serve the topics, and for their partitions.

    Raises:
        StoreError: a store cannot; no topic matches a pattern, where there is a stop.
        ConfigError: start or stop offsets that do not fit.
    """
    kafka = options.kafka.connect()
    try:
        topics = options.topics.existing(kafka)
        if not topics:
            _none_matches(options)
        partitions = {topic: kafka.partitions(topic) for topic in topics}
    finally:
        kafka.close()
    for topic, numbers in partitions.items():
        start = start_of(options.start, topic)
        stop = None if options.stop is None else stop_of(options.stop, topic)
        for option, position in (("start", start), ("stop", stop)):
            if isinstance(position, AtOffsets):
                position.check_covers(topic, numbers, option=option)
    if options.archive is not None:
        archive = options.archive.connect()
        try:
            for topic in topics:
                archive.check(topic, isolation_level=options.kafka.isolation_level)
        finally:
            archive.close()
    return tuple(_all_of(partitions))


def _all_of(partitions: Mapping[str, Sequence[int]]) -> Iterator[Assigned]:
    for topic, numbers in partitions.items():
        yield from (Assigned(topic, number, partitions=len(numbers)) for number in numbers)


def _none_matches(options: SourceOptions) -> None:
    what = f"no topic matches {options.topics}, or these credentials may not see it"
    if options.stop is not None:
        raise UnknownTopicError(f"{what}: check the pattern, which is matched against the whole name.")
    _LOGGER.warning("%s; waiting for one to appear", what)


class Discover(beam.PTransform):
    """The partitions to read, as `Element`s.

    Args:
        options: Where to look.
        interval: Seconds between looks for new partitions; None looks once.
    """

    def __init__(self, options: SourceOptions, interval: float | None) -> None:
        super().__init__()
        self._options = options
        self._interval = interval

    def expand(self, pbegin: beam.pvalue.PBegin) -> PCollection:
        """Topics -> partitions."""
        there = (
            pbegin
            | "Topics" >> beam.Create([str(self._options.topics)], reshuffle=False)
            | "At the start" >> beam.ParDo(_ListPartitions(self._options))
        )
        if self._interval is None:
            found = there | "Partitions" >> beam.FlatMap(list).with_output_types(ELEMENT_TYPE)
        else:
            found = (
                there
                | "Watch"
                >> Watch(
                    PollPartitions(self._options),
                    poll_interval=Duration(micros=round(self._interval * 1_000_000)),
                    output_key_fn=_key,
                    output_key_coder=TupleCoder([StrUtf8Coder(), VarIntCoder()]),
                )
                | "Partitions" >> beam.Map(_watched).with_output_types(ELEMENT_TYPE)
            )
        return found | "Spread" >> beam.Reshuffle()


def _key(element: Element) -> tuple[str, int]:
    """What makes two findings the same partition."""
    return element[0], element[1]


def _watched(pair: tuple[object, Element]) -> Element:
    return pair[1]


class _ListPartitions(beam.DoFn):
    """Topics -> one list of their partitions, as they are when the job starts. Its output is kept over restarts."""

    def __init__(self, options: SourceOptions) -> None:
        self._options = options

    def process(self, _topics: str) -> Iterator[list[Element]]:
        """Once a job."""
        there = find_partitions(self._options)
        if self._options.one_watermark:
            joint.begin(self._options.key)
            _hold_for(there, self._options)
        yield list(there)


class PollPartitions(PollFn):
    """The poll function of `Watch`: what was there at the start -> what is there now.

    Each poll allows the watermark to go up to the poll before it (minus `max_out_of_orderness`): what appears after that
    poll holds no older record. A poll that fails allows nothing and is made good by the next one.
    """

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._polled_ms: int | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_options": self._options, "_polled_ms": None}

    def default_output_coder(self) -> Coder:
        """Of an `Element`."""
        return TupleCoder([StrUtf8Coder(), VarIntCoder(), FastPrimitivesCoder(), VarIntCoder(), FastPrimitivesCoder()])

    def __call__(self, at_start: Sequence[Element]) -> PollResult:
        """One poll, over a connection of its own: `Watch` has no end at which one could be closed."""
        options, previous_ms, now_ms = self._options, self._polled_ms, self._options.clock.now_ms()
        try:
            there = self._look()
        except (KafkaUnavailableError, UnknownTopicError) as error:
            _LOGGER.warning("could not look for new partitions of %s, will try again: %s", options.topics, error)
            return PollResult(())
        self._polled_ms = now_ms
        at_start_keys = {_key(element) for element in at_start}
        unseen_ms = 0 if previous_ms is None else previous_ms  # a worker that has just come cannot know
        found = [Assigned(*element) for element in at_start]
        found += [new._replace(unseen_ms=unseen_ms) for new in there if _key(new) not in at_start_keys]
        result = PollResult(
            tuple(TimestampedValue(tuple(one), _time(options.initial_watermark_of(one.unseen_ms))) for one in found)
        )
        allowed = None if previous_ms is None else previous_ms * 1_000 - options.max_out_of_orderness
        if options.one_watermark:
            _hold_for(found, options)
            joint.joint_watermark(options.key).report(_DISCOVERY, allowed)
        if allowed is None:  # the watermark goes to the earliest of what is new, or stays where it is
            return result
        return result.with_watermark(Timestamp(micros=allowed))

    def _look(self) -> list[Assigned]:
        kafka = self._options.kafka.connect()
        try:
            topics = self._options.topics.existing(kafka)
            return list(_all_of({topic: kafka.partitions(topic) for topic in topics}))
        finally:
            kafka.close()


def _hold_for(found: Iterable[Assigned], options: SourceOptions) -> None:
    """Until their readers report, what was found holds the watermark of those that are read already."""
    watermark = joint.joint_watermark(options.key)
    for assigned in found:
        watermark.expect(assigned.tp, options.initial_watermark_of(assigned.unseen_ms))


def _time(micros: int | None) -> Timestamp:
    return MIN_TIMESTAMP if micros is None else Timestamp(micros=micros)
