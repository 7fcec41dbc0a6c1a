"""What is written down is read for ever: round trips, and the bytes of version 1, by hand from the wire shape."""

import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beam_unified.dead_letters import DeadLetter
from beam_unified.late_files import LateFile
from beam_unified.offsets import OffsetRange
from beam_unified.records import ListBatch, Record, Store, TimestampType
from beam_unified.source.chunks import Chunk
from beam_unified.source.coders import (
    ChunkCoder,
    DeadLetterCoder,
    LateFileCoder,
    RecordCoder,
    RestrictionCoder,
    WatermarkStateCoder,
)
from beam_unified.source.restriction import LogRestriction
from beam_unified.watermarks import WatermarkState
from tests.strategies import INT64, records, restrictions, watermark_states

CODERS = [
    RestrictionCoder(),
    WatermarkStateCoder(),
    RecordCoder(),
    ChunkCoder(),
    DeadLetterCoder(),
    LateFileCoder(),
]

GOLDEN_RESTRICTIONS_1 = {
    # version flags | start | known_end | stop | stop_before_ms | initial_watermark
    "01 00 000000000000002a 0000000000000064": LogRestriction(start=42, known_end=100),
    "01 01 000000000000002a 0000000000000064 0000000000000032": LogRestriction(start=42, known_end=100, stop=50),
    "01 02 0000000000000000 0000000000000000 000001a1e43a7a00": LogRestriction(
        start=0, stop_before_ms=1_794_830_400_000
    ),
    "01 04 0000000000000001 0000000000000002 ffffffffffffffff": LogRestriction(
        start=1, known_end=2, initial_watermark=-1
    ),
    "01 05 0000000000000001 0000000000000002 7fffffffffffffff 8000000000000000": LogRestriction(
        start=1, known_end=2, stop=2**63 - 1, initial_watermark=-(2**63)
    ),
    "01 06 0000000000000001 0000000000000002 0000000000000003 0000000000000004": LogRestriction(
        start=1, known_end=2, stop_before_ms=3, initial_watermark=4
    ),
}

GOLDEN_RESTRICTIONS = {
    # version flags | start | known_end | stop | stop_before_ms | initial_watermark
    "02 00 000000000000002a 0000000000000064": LogRestriction(start=42, known_end=100),
    "02 01 000000000000002a 0000000000000064 0000000000000032": LogRestriction(start=42, known_end=100, stop=50),
    "02 02 0000000000000000 0000000000000000 000001a1e43a7a00": LogRestriction(
        start=0, stop_before_ms=1_794_830_400_000
    ),
    "02 04 0000000000000001 0000000000000002 ffffffffffffffff": LogRestriction(
        start=1, known_end=2, initial_watermark=-1
    ),
    "02 05 0000000000000001 0000000000000002 7fffffffffffffff 8000000000000000": LogRestriction(
        start=1, known_end=2, stop=2**63 - 1, initial_watermark=-(2**63)
    ),
    "02 06 0000000000000001 0000000000000002 0000000000000003 0000000000000004": LogRestriction(
        start=1, known_end=2, stop_before_ms=3, initial_watermark=4
    ),
    # .. leader epoch; splittable; topic id
    "02 08 0000000000000001 0000000000000002 0000000000000007": LogRestriction(start=1, known_end=2, leader_epoch=7),
    "02 11 0000000000000001 0000000000000002 0000000000000009": LogRestriction(
        start=1, known_end=2, stop=9, splittable=True
    ),
    "02 29 0000000000000001 0000000000000002 0000000000000003 0000000000000004 69c3bc": LogRestriction(
        start=1, known_end=2, stop=3, leader_epoch=4, topic_id="iü"
    ),
    "02 20 0000000000000001 0000000000000002": LogRestriction(start=1, known_end=2, topic_id=""),
    # .. leader epoch; skipped: how many, start and stop of each; topic id
    "03 40 0000000000000009 0000000000000002 00000001 0000000000000000 0000000000000007": LogRestriction(
        start=9, known_end=2, skipped=(OffsetRange(0, 7),)
    ),
    "03 68 0000000000000009 0000000000000002 0000000000000004"
    " 00000002 0000000000000001 0000000000000003 0000000000000005 0000000000000009 6964": LogRestriction(
        start=9, known_end=2, leader_epoch=4, skipped=(OffsetRange(1, 3), OffsetRange(5, 9)), topic_id="id"
    ),
}

