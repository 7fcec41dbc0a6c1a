"""`ReplayDeadLetters`: the records that dead letters name, read again from whichever store holds them.

    coordinates -> blocks of neighbouring offsets -> one reader a block -> chunks -> records

A block is read in one call, so it is small; what is far apart is in blocks of its own, and read side by side.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindows, TimestampCombiner, TimestampedValue
from apache_beam.utils import windowed_value
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

from beam_unified import dead_letters, metrics
from beam_unified.dead_letters import DeadLetter
from beam_unified.decoding.decoder import Decoder
from beam_unified.decoding.interpreter import Interpreter
from beam_unified.errors import ConfigError, DataLossError
from beam_unified.event_time import TimestampFn
from beam_unified.offsets import TopicPartition
from beam_unified.positions import Stop
from beam_unified.reading.choice import Prefer
from beam_unified.reading.exact import Missing, read_exactly
from beam_unified.reading.reader import ReadOptions
from beam_unified.records import Batch
from beam_unified.source import pool as pools
from beam_unified.source.call import DEAD_LETTERS
from beam_unified.source.chunks import WINDOWS, Chunk, Output
from beam_unified.source.options import SourceOptions
from beam_unified.source.pool import ReaderPool
from beam_unified.stores import ArchiveSource, KafkaSource
from beam_unified.transforms import ReadUnified, Results

_BLOCK = 8_192  # offsets: so many records at most are read in one call, some 50 ms of it
_ANY_TOPIC = re.compile(".+", re.DOTALL)

_Block = tuple[str, int, int]
_Range = tuple[int, int, bool]


class ReplayDeadLetters(beam.PTransform):
    """Reads exactly the records that dead letters name, once each, from the archive or from Kafka; bounded.

    letters = p | ReadUnified("pins.dead", kafka, None, timestamp_fn=KafkaTimestamp(), output="record", stop=Stop.now())
    pins = letters | ReplayDeadLetters(kafka, archive, decoder=Json(Pin), timestamp_fn=Field("at", unit="ms"))

    Elements: `DeadLetter`; `Record` from a topic with Kafka Connect's `__connect.errors.*` headers, ours or Connect's own; or
    (topic, partition, offset). One that is there several times is read once. The dead letter of a gap reads what has
    come back since, all of its offsets.

    Order: by offset within 8,192 of them; no order beyond that.

    Traps: the input must be bounded. A compacted topic keeps the newest record of a key only: what Kafka has removed is missing,
    unless the archive has it. A topic that was created anew has other records at the same offsets.

    Args:
        kafka: As `ReadUnified`'s.
        archive: As `ReadUnified`'s; None reads Kafka only.
        timestamp_fn: As `ReadUnified`'s; required.
        decoder: As `ReadUnified`'s: the corrected one.
        output: As `ReadUnified`'s.
        prefer: Which store serves an offset that both hold.
        dead_letters: Give `Results`: what is bad again, and, with reason "missing", what is in neither store, of an unknown topic
            or partition, too. False fails over the first of them.

    Raises:
        ConfigError: an option that cannot work, an unbounded input.
        DataLossError: at run time, offsets that are in neither store.
        BadRecordError: at run time, an element that names no coordinates: a program made it, and filters it out.
    """

    def __init__(
        self,
        kafka: KafkaSource,
        archive: ArchiveSource | None,
        *,
        timestamp_fn: TimestampFn | None = None,
        decoder: Decoder | None = None,
        output: Output = "value",
        prefer: Prefer = "archive",
        dead_letters: bool = False,
    ) -> None:
        super().__init__()
        self._read = ReadUnified(
            _ANY_TOPIC,
            kafka,
            archive,
            timestamp_fn=timestamp_fn,
            decoder=decoder,
            output=output,
            prefer=prefer,
            dead_letters=dead_letters,
            stop=Stop.now(),
        )
        reading = ReadOptions(prefer=prefer, on_gap="skip", gap_timeout=timedelta(0))
        self._options = replace(self._read.splittable_dofn().options, reading=reading)

    def expand(self, letters: PCollection) -> Any:
        """Coordinates -> blocks -> chunks -> records: a PCollection, or `Results`."""
        if not letters.is_bounded:
            raise ConfigError(
                "ReplayDeadLetters needs a bounded input: read the topic of dead letters with stop=Stop.now()."
            )
        blocks = (
            letters
            | "Coordinates" >> beam.FlatMap(_blocks).with_output_types(tuple[_Block, _Range])
            # Held at the beginning of time: what is read has times of its own, and would be late behind a group at the end.
            | "Window" >> beam.WindowInto(GlobalWindows(), timestamp_combiner=TimestampCombiner.OUTPUT_AT_EARLIEST)
            | "Group" >> beam.GroupByKey()
        )
        read = beam.ParDo(_ReadBlock(self._options)).with_output_types(Chunk)
        kind = self._read._output_type()  # noqa: SLF001 - one transform in two places
        explode = "Explode" >> beam.ParDo(self._read.explode_dofn()).with_output_types(kind)
        if not self._options.dead_letters:
            return blocks | "Read" >> read | explode
        chunks, bad = blocks | "Read" >> read.with_outputs(DEAD_LETTERS, main="chunks")
        return Results(chunks | explode, bad | "Dead letters" >> beam.Map(_itself).with_output_types(DeadLetter))


def _itself(letter: DeadLetter) -> DeadLetter:
    return letter


def _blocks(letter: object) -> Iterator[TimestampedValue]:
    """What an element names, cut where blocks end."""
    found = dead_letters.coordinates(letter)
    start = found.start
    while start < found.stop:
        number = start // _BLOCK
        end = min(found.stop, (number + 1) * _BLOCK)
        yield TimestampedValue(((found.topic, found.partition, number), (start, end, found.exact)), MIN_TIMESTAMP)
        start = end


class _ReadBlock(beam.DoFn):
    """Reads what is wanted of a block."""

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._readers: ReaderPool | None = None

    def setup(self) -> None:
        """Joins the pool of this process."""
        options = self._options
        self._readers = pools.POOLS.acquire(
            options.key, lambda: ReaderPool(options.kafka, options.archive, options.reading, options.clock)
        )
        self._interpreter = Interpreter(options.decoder, options.event_time)

    def teardown(self) -> None:
        """Leaves it."""
        if self._readers is not None:
            self._readers = None
            pools.POOLS.release(self._options.key)

    def process(self, block: tuple[_Block, Iterable[_Range]]) -> Iterator[Any]:
        """One block. Gives chunks and dead letters."""
        assert self._readers is not None, "Beam sets a DoFn up before it calls process"
        (topic, partition, _), named = block
        tp, wanted, must_exist = TopicPartition(topic, partition), set[int](), set[int]()
        for start, stop, exact in named:
            wanted.update(range(start, stop))
            must_exist.update(range(start, stop) if exact else ())
        with self._readers.lease(tp, archive_must_exist=False) as leased:
            for step in read_exactly(leased.reader, tp, wanted, must_exist, self._options.clock):
                if isinstance(step, Missing):
                    yield from self._bad(tp, [dead_letters.of_missing(tp, step.offsets, step.why)])
                else:
                    yield from self._meaning(tp, step)

    def _meaning(self, tp: TopicPartition, batch: Batch) -> Iterator[WindowedValue | TaggedOutput]:
        metrics.RECORDS[batch.store].of(tp.topic).inc(len(batch))
        metrics.BYTES[batch.store].of(tp.topic).inc(batch.size_bytes())
        if self._options.dead_letters:
            found, bad = self._interpreter.sorted_out(batch)
        else:
            found, bad = self._interpreter.meaning(batch), []
        if found is not None:
            chunk = Chunk(found.batch, found.micros, found.elements)
            yield windowed_value.create(chunk, min(found.micros), WINDOWS, PANE_INFO_UNKNOWN)
        if bad:
            metrics.CORRUPTED.of(tp.topic).inc(len(bad))
            yield from self._bad(tp, bad)

    def _bad(self, tp: TopicPartition, letters: list[DeadLetter]) -> Iterator[TaggedOutput]:
        if not self._options.dead_letters:
            raise DataLossError(letters[0].error)
        metrics.DEAD_LETTERS.of(tp.topic).inc(len(letters))
        for letter in letters:
            created = windowed_value.create(letter, MIN_TIMESTAMP.micros, WINDOWS, PANE_INFO_UNKNOWN)
            yield TaggedOutput(DEAD_LETTERS, created)

    def __getstate__(self) -> dict[str, Any]:
        return {"_options": self._options, "_readers": None}
