"""Batches of columns: what is in them, their bytes, and the records that they give back."""

import base64
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.coders import registry
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import ARROW_SCHEMA, Bytes, ConfigError, ExplodeBatches, Json, Nullable, Text, TopicPartition
from beam_unified.decoding.interpreter import Meaning
from beam_unified.records import ListBatch, Record, Store, TimestampType
from beam_unified.source.arrow import ExplodeRows, RecordBatchCoder
from beam_unified.source.columns import ArrowOutput, arrow_output
from tests.strategies import MICROS, records

TP = TopicPartition("pins", 3)
CODER = RecordBatchCoder()
RECORDS = [Record(None, b"%d" % at, (), "", 0, at, at, TimestampType.CREATE_TIME, "archive") for at in range(2)]
GOLDEN = (
    "eNp1TzkOwjAQHBvnUOTCRYRSUFBS8gQKPpIiqSJRcLyLZ+QB/AdmzRoiSxlpPTvrPc2beAIIEDTwKFGgpkcYRw2qmq/TF7C0s/ov1kui1O80Ji"
    "hoj366DzHmYjygZY8SVewadKaxwvtFbUm7jON1uMlsT6vibEk+aY7sPZNb1R5b3dzH7tg4dKQjEhpqH6+Q2ya92eKPAusIGRvl7jf/i0P2D51h"
    "s342yzMr8eQn3S/uF/4AAUUaSA=="
)


class Pin(NamedTuple):
    id: int
    name: str | None
    tags: list[str]


@dataclass
class DataPin:
    id: int
    name: str | None
    tags: list[str]


@dataclass
class Single:
    id: int


@dataclass
class Nested:
    pin: DataPin


def batch_of(found, micros=None, store=Store.ARCHIVE):
    """Records of one partition as a batch of columns."""
    own = [one._replace(topic=TP.topic, partition=TP.partition) for one in found]
    times = list(range(len(own))) if micros is None else micros
    return ArrowOutput(None).batch(TP, Meaning(ListBatch(own, store), times, None))


def exploded(batch, output="record"):
    return [(one.value, one.timestamp_micros) for one in ExplodeRows(output).process(batch)]


def some_records(**more):
    return st.lists(records(), min_size=1, max_size=8, **more)


@pytest.mark.rule("R1", "T1")
@given(some_records(), st.data(), st.sampled_from(Store))
def test_a_batch_gives_its_records_back(found, data, store):
    """Every field of every record, and its event time; as bytes in between, too, and of any part of it."""
    micros = [data.draw(MICROS) for _ in found]
    batch = CODER.decode(CODER.encode(batch_of(found, micros, store)))
    assert batch.schema.equals(ARROW_SCHEMA, check_metadata=True)
    batch.validate(full=True)
    own = [
        one._replace(
            topic=TP.topic, partition=TP.partition, store=store.value
        )
        for one in found
    ]  # fmt: skip
    assert exploded(batch) == list(zip(own, micros, strict=True))
    assert exploded(batch, "value") == [(one.value, time) for one, time in zip(own, micros, strict=True)]
    assert exploded(batch.slice(1)) == list(zip(own, micros, strict=True))[1:]


@pytest.mark.rule("B5")
@given(some_records(), st.data())
def test_equal_batches_have_equal_bytes(found, data):
    """However they were cut out of larger ones: what lies under nulls and behind the end is not written."""
    start = data.draw(st.integers(0, len(found)))
    stop = data.draw(st.integers(start, len(found)))
    cut = batch_of(found).slice(start, stop - start)
    anew = batch_of(found[start:stop], list(range(start, stop)))
    assert CODER.encode(cut) == CODER.encode(anew)
    assert CODER.is_deterministic()


@pytest.mark.rule("B5")
def test_bytes_of_earlier_releases_are_read():
    """Golden bytes of version 1; one of the future is refused."""
    golden = zlib.decompress(base64.b64decode(GOLDEN))
    assert CODER.decode(golden).to_pydict() == {"offset": [1, 2], "value": [b"a", None]}
    with pytest.raises(ValueError, match=r"version b'\\x02' was written by a later release"):
        CODER.decode(b"\2" + golden[1:])