GOLDEN_STATES = {
    # version flags | reported | earned | idle_since_ms
    "01 00": WatermarkState(),
    "01 01 00000000000003e8": WatermarkState(reported=1_000),
    "01 02 fffffffffffffc18": WatermarkState(earned=-1_000),
    "01 04 0000000000000005": WatermarkState(idle_since_ms=5),
    "01 07 0000000000000001 0000000000000002 0000000000000003": WatermarkState(reported=1, earned=2, idle_since_ms=3),
}

GOLDEN_RECORDS = {
    # version flags | partition | offset | topic | headers
    "01 00 00000000 0000000000000000 00000001 74 00000000": Record(None, None, (), "t", 0, 0, None, None, "archive"),
    # .. timestamp type | key | value | topic | headers: two, the second without a value
    "01 0f 00000003 0000000000000046"
    " 00000000000003e8 00 00000001 6b 00000002 7631"
    " 00000004 70696e73 00000002 00000001 61 01 00000002 0001 00000001 62 00": Record(
        b"k", b"v1", (("a", b"\0\1"), ("b", None)), "pins", 3, 70, 1_000, TimestampType.CREATE_TIME, "kafka"
    ),
    # empty is not none; a timestamp of the broker, before 1970
    "01 07 00000000 7fffffffffffffff ffffffffffffffff 01 00000000 00000000 00000002 c3bc 00000001 00000000 01 00000000": Record(
        b"", b"", (("", b""),), "ü", 0, 2**63 - 1, -1, TimestampType.LOG_APPEND_TIME, "archive"
    ),
    # a timestamp whose type is not known
    "01 09 00000000 0000000000000001 0000000000000005 ff 00000001 74 00000000": Record(
        None, None, (), "t", 0, 1, 5, None, "kafka"
    ),
}

_ALL: list[dict[str, Any]] = [GOLDEN_RESTRICTIONS, GOLDEN_STATES, GOLDEN_RECORDS]
GOLDEN: list[tuple[Any, str, Any]] = [
    (coder, raw, value) for coder, golden in zip(CODERS, _ALL, strict=False) for raw, value in golden.items()
]


@pytest.mark.rule("B5")
@pytest.mark.parametrize(("coder", "raw", "value"), GOLDEN)
def test_bytes_are_read_and_written(coder, raw, value):
    """A savepoint of an earlier release. NEVER change these bytes: a new form is a new version, beside the old one."""
    assert coder.decode(bytes.fromhex(raw)) == value
    assert coder.encode(value).hex() == raw.replace(" ", "")


@pytest.mark.rule("B5")
@pytest.mark.parametrize(("raw", "value"), GOLDEN_RESTRICTIONS_1.items())
def test_restrictions_of_version_1_are_still_read(raw, value):
    """A savepoint of the first release goes on: nothing is known of its topic's id or leader epoch. NEVER change these."""
    assert RestrictionCoder().decode(bytes.fromhex(raw)) == value


GOLDEN_CHUNK = (
    # version flags | count | event times | length | record, twice
    "01 08 00000002 00000000000003e8 ffffffffffffffff"
    " 00000017 01 08 00000000 0000000000000000 00000001 74 00000000"
    " 0000001c 01 0c 00000000 0000000000000002 00000001 76 00000001 74 00000000"
)


@pytest.mark.rule("B5")
def test_bytes_of_a_chunk_are_read_and_written():
    """As for the others: these bytes never change."""
    chunk = ChunkCoder().decode(bytes.fromhex(GOLDEN_CHUNK))
    assert chunk.batch.store is Store.KAFKA
    assert list(chunk.micros) == [1_000, -1]
    assert list(chunk.batch.iter_records()) == [
        Record(None, None, (), "t", 0, 0, None, None, "kafka"),
        Record(None, b"v", (), "t", 0, 2, None, None, "kafka"),
    ]
    assert ChunkCoder().encode(chunk).hex() == GOLDEN_CHUNK.replace(" ", "")


