"""The example of docs/testing.md: how a user tests windows, joins and late data, without a service."""

import json
from datetime import timedelta

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterWatermark
from apache_beam.transforms.window import FixedWindows

from beam_unified import DataLossError, JsonField, ReadUnified, Stop
from beam_unified.harness import exhaust
from beam_unified.testing import InMemoryLog, ManualClock


def views_per_minute(p, read):
    """A user's pipeline, as a function of what reads."""
    return (
        p
        | read
        | beam.WindowInto(FixedWindows(60))
        | beam.Map(lambda value: json.loads(value)["pin"])
        | beam.combiners.Count.PerElement()
    )


def read(log, **options):
    """The log under test in place of Kafka and the archive; up to its end."""
    end = max(record.offset for record in log.records(0)) + 1
    defaults = {"timestamp_fn": JsonField("at", unit="s"), "stop": Stop.offsets({0: end}), "clock": ManualClock()}
    return ReadUnified(log.topic, log.kafka, log.archive, **{**defaults, **options})


def views(*seen, topic="views"):
    """A log of (pin, event time in seconds), the first half archived and gone from Kafka."""
    log = InMemoryLog(topic)
    for pin, at in seen:
        log.append(0, json.dumps({"pin": pin, "at": at}).encode(), timestamp=1)
    log.flush(0, stop=len(seen) // 2)
    log.expire(0, len(seen) // 2)
    return log


def test_windows():
    """Event time decides the window, not the store and not the order of arrival."""
    log = views(("a", 10), ("b", 70), ("a", 20), ("a", 75))
    with beam.Pipeline(runner=FnApiRunner()) as p:
        counts = views_per_minute(p, read(log, max_out_of_orderness=timedelta(minutes=1)))
        assert_that(counts, equal_to([("a", 2), ("b", 1), ("a", 1)]))


def test_a_join():
    """Two topics, joined per window."""
    pins, seen = views(("a", 5), ("b", 6), topic="pins"), views(("a", 10), ("a", 20), ("b", 130), topic="views")
    with beam.Pipeline(runner=FnApiRunner()) as p:
        inputs = {
            log.topic: p
            | log.topic >> read(log)
            | f"Window {log.topic}" >> beam.WindowInto(FixedWindows(60))
            | f"Key {log.topic}" >> beam.Map(lambda value: (json.loads(value)["pin"], 1))
            for log in (pins, seen)
        }
        joined = inputs | beam.CoGroupByKey() | beam.MapTuple(lambda pin, found: (pin, *map(len, found.values())))
        assert_that(joined, equal_to([("a", 1, 2), ("b", 1, 0), ("b", 0, 1)]))


def test_late_data_keeps_its_own_time():
    """What comes later than max_out_of_orderness still goes to the window of its own time."""
    log = views(("a", 10), ("a", 500), ("a", 20), ("a", 501))
    with beam.Pipeline(runner=FnApiRunner()) as p:
        counts = (
            p
            | read(log, max_out_of_orderness=timedelta(0))
            | beam.WindowInto(
                FixedWindows(60),
                trigger=AfterWatermark(late=AfterCount(1)),
                accumulation_mode=AccumulationMode.DISCARDING,
                allowed_lateness=3_600,
            )
            | beam.Map(lambda value: json.loads(value)["pin"])
            | beam.combiners.Count.PerElement()
        )
        assert_that(counts, equal_to([("a", 2), ("a", 2)]))


def test_retention_that_passes_in_mid_read_and_a_file_that_comes_late():
    """The world changes while the pipeline reads it; the pipeline does not notice."""
    log = views(("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5), ("a", 6))
    log.flush(0, 3, 6)
    log.when_asked(0, 3, log.expire, 0, 6)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        assert_that(views_per_minute(p, read(log, prefer="kafka")), equal_to([("a", 6)]))


def test_a_gap_is_an_error_that_names_it():
    """Records that are in neither store end the pipeline."""
    log = views(("a", 1), ("a", 2), ("a", 3), ("a", 4))
    log.expire(0, 3)
    with (
        pytest.raises(DataLossError, match=r"views\[0\]: offsets 2 to 2 are in neither store"),
        beam.Pipeline(runner=FnApiRunner()) as p,
    ):
        views_per_minute(p, read(log, gap_timeout=timedelta(0)))


def test_every_split_there_is():
    """The harness plays the runner."""
    report = exhaust(read(views(("a", 10), ("b", 70), ("a", 20), ("a", 75))), ("views", 0))
    assert [json.loads(value)["at"] for value, _ in report.emitted] == [10, 70, 20, 75]
