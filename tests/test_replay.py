"""Replay of dead letters by their coordinates: exactly those records, from whichever store, and nothing silently missing."""

import json
from datetime import timedelta

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import (
    BadRecordError,
    ConfigError,
    DataLossError,
    DeadLetter,
    Json,
    KafkaTimestamp,
    ReadUnified,
    Record,
    ReplayDeadLetters,
    Start,
    Stop,
    TopicPartition,
    connect_record,
    dead_letters,
)
from beam_unified.offsets import OffsetRange
from beam_unified.reading.exact import Missing, read_exactly
from beam_unified.reading.reader import LogReader, ReadOptions
from beam_unified.replay import _BLOCK, _blocks
from beam_unified.stores import Fetched
from beam_unified.testing import InMemoryKafka, InMemoryLog, ManualClock

pytestmark = pytest.mark.rule("B1")

SKIP = ReadOptions(on_gap="skip", gap_timeout=timedelta(0))
TP = TopicPartition("pins", 0)
FAILED = Record(b"k", b"v", (), "pins", 3, 7, 1, None, "kafka")


@st.composite
def logs(draw):
    """A log with holes, in both stores or in one, with a part that neither has."""
    log, kinds = (
        InMemoryLog("pins"),
        draw(st.lists(st.sampled_from(["record", "record", "hole"]), min_size=1, max_size=40)),
    )
    for kind in kinds:
        if kind == "hole":
            log.hole(0)
        else:
            log.append(0, b"x", timestamp=1)
    cuts = sorted(draw(st.lists(st.integers(0, len(kinds)), min_size=4, max_size=4)))
    for start, stop in (cuts[:2], cuts[2:]):
        if start < stop:
            log.flush(0, start, stop)
    log.expire(0, draw(st.integers(0, cuts[3])))
    return log, len(kinds)


@given(logs(), st.data())
def test_exactly_the_wanted_records_and_the_rest_is_missing(world, data):
    """Every offset that was seen is given once, in order, or said to be missing; nothing else is given."""
    log, end = world
    wanted = data.draw(st.sets(st.integers(0, end + 3), min_size=1))
    must_exist = data.draw(st.sets(st.sampled_from(sorted(wanted))))
    reader = LogReader(TP, log.kafka, log.archive, SKIP, ManualClock())
    given: list[int] = []
    missing: list[int] = []
    for step in read_exactly(reader, TP, wanted, must_exist, ManualClock()):
        if isinstance(step, Missing):
            missing += range(step.offsets.start, step.offsets.stop)
        else:
            given += step.offsets()
    there = {record.offset for record in log.records(0)}
    assert given == sorted(wanted & there)
    assert len(set(missing)) == len(missing)
    assert must_exist - there <= set(missing) <= wanted - there


@given(st.integers(0, 10**12), st.integers(1, 5 * _BLOCK), st.booleans())
def test_blocks_cover_what_is_named(start, count, exact):
    """Each offset once, in the block that it belongs to; no block longer than a call may read."""
    letter = DeadLetter("pins", 3, start, start + count, "gap", "", FAILED if exact else None)
    blocks = [timestamped.value for timestamped in _blocks(letter)]
    assert [at for _, (first, stop, _) in blocks for at in range(first, stop)] == list(range(start, start + count))
    for (topic, partition, number), (first, stop, said) in blocks:
        assert (topic, partition, said) == ("pins", 3, exact)
        assert number * _BLOCK <= first < stop <= (number + 1) * _BLOCK


@given(st.sampled_from(["decoding", "gap", "missing"]), st.integers(0, 2**62), st.integers(1, 9))
def test_coordinates_survive_the_topic_of_dead_letters(reason, offset, count):
    """What `connect_record` writes says the same as the dead letter, also over headers of an earlier failure."""
    record = Record(b"k", b"v", (("__connect.errors.topic", b"before"),), "pins", 3, offset, 1, None, "kafka")
    one = reason == "decoding"
    letter = DeadLetter("pins", 3, offset, offset + (1 if one else count), reason, "words", record if one else None)
    written = connect_record(letter)
    read = Record(written.key, written.value, written.headers, "dead", 0, 5, 1, None, "kafka")
    assert dead_letters.coordinates(read) == dead_letters.coordinates(letter)
    assert dead_letters.coordinates(letter).exact == (reason != "gap")


