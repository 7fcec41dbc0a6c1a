"""A batch over the client's records: every column, whatever is missing in a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import ConsumerRecord

from beam_unified.kafka.client import KafkaBatch
from beam_unified.records import Columns, Store, TimestampType
from tests.contracts.batches import checked

TP = {"topic": "pins", "partition": 3}


def polled(offset, *, key=None, value=b"v", headers=(), timestamp=1_000, timestamp_type=0):
    """A record as kafka-python 3 gives it: -1 for a missing timestamp and for the size of None."""
    known = {
        **TP,
        "offset": offset,
        "key": key,
        "value": value,
        "headers": list(headers),
        "timestamp": timestamp,
        "timestamp_type": timestamp_type,
        "serialized_key_size": -1 if key is None else len(key),
        "serialized_value_size": -1 if value is None else len(value),
        "serialized_header_size": -1,
    }
    return ConsumerRecord(**{name: known.get(name) for name in ConsumerRecord._fields})


POLLED = st.builds(
    lambda step, **rest: (step, rest),
    st.integers(1, 3),
    key=st.none() | st.binary(max_size=3),
    value=st.none() | st.binary(max_size=3),
    headers=st.lists(st.tuples(st.text(max_size=2), st.none() | st.binary(max_size=2)), max_size=2),
    timestamp=st.just(-1) | st.integers(0, 2**40),
    timestamp_type=st.sampled_from((0, 1)),
)


@pytest.mark.rule("R1")
@given(st.lists(POLLED, min_size=1, max_size=8))
def test_every_column_is_that_of_the_records(rows):
    """Keys, values, headers and timestamps, present or not, in any mixture; and every cut of the batch."""
    offset, given_ = 0, []
    for step, rest in rows:
        offset += step
        given_.append((offset, rest))
    batch = KafkaBatch([polled(at, **rest) for at, rest in given_])
    found = checked(batch, Store.KAFKA)
    by_column, by_record = Columns.of(batch), Columns.of_records(found)
    assert [list(map(as_list, column)) for column in by_column] == [list(map(as_list, column)) for column in by_record]
    for record, (at, rest) in zip(found, given_, strict=True):
        assert (record.topic, record.partition, record.offset) == ("pins", 3, at)
        assert (record.key, record.value, record.headers) == (rest["key"], rest["value"], tuple(rest["headers"]))
        missing = rest["timestamp"] == -1
        assert record.timestamp == (None if missing else rest["timestamp"])
        assert record.timestamp_type == (None if missing else TimestampType(rest["timestamp_type"]))


def as_list(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.rule("R8")
def test_a_batch_of_tombstones_has_a_size():
    """The client says -1 for the size of None: a budget in bytes must not grow by it."""
    assert KafkaBatch([polled(i, key=b"key", value=None) for i in range(5)]).size_bytes() >= 0