@pytest.mark.rule("B5")
@given(st.lists(st.tuples(records(), INT64), min_size=1, max_size=5), st.sampled_from(Store))
def test_chunks_survive(rows, store):
    """Records, event times and the store they were read from."""
    chunk = Chunk(ListBatch([record for record, _ in rows], store), [micros for _, micros in rows])
    back = ChunkCoder().decode(ChunkCoder().encode(chunk))
    assert (back.batch.store, list(back.micros)) == (store, list(chunk.micros))
    assert list(back.batch.iter_records()) == list(chunk.batch.iter_records())
    assert ChunkCoder().estimate_size(back) >= 8 * len(rows)


@pytest.mark.rule("B5")
def test_bytes_of_a_dead_letter_are_read_and_written():
    """A gap, and a record: version, flags, the JSON of the fields with its length, the record. NEVER change these bytes."""
    gap = DeadLetter("pins", 3, 5, 8, "gap", "lost", None)
    text = b'["pins", 3, 5, 8, "gap", "lost"]'
    assert DeadLetterCoder().encode(gap) == b"\1\0" + len(text).to_bytes(4, "big") + text
    record = Record(b"k", None, (), "t", 0, 2, 7, TimestampType.CREATE_TIME, "kafka")
    bad = DeadLetter("t", 0, 2, 3, "event time", "ü", record)
    encoded = DeadLetterCoder().encode(bad)
    assert encoded[:2] == b"\1\1"
    assert encoded.endswith(RecordCoder().encode(record))
    assert DeadLetterCoder().decode(encoded) == bad


@pytest.mark.rule("B5")
@given(records(), st.text(), st.booleans())
def test_dead_letters_survive(record, error, gap):
    """With raw bytes that no JSON could hold, and without a record."""
    letter = DeadLetter(record.topic, record.partition, 1, 2, "gap", error, None if gap else record)
    assert DeadLetterCoder().decode(DeadLetterCoder().encode(letter)) == letter


GOLDEN_LATE_FILE = b'\1\0["pins", 3, 5, 90, [[5, 7], [8, 9]], 1794830400000, "s3://\\u00fc/c.json"]'


@pytest.mark.rule("B5")
def test_bytes_of_a_late_file_are_read_and_written():
    """Version, flags, the JSON of the fields. NEVER change these bytes."""
    late = LateFile("pins", 3, 5, 90, ((5, 7), (8, 9)), 1_794_830_400_000, "s3://ü/c.json")
    assert LateFileCoder().encode(late) == GOLDEN_LATE_FILE
    assert LateFileCoder().decode(GOLDEN_LATE_FILE) == late


@pytest.mark.rule("B5")
@given(restrictions())
def test_restrictions_survive(restriction):
    """Every restriction, to the last bit."""
    assert RestrictionCoder().decode(RestrictionCoder().encode(restriction)) == restriction


@pytest.mark.rule("B5")
@given(watermark_states())
def test_watermark_states_survive(state):
    """Every state; None and 0 are different things."""
    assert WatermarkStateCoder().decode(WatermarkStateCoder().encode(state)) == state


@pytest.mark.rule("B5")
@given(records())
@example(Record(b"", None, (("a", None), ("a", b"")), "t", 0, 0, 0, None, "kafka"))
def test_records_survive(record):
    """Every record that Kafka can hold: tombstones, empty keys, repeated header names, headers without a value."""
    assert RecordCoder().decode(RecordCoder().encode(record)) == record


@pytest.mark.rule("B5")
@pytest.mark.parametrize(
    ("coder", "what"),
    list(zip(CODERS, ("restriction", "watermark state", "record", "chunk", "dead letter", "late file"), strict=True)),
)
@pytest.mark.parametrize("version", [0, 4, 255])
def test_a_version_of_the_future_is_refused_with_the_next_step(coder, what, version):
    """Never read as something else: the message names both versions and says what to upgrade."""
    encoded = bytes([version]) + bytes(40)
    with pytest.raises(
        ValueError, match=rf"{what} has wire version {version}, .* knows 1(, 2, 3)?: .*upgrade the workers"
    ):
        coder.decode(encoded)


@pytest.mark.rule("B5")
@pytest.mark.parametrize("coder", CODERS)
def test_coders_are_deterministic_and_compare_by_kind(coder):
    """Runners group by encoded bytes, and compare the coders of two pipelines when one replaces the other."""
    assert coder.is_deterministic()
    assert coder == pickle.loads(pickle.dumps(coder))
    assert hash(coder) == hash(type(coder)())
    assert sum(coder == other for other in CODERS) == 1
