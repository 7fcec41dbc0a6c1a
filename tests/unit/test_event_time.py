"""Event time: which functions are taken, what they give, and that a record without event time is named."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.errors import BadRecordError, ConfigError
from beam_unified.event_time import (
    MAX_MICROS,
    JsonField,
    KafkaTimestamp,
    checked_micros,
    event_time,
    to_micros,
)
from beam_unified.records import ListBatch, Record, Store


def batch_of(*values, timestamps=None, store=Store.ARCHIVE):
    """A batch of topic pins, partition 3, from offset 70 on."""
    times = timestamps or [1_000 + i for i in range(len(values))]
    return ListBatch(
        [
            Record(None, v, (), "pins", 3, 70 + i, t, None, "")
            for i, (v, t) in enumerate(zip(values, times, strict=True))
        ],
        store,
    )


def test_kafka_timestamp_is_the_records_own_in_microseconds():
    """KafkaTimestamp gives the producer's (or the broker's) milliseconds."""
    assert list(KafkaTimestamp().micros(batch_of(b"a", b"b", timestamps=[5, 7]))) == [5_000, 7_000]


@pytest.mark.rule("B1")
def test_a_record_without_kafka_timestamp_is_named():
    """The message holds topic, partition, offset, store and what to do."""
    with pytest.raises(
        BadRecordError, match=r"pins\[3\] offset 71 \(from archive\) has no Kafka timestamp.*timestamp_fn"
    ):
        KafkaTimestamp().micros(batch_of(b"a", b"b", timestamps=[5, None]))


@pytest.mark.parametrize(
    ("unit", "value", "micros"),
    [
        ("s", b"1794830400", 1_794_830_400_000_000),
        ("s", b"1794830400.25", 1_794_830_400_250_000),
        ("ms", b"1794830400123", 1_794_830_400_123_000),
        ("ms", b"1794830400123.5", 1_794_830_400_123_500),
        ("us", b"1794830400123456", 1_794_830_400_123_456),
        ("s", b"-1.5", -1_500_000),
        ("iso8601", b'"2026-11-16T12:00:00Z"', 1_794_830_400_000_000),
        ("iso8601", b'"2026-11-16T13:00:00.000001+01:00"', 1_794_830_400_000_001),
    ],
)
def test_json_field_reads_every_unit_to_the_microsecond(unit, value, micros):
    """Numbers since the epoch and ISO text, fractions kept."""
    assert list(JsonField("time", unit=unit).micros(batch_of(b'{"time": %s}' % value))) == [micros]


def test_json_field_goes_into_nested_objects_by_dots():
    """`event.time` is the field time of the object event."""
    assert list(JsonField("event.time", unit="us").micros(batch_of(b'{"event": {"time": 9}}'))) == [9]


@pytest.mark.rule("B1")
@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{}",
        b"[1]",
        b"7",
        b"not json",
        b'{"time": null}',
        b'{"time": "soon"}',
        b'{"time": NaN}',
        b'{"time": Infinity}',
        b'{"time": [1, 2]}',
        b'{"time": {}}',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_value_without_usable_field_is_named(value, unit):
    """Tombstones, broken JSON, a missing field, text for a number: each names the record and the field."""
    with pytest.raises(BadRecordError, match=r"pins\[3\] offset 71 \(from archive\) has no usable JSON field 'time'"):
        JsonField("time", unit=unit).micros(batch_of(b'{"time": 1}', value))


@pytest.mark.rule("B1")
@pytest.mark.parametrize("value", [b'{"time": 5}', b'{"time": "2026-11-16T12:00:00"}', b'{"time": "noon"}'])
def test_iso_text_without_zone_or_meaning_is_named(value):
    """Text without a zone is refused as it is in options."""
    with pytest.raises(BadRecordError, match=r"offset 70 .* 'time'"):
        JsonField("time", unit="iso8601").micros(batch_of(value))


@pytest.mark.rule("B2")
def test_an_unknown_unit_is_refused_with_the_list():
    """A unit is never guessed."""
    with pytest.raises(ConfigError, match=r"JsonField unit must be 's', 'ms', 'us' or 'iso8601', got 'minutes'"):
        JsonField("time", unit="minutes")  # type: ignore[arg-type]


def test_a_plain_function_is_called_once_a_record():
    """A function of a record may give an aware datetime or Beam's Timestamp."""
    seen = []

    def function(record):
        seen.append(record.offset)
        return Timestamp(micros=5) if record.offset == 70 else datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)

    assert list(checked_micros(event_time(function), batch_of(b"a", b"b"))[0]) == [5, 1_000_000]
    assert seen == [70, 71]


