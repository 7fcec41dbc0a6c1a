"""A batch over librdkafka's messages: every column, whatever is missing in a record; and events set apart from records."""

import pytest
from confluent_kafka import KafkaError, Message
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.kafka.messages import Reading
from beam_unified.offsets import TopicPartition
from beam_unified.records import Columns, Store, TimestampType
from tests.contracts.batches import checked

TP = TopicPartition("pins", 3)
END = KafkaError._PARTITION_EOF


def consumed(offset, *, key=None, value=b"v", headers=None, timestamp=(1, 1_000), leader_epoch=0):
    """A record as confluent-kafka gives it: (0, 0) or a time of -1 where there is none."""
    return Message(
        topic=TP.topic,
        partition=TP.partition,
        offset=offset,
        key=key,
        value=value,
        headers=headers,
        timestamp=timestamp,
        leader_epoch=leader_epoch,
    )


def event(code, offset, topic=TP.topic):
    """What is no record."""
    return Message(topic=topic, partition=TP.partition, offset=offset, error=KafkaError(code))


def reading(*taken):
    """What becomes of messages that are taken a few at a time."""
    found = Reading()
    for messages in taken:
        found.take(messages)
    return found


def read(*taken):
    """Offsets of the records, position, and whether there was trouble."""
    found = reading(*taken)
    batch = found.batch(TP)
    return [] if batch is None else list(batch.offsets()), found.position, found.trouble is not None


CONSUMED = st.builds(
    lambda step, **rest: (step, rest),
    st.integers(1, 3),
    key=st.none() | st.binary(max_size=3),
    value=st.none() | st.binary(max_size=3),
    headers=st.none() | st.lists(st.tuples(st.text(max_size=2), st.none() | st.binary(max_size=2)), max_size=2),
    timestamp=st.sampled_from([(0, 0), (0, -1), (1, -1), (2, -1)])
    | st.tuples(st.integers(1, 2), st.integers(0, 2**40)),
)


@pytest.mark.rule("R1")
@given(st.lists(CONSUMED, min_size=1, max_size=8))
def test_every_column_is_that_of_the_records(rows):
    """Keys, values, headers and timestamps, present or not, in any mixture; and every cut of the batch."""
    offset, given_ = 0, []
    for step, rest in rows:
        offset += step
        given_.append((offset, rest))
    batch = reading(*([consumed(at, **rest) for at, rest in given_[start : start + 3]] for start in (0, 3, 6))).batch(
        TP
    )
    assert batch is not None
    found = checked(batch, Store.KAFKA)
    by_column, by_record = Columns.of(batch), Columns.of_records(found)
    assert [list(map(as_list, column)) for column in by_column] == [list(map(as_list, column)) for column in by_record]
    for record, (at, rest) in zip(found, given_, strict=True):
        kind, time = rest["timestamp"]
        missing = kind == 0 or time == -1
        assert (record.topic, record.partition, record.offset) == ("pins", 3, at)
        assert (record.key, record.value, record.headers) == (rest["key"], rest["value"], tuple(rest["headers"] or ()))
        assert record.timestamp == (None if missing else time)
        assert record.timestamp_type == (None if missing else TimestampType(kind - 1))


def as_list(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.rule("R4")
def test_the_end_of_the_partition_moves_the_position():
    """Behind markers and aborted records, with and without records before it; records may follow."""
    records = [consumed(3), consumed(4)]
    assert read([]) == ([], None, False)
    assert read(records) == ([3, 4], 5, False)
    assert read([event(END, 9)]) == ([], 9, False)
    assert read([*records, event(END, 9)]) == read(records, [event(END, 9)]) == ([3, 4], 9, False)
    assert read([*records, event(END, 9), consumed(9)]) == ([3, 4, 9], 10, False)


@pytest.mark.rule("R1", "R5")
@pytest.mark.parametrize("code", [KafkaError._BAD_MSG, KafkaError._AUTO_OFFSET_RESET, KafkaError.UNKNOWN_TOPIC_OR_PART])
def test_what_lies_behind_trouble_is_not_read(code):
    """The client goes on behind a batch that it could not read: its records must not be taken for the next ones."""
    found = reading([consumed(3), consumed(4), event(code, 5), consumed(8), event(END, 9)])
    assert found.batch(TP).offsets() == [3, 4]
    assert found.position == 5
    assert found.trouble.code() == code


def test_what_is_not_about_a_partition_is_no_trouble():
    """A group's coordinator that cannot be found: there is no group."""
    assert read([event(KafkaError.GROUP_AUTHORIZATION_FAILED, -1, topic=None), consumed(3)]) == ([3], 4, False)


@pytest.mark.rule("R2")
def test_the_epoch_is_that_of_the_last_record():
    """-1 is librdkafka's word for none."""
    assert reading([consumed(3, leader_epoch=2), consumed(4, leader_epoch=5)], [event(END, 9)]).leader_epoch == 5
    assert reading([consumed(3, leader_epoch=-1)]).leader_epoch is None
    assert reading([]).leader_epoch is None
