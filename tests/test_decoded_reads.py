"""ReadUnified with a decoder, on FnApiRunner over the log in memory: types, event times, dead letters."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import apache_beam as beam
import pydantic
import pytest
from apache_beam.coders import RowCoder, registry
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_unified import (
    BadRecordError,
    ConfigError,
    DeadLetterLimit,
    Decoded,
    Field,
    Json,
    JsonField,
    KafkaTimestamp,
    ReadUnified,
    Results,
    Stop,
    Text,
    TooManyDeadLettersError,
    TopicPartition,
)
from beam_unified.error_handling import yaml_outputs
from beam_unified.harness import exhaust
from beam_unified.source.chunks import Chunk, Explode
from beam_unified.source.coders import ChunkCoder, DecodedCoder
from beam_unified.testing import InMemoryLog


class Pin(NamedTuple):
    id: int
    at: int


@dataclass
class DataPin:
    id: int
    at: int


class ModelPin(pydantic.BaseModel):
    id: int
    at: int


CALLS: list[int] = []


def when(pin):
    CALLS.append(pin.id)
    return datetime.fromtimestamp(pin.at, UTC)


def pins(*values):
    log = InMemoryLog("pins")
    for value in values:
        raw = value if isinstance(value, bytes | None) else json.dumps({"id": value, "at": value * 10}).encode()
        log.append(0, raw, timestamp=1, key=b"k")
    log.flush(0, stop=len(values) // 2)
    log.expire(0, len(values) // 2)
    return log


def read(log, **options):
    stop = Stop.offsets({0: log.records(0)[-1].offset + 1})
    defaults = {"timestamp_fn": Field("at", unit="s"), "decoder": Json(Pin), "stop": stop}
    return ReadUnified(log.topic, log.kafka, log.archive, **{**defaults, **options})


def stamped(element, timestamp=beam.DoFn.TimestampParam):
    return element, timestamp.micros


@pytest.mark.parametrize("kind", [Pin, DataPin, ModelPin])
@pytest.mark.parametrize(
    "timestamp_fn", [Field("at", unit="s"), when, JsonField("at", unit="s")], ids=["field", "fn", "json"]
)
def test_event_time_from_the_decoded_value(kind, timestamp_fn):
    """A field, a function of the decoded value and a field of the bytes give the same event times, over both stores."""
    with beam.Pipeline(runner=FnApiRunner()) as p:
        found = p | read(pins(1, 2, 3), decoder=Json(kind), timestamp_fn=timestamp_fn) | beam.Map(stamped)
        assert_that(found, equal_to([(kind(id=i, at=i * 10), i * 10_000_000) for i in (1, 2, 3)]))


@pytest.mark.parametrize("kind", [Pin, DataPin])
def test_the_output_is_a_table(kind):
    """NamedTuples and dataclasses have a schema: Select, GroupBy and a shuffle work, and give the type back."""
    assert read(pins(1, 2), decoder=Json(kind))._output_type() is kind
    assert isinstance(registry.get_coder(kind), RowCoder)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        found = p | read(pins(1, 2, 2), decoder=Json(kind))
        grouped = found | beam.GroupBy("id").aggregate_field("at", sum, "total") | beam.Map(lambda r: (r.id, r.total))
        assert_that(grouped, equal_to([(1, 10), (2, 40)]))
        selected = found | beam.Select("id", double=lambda pin: pin.at * 2) | beam.Map(lambda row: (row.id, row.double))
        assert_that(selected, equal_to([(1, 20), (2, 40), (2, 40)]), "selected")
        shuffled = found | beam.Reshuffle() | beam.Map(lambda pin: (type(pin).__name__, pin.id))
        assert_that(shuffled, equal_to([(kind.__name__, i) for i in (1, 2, 2)]), "shuffled")


def test_a_wrong_type_downstream_is_found_when_built():
    """The type hint of the output is the decoder's."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    with pytest.raises(Exception, match="requires PCollections of type '<class 'bytes'>'"):
        pipeline | read(pins(1, 2)) | beam.Map(len).with_input_types(bytes)


