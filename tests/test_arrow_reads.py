"""ReadUnified with output="arrow": under every split, on FnApiRunner, and over files."""

from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import (
    ARROW_SCHEMA,
    Archive,
    BadRecordError,
    ConfigError,
    ExplodeBatches,
    Field,
    Json,
    JsonField,
    KafkaTimestamp,
    ReadUnified,
    Start,
    Stop,
)
from beam_unified.archive.rows import ArrowBatch
from beam_unified.archive.writer import write_flush
from beam_unified.decoding.interpreter import Meaning
from beam_unified.harness import BUDGETS, exhaust, plain_read, sample
from beam_unified.records import ListBatch
from beam_unified.source.arrow import RecordBatchCoder
from beam_unified.source.columns import ArrowOutput
from beam_unified.testing import InMemoryLog
from tests.strategies import TP, worlds
from tests.test_harness import ELEMENT, bad_time, read, small_log


class Pin(NamedTuple):
    id: int
    at: int


def as_records(log, **options):
    """What output="record" gives."""
    return list(plain_read(read(log, output="record", **options), ELEMENT))


# -- under every split


@pytest.mark.rule("R1", "R7", "T1", "T4")
@pytest.mark.parametrize(
    "options",
    [{}, {"prefer": "kafka"}, {"stop": None}, {"ordered": False}, {"max_out_of_orderness": timedelta(0)}],
    ids=["bounded", "kafka", "unbounded", "unordered", "late"],
)
def test_batches_survive_a_split_at_every_event(options):
    """R1: the records of output="record", with their event times. T4: no batch is late, whatever is late in it."""
    report = exhaust(read(small_log(), output="arrow", **options), ELEMENT, budgets=BUDGETS[::2])
    assert list(report.emitted) == as_records(small_log(), **options)
    assert report.splits > 100


@pytest.mark.rule("R1")
@given(worlds(), st.sampled_from(("archive", "kafka")), st.integers(0, 2**16))
def test_random_worlds_survive_random_splits(world, prefer, seed):
    """Holes, compaction, overlapping flushes, any range."""
    if world.first_missing() is not None:
        return
    options = {"start": Start.offsets({0: world.start}), "stop": Stop.offsets({0: world.stop}), "prefer": prefer}
    report = sample(read(world.log, output="arrow", **options), ELEMENT, runs=3, seed=seed)
    assert [(one._replace(store=""), micros) for one, micros in report.emitted] == [
        (record._replace(store=""), record.timestamp * 1_000) for record in world.wanted()
    ]


@pytest.mark.rule("B1")
def test_bad_records_are_dead_letters_whatever_the_splits():
    """The others come in batches, in order."""
    options = {"timestamp_fn": bad_time, "dead_letters": True}
    report = exhaust(read(small_log(), output="arrow", **options), ELEMENT)
    assert list(report.emitted) == as_records(small_log(), **options)
    assert [letter.offset % 4 for letter in report.dead_letters] == [1] * len(report.dead_letters)
    assert report.dead_letters


# -- on a runner


