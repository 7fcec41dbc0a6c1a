"""Start and stop by time mean the same over the archive on S3 and over the broker (rule R6)."""

from datetime import UTC, datetime

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_unified import Archive, JsonField, ReadUnified, Start, Stop
from integration.unlimited_log import KAFKA_TIME_START_MS, STEP_MS, Results, Scenario, WriteLines

ARCHIVED, LIVE = 600, 400


@pytest.fixture(scope="module")
def scenario(kafka, object_store) -> Scenario:
    archive = Archive(f"s3://{object_store.make_bucket('times')}", object_store.storage_options)
    scenario = Scenario(kafka, archive, partitions=2)
    scenario.produce(ARCHIVED)
    scenario.archive_and_expire(flushes=3, keep=50)
    scenario.produce(LIVE)
    return scenario


def instant(n: float) -> datetime:
    """Kafka's time of the n-th record of a partition, which is the one at offset n."""
    return datetime.fromtimestamp((KAFKA_TIME_START_MS + n * STEP_MS) / 1_000, tz=UTC)


@pytest.mark.rule("R6")
@pytest.mark.parametrize(
    ("start", "stop", "offsets"),
    [
        (instant(100), instant(900), range(100, 900)),  # across the handoff
        (instant(99.5), instant(100.5), range(100, 101)),  # between records: the first at or after
        (instant(10), instant(20), range(10, 20)),  # inside one flush
        (instant(-50), instant(5), range(5)),  # before the first record
        (instant(700), instant(800), range(700, 800)),  # only in Kafka
        (instant(560), instant(610), range(560, 610)),  # where both stores have it
        (instant(990), None, range(990, 1_000)),  # Stop.now(): no record that late, the end offset
        (instant(2_000), None, range(0)),  # a start after the last record: the end offset
    ],
)
def test_a_range_of_time(scenario, tmp_path, start, stop, offsets):
    """R6: the first offset whose Kafka timestamp is at or after the instant, whichever store has it."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        records = pipeline | ReadUnified(
            scenario.topic,
            scenario.kafka,
            scenario.archive,
            start=Start.at(start),
            stop=Stop.now() if stop is None else Stop.at(stop),
            timestamp_fn=JsonField("time", unit="ms"),
            output="record",
        )
        assert records.is_bounded
        _ = records | beam.Map(lambda r: [r.partition, r.offset, 0]) | beam.ParDo(WriteLines(tmp_path, "records"))
    expected = {partition: list(offsets) for partition in range(2) if offsets}
    assert Results(tmp_path).read_order() == expected


@pytest.mark.rule("R9")
def test_without_a_stop_the_collection_is_unbounded(scenario):
    """R9: so that Beam refuses a shuffle over a global window, which would never deliver."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    assert not (pipeline | scenario.read()).is_bounded