def kept(written, topic, offset):
    """A letter as it is read from its topic."""
    return Record(written.key, written.value, written.headers, topic, 0, offset, 1, None, "kafka")


CONNECT = tuple((f"__connect.errors.{name}", text) for name, text in
                (("topic", b"pins.dead"), ("partition", b"0"), ("offset", b"5"), ("stage", b"VALUE_CONVERTER")))  # fmt: skip


@given(st.sampled_from(["decoding", "gap", "missing"]), st.booleans())
def test_what_failed_twice_is_where_it_failed_last(reason, by_connect):
    """A letter of a letter names the letter: nothing of the first failure, such as where a gap ends, is taken for the second's."""
    first = DeadLetter("pins", 3, 2, 4, reason, "words", FAILED if reason == "decoding" else None)
    letter = kept(connect_record(first), "pins.dead", 5)
    second = DeadLetter("pins.dead", 0, 5, 6, "decoding", "no JSON", letter)
    again = letter._replace(headers=letter.headers + CONNECT) if by_connect else kept(connect_record(second), "x", 0)
    assert dead_letters.coordinates(again) == dead_letters.coordinates(second) == ("pins.dead", 0, 5, 6, True)


@given(st.sampled_from(["decoding", "gap", "missing"]), st.randoms())
def test_tools_may_sort_headers(reason, random):
    """Where there was one failure, its headers say the same in any order."""
    letter = DeadLetter("pins", 3, 2, 4, reason, "words", None)
    read = kept(connect_record(letter), "dead", 0)
    headers = list(read.headers)
    random.shuffle(headers)
    assert dead_letters.coordinates(read._replace(headers=tuple(headers))) == dead_letters.coordinates(letter)


def pins():
    """Offsets 0 to 19: the first half in the archive, the others in Kafka; every third is JSON that lacks its end."""
    log = InMemoryLog("pins")
    for offset in range(20):
        log.append(0, json.dumps({"id": offset}).encode()[: None if offset % 3 else -1], timestamp=offset * 1_000)
    log.flush(0, 0, 10)
    log.expire(0, 10)
    return log


class Mended(Json):
    """Adds the end that is missing."""

    def open(self):
        decode = super().open()
        return lambda batch: decode(_Closed(batch))


class _Closed:
    def __init__(self, batch):
        self._batch = batch

    def __getattr__(self, name):
        return getattr(self._batch, name)

    def __len__(self):
        return len(self._batch)

    def values(self):
        return [value if value.endswith(b"}") else value + b"}" for value in self._batch.values()]


BAD = list(range(0, 20, 3))


def replay(log, **options):
    return ReplayDeadLetters(
        log.kafka, log.archive, **{"timestamp_fn": KafkaTimestamp(), "decoder": Mended(), **options}
    )


def test_what_failed_is_read_again_with_the_corrected_decoder():
    """Those records and no others, from both stores, each once, with their own event times, in windows behind."""
    log = pins()
    with beam.Pipeline(runner=FnApiRunner()) as p:
        read = ReadUnified(
            "pins", log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), decoder=Json(), dead_letters=True,
            start=Start.offsets({0: 0}), stop=Stop.offsets({0: 20}),
        )  # fmt: skip
        letters = (p | read).dead_letters
        twice = (letters, letters | "Again" >> beam.Map(lambda x: x)) | beam.Flatten()
        again = twice | replay(log, output="record")
        found = again | beam.Map(lambda x: (x.value["id"], x.record.offset, x.record.store))
        expected = [(offset, offset, "archive" if offset < 10 else "kafka") for offset in BAD]
        assert_that(found, equal_to(expected), label="records")
        windows = again | beam.WindowInto(FixedWindows(10)) | beam.combiners.Count.Globally().without_defaults()
        assert_that(windows, equal_to([4, 3]), label="windows")