def pins(*values):
    log = InMemoryLog("pins")
    for value in values:
        log.append(0, value, timestamp=1)
    log.flush(0, stop=-(-len(values) // 2))
    log.expire(0, len(values) // 2)
    return log


def pin(number):
    return b'{"id": %d, "at": %d}' % (number, number * 10)


def on_runner(log, **options):
    stop = Stop.offsets({0: log.records(0)[-1].offset + 1})
    defaults = {"stop": stop, "output": "arrow", "timestamp_fn": Field("at", unit="s"), "decoder": Json(Pin)}
    return ReadUnified(log.topic, log.kafka, log.archive, **{**defaults, **options})


def values_of(batch):
    return batch.column("value").to_pylist()


def instants(batch, timestamp=beam.DoFn.TimestampParam):
    return [time.timestamp() for time in batch.column("event_time").to_pylist()], timestamp.micros


@pytest.mark.rule("T1")
def test_decoded_values_are_columns():
    """And event time may come from them; over both stores, and over a shuffle."""
    log = pins(*map(pin, (3, 1, 2)))
    with beam.Pipeline(runner=FnApiRunner()) as p:
        batches = p | on_runner(log, max_out_of_orderness=timedelta(hours=1)) | beam.Reshuffle()
        assert_that(batches | beam.FlatMap(values_of), equal_to([{"id": i, "at": i * 10} for i in (1, 2, 3)]))
        times = batches | beam.Map(instants)
        assert_that(times, equal_to([([30.0, 10.0], 10_000_000), ([20.0], 20_000_000)]), "the smallest is the batch's")


@pytest.mark.rule("B1")
def test_what_does_not_fit_its_column_is_a_dead_letter():
    """Decoded it can be, but no column of 64 bits holds it; without dead letters the pipeline fails, naming it."""
    log = pins(pin(1), b"{", b'{"id": 99999999999999999999, "at": 1}', pin(4))
    with beam.Pipeline(runner=FnApiRunner()) as p:
        batches, letters = p | on_runner(log, dead_letters=True)
        assert_that(batches | beam.FlatMap(values_of), equal_to([{"id": i, "at": i * 10} for i in (1, 4)]))
        assert_that(
            letters | beam.Map(lambda one: (one.offset, one.reason)),
            equal_to([(1, "decoding"), (2, "decoding")]),
            "bad",
        )
    with (
        pytest.raises(BadRecordError, match=r"pins\[0\] offset 2 .*too large"),
        beam.Pipeline(runner=FnApiRunner()) as p,
    ):
        p | on_runner(log, start=Start.offsets({0: 2}))


def test_exploded_batches_are_the_records():
    """With the event times of a field of the bytes; values alone, too."""
    log = pins(*map(pin, (3, 1, 2)))
    options = {"decoder": None, "timestamp_fn": JsonField("at", unit="s")}
    stamped = beam.Map(lambda one, timestamp=beam.DoFn.TimestampParam: (one, timestamp.micros))
    with beam.Pipeline(runner=FnApiRunner()) as p:
        batches = p | on_runner(log, **options)
        records = p | "Records" >> on_runner(log, output="record", **options) | "Stamp" >> stamped
        exploded = batches | ExplodeBatches() | "Stamp exploded" >> stamped
        expected = [
            (record._replace(store="archive" if record.offset < 2 else "kafka"), time * 10_000_000)
            for record, time in zip(log.records(0), (3, 1, 2), strict=True)
        ]
        assert_that(records, equal_to(expected))
        assert_that(exploded, equal_to(expected), "exploded")
        values = batches | "Values" >> ExplodeBatches("value")
        assert_that(values, equal_to([record.value for record in log.records(0)]), "values")


@pytest.mark.rule("B2")
def test_types_are_checked_when_built():
    """The output is of RecordBatch, what is made of it is of records; a decoder that gives no columns is refused."""
    log, pipeline = pins(pin(1)), beam.Pipeline(runner=FnApiRunner())
    batches = pipeline | on_runner(log)
    assert batches.element_type is pa.RecordBatch
    with pytest.raises(Exception, match=r"requires .*bytes.* applied to .*RecordBatch"):
        batches | "Lengths" >> beam.Map(len).with_input_types(bytes)
    with pytest.raises(Exception, match="Record"):
        batches | ExplodeBatches() | "Again" >> beam.Map(len).with_input_types(bytes)
    with pytest.raises(ConfigError, match=r"output='arrow' makes columns of a decoder's values: it gives dict"):
        on_runner(log, decoder=Json())


# -- over files


@pytest.fixture
def archived(tmp_path):
    """Three flushes of the records of a log, on disk."""
    log, archive = small_log(), Archive(tmp_path.as_posix())
    records = log.records(0)
    for start, stop in ((0, 6), (6, 10), (10, 16)):
        write_flush(archive, TP, [one for one in records if start <= one.offset < stop], start=start, stop=stop)
    return log, archive


def read_files(log, archive, **options):
    defaults = {
        "timestamp_fn": KafkaTimestamp(),
        "stop": Stop.offsets({0: 16}),
        "max_out_of_orderness": timedelta(seconds=3),
    }
    return ReadUnified(log.topic, log.kafka, archive, **{**defaults, **options})


@pytest.mark.rule("R1", "A1")
def test_files_become_batches_without_an_object_a_record(archived, monkeypatch):
    """From Parquet to the element, event times of Kafka included; and they give the records back."""
    records = list(plain_read(read_files(*archived, output="record"), ELEMENT))

    def allowed_for_one(plain):
        def method(self):
            assert len(self) == 1, "a column became Python objects"
            return plain(self)

        return method

    for name in ("offsets", "timestamps", "values", "iter_records", "records"):
        monkeypatch.setattr(ArrowBatch, name, allowed_for_one(getattr(ArrowBatch, name)))
    report = exhaust(read_files(*archived, output="arrow"), ELEMENT, budgets=BUDGETS[1:2])
    assert list(report.emitted) == records


@pytest.mark.rule("B5")
def test_a_batch_has_the_same_bytes_from_files_and_from_records(archived):
    """The coder's promise, over what pyarrow read from Parquet."""
    log, archive = archived
    connected = archive.connect()
    flush = connected.index(TP).covering(0)
    opened = connected.open(TP, flush, 1)
    found = opened.read(3)
    opened.close()
    connected.close()
    times = [record.timestamp * 1_000 for record in found.records()]
    from_file, rebuilt = (
        ArrowOutput(None).batch(TP, Meaning(batch, times, None))
        for batch in (found, ListBatch(found.records(), found.store))
    )
    assert from_file.schema.equals(ARROW_SCHEMA)
    assert RecordBatchCoder().encode(from_file) == RecordBatchCoder().encode(rebuilt)
    assert log.records(0)[1].offset == found.offsets()[0]