def test_the_record_beside_the_value():
    """output="record" gives the decoded value and the record with its raw bytes; both survive a shuffle."""
    log = pins(1, 2)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        found = (
            p
            | read(log, output="record")
            | beam.Reshuffle()
            | beam.Map(lambda d: (d.value, d.record.offset, d.record.value))
        )
        assert_that(
            found, equal_to([(Pin(r.offset + 1, 10 + 10 * r.offset), r.offset, r.value) for r in log.records(0)])
        )
    one = Decoded(Pin(1, 10), log.records(0)[0])
    assert DecodedCoder().decode(DecodedCoder().encode(one)) == one
    text = DecodedCoder().encode(Decoded("x", log.records(0)[0]))
    assert text[:2] == b"\x01\x00"


@pytest.mark.rule("B1")
def test_records_that_cannot_be_decoded_are_dead_letters():
    """B1: with topic, partition, offset, store, error and raw bytes, from both stores; the others are given."""
    log = pins(1, b"{", None, 2, b'{"id": 3}', 4, b'{"id": 5, "at": 1e300}')
    pipeline = beam.Pipeline(runner=FnApiRunner())
    records, letters = pipeline | read(log, dead_letters=True)
    assert_that(records, equal_to([Pin(1, 10), Pin(2, 20), Pin(4, 40)]))
    seen = letters | beam.Map(lambda d: (d.topic, d.partition, d.offset, d.reason, d.record.value, d.record.store))
    expected = [("pins", 0, at, "decoding", log.records(0)[at].value) for at in (1, 2, 4, 6)]
    assert_that(seen, equal_to([(*row, "archive" if row[2] < 3 else "kafka") for row in expected]), "dead letters")
    named = letters | "names" >> beam.Filter(lambda d: f"pins[0] offset {d.offset} (from" not in d.error)
    assert_that(named, equal_to([]), "errors name it")
    result = pipeline.run()
    counters = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}
    assert counters["dead_letters"] == 4


@pytest.mark.rule("B1")
@pytest.mark.parametrize("kind", [Pin, DataPin])
def test_an_int_that_no_row_holds_is_a_dead_letter(kind):
    """B1: else the row coder would fail behind the read, naming no offset, and again at each try."""
    log = pins(1, b'{"id": 9223372036854775808, "at": 20}', 3)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        records, letters = p | read(log, decoder=Json(kind), dead_letters=True)
        assert_that(records | beam.Reshuffle() | beam.Map(lambda pin: pin.id), equal_to([1, 3]))
        assert_that(letters | beam.Map(lambda d: (d.offset, d.reason)), equal_to([(1, "decoding")]), "letters")


@pytest.mark.rule("B1")
def test_a_decoded_value_without_event_time_is_a_dead_letter():
    """B1: the reason tells the two apart."""
    log = pins(1, b'{"id": 2, "at": null}')
    with beam.Pipeline(runner=FnApiRunner()) as p:
        records, letters = p | read(log, decoder=Json(), dead_letters=True)
        assert_that(records, equal_to([{"id": 1, "at": 10}]))
        assert_that(letters | beam.Map(lambda d: (d.offset, d.reason)), equal_to([(1, "event time")]), "letters")


@pytest.mark.rule("B1")
@pytest.mark.parametrize("value", [b"{", None, b'{"id": 3}'])
def test_without_dead_letters_the_pipeline_fails_naming_it(value):
    """B1: topic, partition, offset, store, and what to do."""
    with (
        pytest.raises(
            BadRecordError, match=r"pins\[0\] offset 1 \(from archive\) cannot be decoded by Json .*dead_letters=True"
        ),
        beam.Pipeline(runner=FnApiRunner()) as p,
    ):
        p | read(pins(1, value, 3, 4))