def test_the_coder_is_the_one_that_pipelines_use():
    """Registered for the type; two are equal, as Beam compares coders."""
    assert registry.get_coder(pa.RecordBatch) == CODER
    assert hash(CODER) == hash(RecordBatchCoder())
    assert CODER.estimate_size(batch_of(RECORDS)) >= len(RECORDS) * 8


@pytest.mark.parametrize("kind", [Pin, DataPin])
def test_decoded_rows_are_a_struct(kind):
    """By the fields of the type; None of a Nullable is null."""
    output = arrow_output(Nullable(Json(kind)))
    rows = [kind(1, None, ["a", "b"]), None, kind(2, "x", [])]
    column = output.column(rows)
    assert column.type == pa.struct([("id", pa.int64()), ("name", pa.string()), ("tags", pa.list_(pa.string()))])
    assert column.to_pylist() == [{"id": 1, "name": None, "tags": ["a", "b"]}, None, {"id": 2, "name": "x", "tags": []}]
    assert output.schema.field("value").type == column.type
    assert arrow_output(Json(Single)).column([Single(7)]).to_pylist() == [{"id": 7}]
    assert output.column([None]).null_count == 1


@pytest.mark.parametrize(
    ("decoder", "kind"),
    [(Text(), pa.string()), (Bytes(), pa.binary()), (Nullable(Json(list[int])), pa.list_(pa.int64()))],
)
def test_decoded_scalars_are_a_column(decoder, kind):
    """Text as text."""
    assert arrow_output(decoder).schema.field("value").type == kind


@pytest.mark.rule("B2")
@pytest.mark.parametrize("target", [dict, Nested, int | str, list[DataPin]])
def test_a_decoder_of_anything_else_is_refused_when_built(target):
    """With what would work."""
    with pytest.raises(ConfigError, match=r"output='arrow' makes columns .*Decode into a NamedTuple or dataclass"):
        arrow_output(Json(target))


def test_rows_of_several_topics_are_told_apart():
    """Names are columns: they survive when batches are put together."""
    other = batch_of([]).schema.empty_table()
    one = ArrowOutput(None).batch(TopicPartition("a", 0), Meaning(ListBatch(RECORDS, Store.ARCHIVE), [1, 2], None))
    two = ArrowOutput(None).batch(TopicPartition("b", 1), Meaning(ListBatch(RECORDS, Store.KAFKA), [3, 4], None))
    (both,) = (
        pa.concat_tables([other, pa.Table.from_batches([one, two])]).unify_dictionaries().combine_chunks().to_batches()
    )
    places = [(record.topic, record.partition, record.store) for record, _ in exploded(both)]
    assert places == [("a", 0, "archive")] * 2 + [("b", 1, "kafka")] * 2


@pytest.mark.rule("B2")
def test_what_cannot_be_exploded_is_said():
    """A column that is gone, and decoded values."""
    batch = batch_of(RECORDS)
    with pytest.raises(ConfigError, match="needs the column 'headers'"):
        exploded(batch.drop_columns(["headers"]))
    with pytest.raises(ConfigError, match=r"these are decoded \(string\): leave the decoder out"):
        exploded(batch.set_column(4, "value", pa.array(["a", "b"])))
    assert exploded(batch.append_column("mine", pa.array(np.arange(2)))) == exploded(batch)


@pytest.mark.rule("B2")
def test_explode_batches_is_checked_when_built():
    """Its option, and the type of what it is given."""
    with pytest.raises(ConfigError, match="one of 'record', 'value', got 'arrow'"):
        ExplodeBatches("arrow")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ConfigError, match=r"takes pyarrow\.RecordBatch"):
        beam.Pipeline() | beam.Create([1]) | ExplodeBatches()