@pytest.mark.rule("B1")
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda record: record.nothing, "AttributeError"),
        (lambda _: 1_794_830_400, "a number has no unit"),
        (lambda _: None, "expected an aware datetime"),
        (lambda _: datetime(2026, 1, 1), "has no time zone"),  # noqa: DTZ001 - what is refused
    ],
)
def test_a_function_that_fails_names_the_record_and_why(function, reason):
    """Whatever the function raises, or gives instead of an instant, comes with the record's coordinates."""
    with pytest.raises(BadRecordError, match=rf"pins\[3\] offset 70 \(from kafka\) made timestamp_fn fail .*{reason}"):
        checked_micros(event_time(function), batch_of(b"a", store=Store.KAFKA))


@pytest.mark.rule("B2")
@pytest.mark.parametrize("given_", [None, 5, "time"])
def test_no_timestamp_function_is_refused_with_the_ways_to_give_one(given_):
    """Nobody gets event time by accident."""
    with pytest.raises(ConfigError, match=r"timestamp_fn is required, got .*KafkaTimestamp\(\).*JsonField.*function"):
        event_time(given_)


@pytest.mark.rule("B2")
def test_a_class_instead_of_an_event_time_is_refused_with_the_cure():
    """KafkaTimestamp without its parentheses would fail on the first record, on a worker."""
    with pytest.raises(ConfigError, match=r"timestamp_fn is the class KafkaTimestamp: pass KafkaTimestamp\("):
        event_time(KafkaTimestamp)  # type: ignore[arg-type]


@pytest.mark.rule("B1")
@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize(
    "value", [b'{"time": "%s"}' % (b"x" * 100_000), b'{"time": [%s0]}' % (b"0," * 10_000), b'{"time": true}']
)
def test_text_lists_and_booleans_are_no_numbers(unit, value):
    """Python would repeat a text a million times, and call True one second past 1970."""
    with pytest.raises(BadRecordError, match=r"offset 70 .*expected a number, got (str|list|bool)"):
        JsonField("time", unit=unit).micros(batch_of(value))


def test_ready_made_event_times_are_taken_as_they_are():
    """They work a batch at a time; wrapping them would lose that."""
    for ready in (KafkaTimestamp(), JsonField("t", unit="s")):
        assert event_time(ready) is ready


@pytest.mark.rule("B1")
@pytest.mark.parametrize("micros", [MAX_MICROS + 1, -MAX_MICROS - 1])
def test_an_event_time_beyond_what_beam_carries_is_named(micros):
    """Beam would fail far away from the record; we fail at it."""
    times = event_time(lambda record: Timestamp(micros=micros if record.offset == 71 else 0))
    with pytest.raises(BadRecordError, match=rf"pins\[3\] offset 71 .* has event time {micros} us"):
        checked_micros(times, batch_of(b"a", b"b"))


def test_the_limits_are_what_beam_can_carry():
    """MAX_MICROS is inside of Beam's range, to the millisecond."""
    assert 0 <= MAX_TIMESTAMP.micros - MAX_MICROS < 1_000
    assert 0 <= -MAX_MICROS - MIN_TIMESTAMP.micros < 1_000


@given(st.lists(st.integers(-MAX_MICROS, MAX_MICROS), min_size=1, max_size=20))
def test_event_times_come_with_the_newest(micros):
    """The newest event time of a batch is its largest, wherever in the batch it stands."""
    times = event_time(lambda record: Timestamp(micros=micros[record.offset - 70]))
    assert checked_micros(times, batch_of(*[b""] * len(micros))) == (micros, max(micros))


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_a_datetime_is_exact_to_the_microsecond(instant):
    """No float stands in between."""
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=to_micros(instant)) == instant
