"""Digests: what they tell apart, what they do not depend on, and the helpers that compare them."""

import random
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from beam_unified import digests as digests_module
from beam_unified.errors import ConfigError
from beam_unified.records import Record, TimestampType
from beam_unified.testing import PartitionDigest, PartitionDigests, assert_same_digests, digests_of, same_digests

pytestmark = pytest.mark.rule("R9")

CREATED = TimestampType.CREATE_TIME
MICROS = 1_794_830_400_000_000


def record(offset, partition=0, topic="pins"):
    return Record(b"k", b"v%d" % offset, (("h", b"1"),), topic, partition, offset, 1_000, CREATED, "archive")


def timed(*offsets, **options):
    return [(record(offset, **options), MICROS + offset * 1_000) for offset in offsets]


def test_a_digest_is_what_it_was_in_the_first_release():
    """Whoever has kept one compares with it after an upgrade: the algorithm never changes."""
    assert digests_of(timed(0, 1, 70_000)) == [PartitionDigest("pins", 0, 3, 0, 70_000, GOLDEN, 0, 0)]


GOLDEN = "2500c9e79f6eb499f78aa2d49ca9be7d1a78f88e39bb8dc3ac17fcc33a09ed3f"


BASE = Record(b"k", b"v", (("a", b"1"), ("b", None)), "pins", 0, 5, 1_000, CREATED, "archive")


@pytest.mark.parametrize(
    "changes",
    [
        {"key": None},
        {"key": b""},
        {"key": b"kv", "value": b""},
        {"value": None},
        {"value": b"w"},
        {"headers": ()},
        {"headers": (("b", None), ("a", b"1"))},
        {"headers": (("a", b"1"), ("b", b""))},
        {"headers": (("a", b"1b"),)},
        {"offset": 6},
        {"timestamp": 1_001},
        {"timestamp": None, "timestamp_type": None},
        {"timestamp": -1},
        {"timestamp_type": TimestampType.LOG_APPEND_TIME},
    ],
    ids=str,
)
def test_every_part_of_a_record_counts(changes):
    """To the byte; None is not empty, and nothing moves from one field into the next."""
    (one,), (other,) = digests_of([(BASE, MICROS)]), digests_of([(BASE._replace(**changes), MICROS)])
    assert one.sha256 != other.sha256


def test_the_event_time_counts_in_milliseconds():
    """Runners carry no more, and cut towards zero; the store does not count at all."""
    for base in (MICROS, -MICROS):
        within, beyond = base + (999 if base > 0 else -999), base + (1_000 if base > 0 else -1_000)
        one, same, other = (digests_of([(BASE, micros)])[0].sha256 for micros in (base, within, beyond))
        assert (one == same, one == other) == (True, False)
    assert digests_of([(BASE, MICROS)]) == digests_of([(BASE._replace(store="kafka"), MICROS)])


def test_records_of_other_partitions_and_topics_are_apart():
    """Each has its own digest."""
    found = digests_of([*timed(0), *timed(0, 1, partition=1), *timed(3, topic="needles")])
    assert [(one.topic, one.partition, one.records, one.first_offset, one.last_offset) for one in found] == [
        ("needles", 0, 1, 3, 3),
        ("pins", 0, 1, 0, 0),
        ("pins", 1, 2, 0, 1),
    ]


def test_repeats_and_disorder_are_counted():
    """A repeat changes the digest, another order does not: it cannot be told behind a shuffle."""
    (plain,), (twice,), (swapped,) = (
        digests_of(timed(0, 1, 2)),
        digests_of(timed(0, 1, 1, 2)),
        digests_of(timed(0, 2, 1)),
    )
    assert (plain.duplicates, plain.disordered) == (0, 0)
    assert (twice.records, twice.duplicates, twice.disordered, twice.sha256 == plain.sha256) == (4, 1, 0, False)
    assert (swapped.duplicates, swapped.disordered, swapped.sha256 == plain.sha256) == (0, 1, True)


@pytest.mark.parametrize("block", [1, 2, 65_536])
def test_a_pipeline_gives_the_same_digests_however_records_come(monkeypatch, block):
    """In windows, in any order, from several bundles: only the count of disorder may differ."""
    monkeypatch.setattr(digests_module, "_BLOCK_OFFSETS", block)
    records = [*timed(*range(20)), *timed(5, 7, partition=1), *timed(1, topic="needles")]
    shuffled = random.Random(1).sample(records, len(records))
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = (
            pipeline
            | beam.Create(shuffled)
            | beam.MapTuple(lambda one, micros: TimestampedValue(one, Timestamp(micros=micros)))
            | beam.Reshuffle()
            | beam.WindowInto(FixedWindows(0.005))
            | PartitionDigests()
        )
        assert_that(found, same_digests(digests_of(records)))


def test_disorder_within_a_bundle_is_counted_in_a_pipeline():
    """Behind an ordered read there is none; here there is."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | beam.Create([0]) | beam.FlatMap(lambda _: [record(3), record(1)]) | PartitionDigests()
        assert_that(found | beam.Map(lambda one: one.disordered), equal_to_one)


def equal_to_one(found):
    assert found == [1]


def test_values_are_refused():
    """A digest of values would miss most of a record; the option is named. At the latest by a worker."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    values = pipeline | beam.Create([b"value"])
    with pytest.raises(ConfigError, match=r"PartitionDigests takes records, got .*bytes.*: read with output='record'"):
        _ = values | PartitionDigests()
    _ = values | "Untyped" >> beam.Map(lambda value: value).with_output_types(Any) | "Again" >> PartitionDigests()
    with pytest.raises(ConfigError, match=r"PartitionDigests takes records, got .*bytes.*: read with output='record'"):
        pipeline.run().wait_until_finish()


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        (timed(0, 1, partition=1), r"pins\[0\] was not read; pins\[1\] was not expected"),
        (
            timed(0),
            r"pins\[0\]: records is 1, expected 2; last_offset is 0, expected 1; sha256 is '[0-9a-f]{64}', expected",
        ),
        (timed(0, 1, 1), "duplicates is 1, expected 0"),
    ],
)
def test_what_differs_is_named(actual, message):
    """Partition, field, found and expected."""
    with pytest.raises(AssertionError, match=message):
        assert_same_digests(digests_of(actual), digests_of(timed(0, 1)))


def test_equal_digests_with_repeats_are_not_fine():
    """Twice wrong is not right; disorder alone is no difference."""
    assert_same_digests(digests_of(timed(1, 0)), digests_of(timed(0, 1)))
    twice = digests_of(timed(0, 0))
    with pytest.raises(AssertionError, match=r"pins\[0\]: 1 records came twice, in both"):
        assert_same_digests(twice, twice)