def test_what_is_in_neither_store_is_said():
    """An error that names topic, partition and offset; or, where asked for, a dead letter beside what is there."""
    log, wanted = pins(), [("pins", 0, offset) for offset in (3, 7, 12, 99)]
    log.compact(0, 12)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        found, bad = p | beam.Create(wanted) | replay(log, output="record", dead_letters=True)
        assert_that(found | beam.Map(lambda x: x.record.offset), equal_to([3, 7]), label="found")
        expected = [("missing", "pins", 0, 12, 13), ("missing", "pins", 0, 99, 100)]
        assert_that(bad | beam.Map(lambda x: (x.reason, *x[:4])), equal_to(expected), label="bad")
    with (
        pytest.raises(DataLossError, match=r"pins\[0\]: offsets 12 to 12 were to be read again"),
        beam.Pipeline(runner=FnApiRunner()) as p,
    ):
        _ = p | beam.Create(wanted) | replay(log)


class Silent(InMemoryKafka):
    """As brokers are about what they do not have."""

    def fetch(self, tp, offset, **options):
        if tp == TP:
            return super().fetch(tp, offset, **options)
        return Fetched(batch=None, next_offset=offset, high_watermark=None, at_end=False)


@pytest.mark.parametrize("silent", [False, True])
def test_letters_of_what_is_no_more_do_not_stop_the_others(silent):
    """An unknown topic or partition is missing like a record, whether Kafka says so or, as a broker does, nothing at all."""
    log = pins()
    kafka = Silent(log) if silent else log.kafka
    wanted = [("pins", 0, 3), ("pins", 7, 1), ("none", 0, 1), ("pins", 0, 12)]
    with beam.Pipeline(runner=FnApiRunner()) as p:
        read = ReplayDeadLetters(
            kafka, log.archive, timestamp_fn=KafkaTimestamp(), decoder=Mended(), output="record", dead_letters=True
        )
        found, bad = p | beam.Create(wanted) | read
        assert_that(found | beam.Map(lambda x: x.record.offset), equal_to([3, 12]), label="found")
        expected = [("missing", "pins", 7, 1, 2), ("missing", "none", 0, 1, 2)]
        assert_that(bad | beam.Map(lambda x: (x.reason, *x[:4])), equal_to(expected), label="bad")


def test_a_gap_that_came_back_is_read():
    """Its dead letter names a range, in which holes are no loss."""
    log = InMemoryLog("pins")
    for kind in "rrhrr":
        log.hole(0) if kind == "h" else log.append(0, b"{}", timestamp=1)
    flush = log.flush(0)
    log.expire(0, 5)
    letter = dead_letters.of_gap(TP, OffsetRange(0, 5))
    for there in (True, False):
        with beam.Pipeline(runner=FnApiRunner()) as p:
            found, bad = p | beam.Create([letter]) | replay(log, output="record", dead_letters=True)
            offsets, lost = ([0, 1, 3, 4], []) if there else ([], [(0, 5)])
            assert_that(found | beam.Map(lambda x: x.record.offset), equal_to(offsets), label="found")
            assert_that(bad | beam.Map(lambda x: (x.offset, x.stop)), equal_to(lost), label="bad")
        log.remove(0, flush) if there else None


@pytest.mark.parametrize(
    ("element", "match"),
    [
        (
            Record(b"k", b"v", (), "dead", 1, 7, 1, None, "kafka"),
            r"dead\[1\] offset 7 does not say where it comes from",
        ),
        (b"bytes", "got bytes: map to one of them first"),
        (("pins", 0, -1), r"pins\[0\] offsets -1 to -1 are no coordinates of records"),
        (("pins", -1, 0), r"pins\[-1\] offsets 0 to 0 are no coordinates of records"),
        (
            Record(None, b"", (*CONNECT, ("__connect.errors.stop", b"4")), "d", 1, 7, 1, None, "kafka"),
            "offsets 5 to 3 are no",
        ),
    ],
)
def test_what_names_no_coordinates_fails(element, match):
    """B2: with its own coordinates, and the next step."""
    with pytest.raises(BadRecordError, match=match):
        list(_blocks(element))


def test_integers_of_numpy_are_offsets():
    """A table of coordinates holds them."""
    assert dead_letters.coordinates(("pins", np.int32(3), np.int64(7))) == ("pins", 3, 7, 8, True)


def test_an_unbounded_input_is_refused():
    """It would be waited for without an end."""
    log, p = pins(), beam.Pipeline(runner=FnApiRunner())
    letters = p | ReadUnified("pins", log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), output="record")
    with pytest.raises(ConfigError, match=r"bounded input.*Stop\.now"):
        _ = letters | replay(log)
