"""Dead letters as records of Kafka, with Connect's headers."""

from hypothesis import given
from hypothesis import strategies as st

from beam_unified import DeadLetter, Record, TopicPartition, connect_record
from beam_unified.dead_letters import coordinates, of_gap
from beam_unified.offsets import OffsetRange

OPTIONAL = st.none() | st.binary(max_size=5)
HEADERS = st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=3).map(tuple)


@given(OPTIONAL, OPTIONAL, HEADERS, st.integers(0, 2**62))
def test_a_record_keeps_its_bytes_and_gains_its_coordinates(key, value, headers, offset):
    """Key, value and headers are its own; Connect's headers follow."""
    record = Record(key, value, headers, "pins", 3, offset, 1_000, None, "kafka")
    written = connect_record(DeadLetter("pins", 3, offset, offset + 1, "decoding", "no JSON: ü", record))
    assert written.key == key
    assert written.value == (b"" if key is None and value is None else value)
    assert written.partition is None
    assert written.headers[: len(headers)] == headers
    assert dict(written.headers[len(headers) :]) == {
        "__connect.errors.topic": b"pins",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": str(offset).encode(),
        "__connect.errors.stage": b"VALUE_CONVERTER",
        "__connect.errors.exception.class.name": b"decoding",
        "__connect.errors.exception.message": "no JSON: ü".encode(),
        "__connect.errors.timestamp": b"1000",
    }


@given(st.none() | st.integers(0, 2**62))
def test_a_letter_is_as_old_as_its_writing(timestamp):
    """With the record's own timestamp it would be past the retention of its topic at once; that is in a header."""
    written = connect_record(
        DeadLetter("pins", 3, 5, 6, "decoding", "", Record(b"k", b"v", (), "pins", 3, 5, timestamp, None, "archive"))
    )
    assert written.timestamp is None
    said = dict(written.headers).get("__connect.errors.timestamp")
    assert said == (None if timestamp is None else str(timestamp).encode())


def test_a_gap_says_where_it_ends():
    """A gap has no record; its words are the value."""
    written = connect_record(of_gap(TopicPartition("pins", 0), OffsetRange(5, 9)))
    assert b"offsets 5 to 8 are in neither store" in (written.value or b"")
    assert dict(written.headers)["__connect.errors.stop"] == b"9"


@given(OPTIONAL, st.binary(max_size=50), HEADERS, st.integers(0, 400))
def test_what_is_too_large_is_left_out_and_said(key, value, headers, most):
    """The value alone, and only where the letter would be larger than allowed; the coordinates stay."""
    letter = DeadLetter("pins", 3, 5, 6, "decoding", "", Record(key, value, headers, "pins", 3, 5, 1, None, "kafka"))
    whole = connect_record(letter)
    named = sum(len(name.encode()) + len(said or b"") for name, said in whole.headers)
    written = connect_record(letter, max_bytes=most)
    if len(key or b"") + len(value) + named <= most:
        assert written == whole
    else:
        omitted = ("__connect.errors.omitted", str(len(value)).encode())
        assert written == whole._replace(value=b"", headers=(*whole.headers, omitted))
    read = Record(written.key, written.value, written.headers, "dead", 0, 0, 1, None, "kafka")
    assert coordinates(read) == ("pins", 3, 5, 6, True)