@pytest.mark.rule("B1")
def test_dead_letters_in_the_form_of_beam_yaml():
    """error_handling: {output: bad}: records under "good", rows of element, msg and stack under the name; shuffled as rows."""
    log = pins(1, b"{", 2)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        outputs = yaml_outputs(p | read(log, dead_letters=True), {"output": "bad"})
        assert_that(outputs["good"], equal_to([Pin(1, 10), Pin(2, 20)]))
        rows = (
            outputs["bad"]
            | beam.Reshuffle()
            | beam.Map(lambda r: (r.element.topic, r.element.offset, r.element.value, r.stack))
        )
        assert_that(rows, equal_to([("pins", 1, b"{", "decoding")]), "bad")
    for wrong in ({}, {"output": "good"}):
        with pytest.raises(ConfigError, match="error_handling needs an output"):
            yaml_outputs(Results(outputs["good"], outputs["bad"]), wrong)


@pytest.mark.rule("B1")
def test_too_many_dead_letters_stop_the_pipeline():
    """B1: everything turned bad; a few alone do not."""
    limit = DeadLetterLimit(consecutive=3)
    with (
        pytest.raises(TooManyDeadLettersError, match=r"pins\[0\]: 3 records one after the other are bad"),
        beam.Pipeline(runner=FnApiRunner()) as p,
    ):
        p | read(pins(1, b"", 2, b"", b"", b"", 3), dead_letters=True, dead_letter_limit=limit)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        records, _ = p | read(pins(1, b"", b"", 2, b"", b""), dead_letters=True, dead_letter_limit=limit)
        assert_that(records, equal_to([Pin(1, 10), Pin(2, 20)]))


def test_every_split_there_is():
    """Decoded once a record, exactly once each, whatever the runner does."""
    report = exhaust(read(pins(1, 2, 3, 4)), ("pins", 0))
    assert [pin for pin, _ in report.emitted] == [Pin(i, i * 10) for i in (1, 2, 3, 4)]


def test_a_value_is_decoded_and_timed_once():
    """The timestamp function meets each value once, and the output is what it met."""
    CALLS.clear()
    with beam.Pipeline(runner=FnApiRunner()) as p:
        p | read(pins(1, 2, 3), timestamp_fn=when, dead_letters=True)
    assert CALLS == [1, 2, 3]


def test_a_chunk_behind_a_coder_is_decoded_there():
    """Only bytes cross; the elements come out the same."""
    log = pins(1, 2)
    fetched = log.kafka.fetch(TopicPartition("pins", 0), 1, max_records=9, timeout_ms=0)
    chunk = Chunk(fetched.batch, [20_000_000], [Pin(2, 20)])
    crossed = ChunkCoder().decode(ChunkCoder().encode(chunk))
    assert crossed.elements is None
    explode = Explode("value", Json(Pin))
    assert [v.value for v in explode.process(crossed)] == [v.value for v in explode.process(chunk)] == [Pin(2, 20)]


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"decoder": Json}, "decoder must be a decoder"),
        ({"decoder": json.loads}, "decoder must be a decoder"),
        ({"decoder": None}, "looks into decoded values"),
        ({"timestamp_fn": Field}, "pass Field"),
        ({"dead_letter_limit": DeadLetterLimit(consecutive=1)}, "without dead_letters=True"),
        ({"dead_letter_limit": 5, "dead_letters": True}, "must be a DeadLetterLimit"),
    ],
)
def test_options_that_cannot_work(options, match):
    """B2: said when the pipeline is built."""
    with pytest.raises(ConfigError, match=match):
        read(pins(1, 2), **options)


def test_kafkas_timestamp_beside_a_decoder():
    """The event time need not come from the value."""
    with beam.Pipeline(runner=FnApiRunner()) as p:
        found = p | read(pins(b"a", b"b"), decoder=Text(), timestamp_fn=KafkaTimestamp()) | beam.Map(stamped)
        assert_that(found, equal_to([("a", 1_000), ("b", 1_000)]))
