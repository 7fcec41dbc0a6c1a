"""Positions in a consumer group, for lag monitors: they follow what was emitted, and are never ahead of it."""

import time
import uuid
from datetime import timedelta

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from kafka import KafkaProducer
from kafka.errors import CoordinatorNotAvailableError

from beam_unified import ConfigError, Kafka, KafkaTimestamp, ReadUnified, Start, Stop, TopicPartition
from beam_unified.kafka.group_commits import GroupCommitter
from beam_unified.testing import InMemoryLog
from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.unlimited_log import Results, WriteLines

pytestmark = [
    pytest.mark.rule("B3"),
    # A job that is cancelled hangs up on the workers in this process, whose threads end with gRPC's error.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture
def topic(kafka):
    return kafka.create_topic(f"followed-{uuid.uuid4().hex[:8]}", 2)


@pytest.fixture
def group():
    return f"lag-{uuid.uuid4().hex[:8]}"


def produce(kafka, topic, records):
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=10)
    for i in range(records):
        for partition in range(2):
            producer.send(topic, b"%d" % i, partition=partition)
    producer.close()


def read(kafka, topic, **options):
    return ReadUnified(
        topic, Kafka(kafka.bootstrap_servers), None, timestamp_fn=KafkaTimestamp(), output="record", **options
    )


def committed(kafka, group):
    """Partition -> offset."""
    with kafka.admin() as admin:
        try:
            found = admin.list_group_offsets(group)
        except CoordinatorNotAvailableError:  # the first group of a broker: its topic is being made
            return {}
    return {tp.partition: position.offset for tp, position in found[group].items()}


def test_a_bounded_read_leaves_its_end(kafka, topic, group):
    """When the pipeline is over, the group stands where it stopped, whatever the interval."""
    produce(kafka, topic, 100)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        _ = p | read(kafka, topic, commit_group=group, stop=Stop.offsets({0: 70, 1: 100}))
    assert committed(kafka, group) == {0: 70, 1: 100}


def test_a_read_does_not_begin_where_its_group_stands(kafka, topic, group):
    """The group was moved elsewhere, by another reader or by hand: `start` alone decides, and the group follows."""
    produce(kafka, topic, 30)
    moved = GroupCommitter(Kafka(kafka.bootstrap_servers), group, interval_s=60)
    moved.note({TopicPartition(topic, 0): 25, TopicPartition(topic, 1): 2})
    moved.close()
    assert committed(kafka, group) == {0: 25, 1: 2}
    start, stop = Start.offsets({0: 5, 1: 10}), Stop.offsets({0: 20, 1: 30})
    with beam.Pipeline(runner=FnApiRunner()) as p:
        records = p | read(kafka, topic, commit_group=group, start=start, stop=stop)
        offsets = records | beam.Map(lambda record: (record.partition, record.offset))
        assert_that(offsets, equal_to([*((0, at) for at in range(5, 20)), *((1, at) for at in range(10, 30))]))
    assert committed(kafka, group) == {0: 20, 1: 30}


def test_commits_follow_what_was_emitted(kafka, topic, group, tmp_path, flink: FlinkCluster):
    """On Flink: never ahead of the records that have come out behind the source; in the end all of them."""
    produce(kafka, topic, 20)
    name, results = f"followed-{uuid.uuid4().hex[:8]}", Results(tmp_path)
    options = flink_pipeline_options(
        flink.job_endpoint,
        parallelism=1,
        checkpointing_interval=timedelta(seconds=1),
        extra=[f"--job_name={name}", "--finish_bundle_before_checkpointing", "--max_bundle_time_mills=100"],
    )
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    _ = (
        pipeline
        | read(kafka, topic, commit_group=group)
        | beam.Map(lambda record: [record.partition, record.offset, 0])
        | beam.ParDo(WriteLines(tmp_path, "records"))
    )
    pipeline.run()
    for total in (20, 140):
        deadline = time.monotonic() + 150
        while (at := committed(kafka, group)) != {0: total, 1: total}:
            emitted = {partition: max(offsets) + 1 for partition, offsets in results.read_order().items()}
            for partition, offset in at.items():
                assert offset <= emitted[partition]
            assert time.monotonic() < deadline, f"committed {at}, emitted {emitted}"
            time.sleep(0.2)
        for _ in range(6 if total == 20 else 0):
            produce(kafka, topic, 20)
    flink.cancel(flink.job_id(name))


def test_the_newest_position_counts_and_brokers_may_be_away(kafka, topic, group, caplog):
    """One commit an interval; a lower position, after a restore, is committed, too; no answer is a warning, and tried again."""
    committer = GroupCommitter(Kafka(kafka.bootstrap_servers), group, interval_s=60)
    for offset in (9, 5):
        committer.note({TopicPartition(topic, 0): offset})
    assert committed(kafka, group) == {}
    committer.close()
    assert committed(kafka, group) == {0: 5}
    away = GroupCommitter(Kafka("127.0.0.1:9", config={"bootstrap_timeout_ms": 300}), group)
    away.note({TopicPartition(topic, 0): 7})
    away.close()
    assert "could not commit positions of 1 partitions" in caplog.text
    assert away._due == {TopicPartition(topic, 0): 7}


@pytest.mark.rule("B2")
def test_what_cannot_work_is_refused_when_the_pipeline_is_built():
    """No name, no broker, no single position."""
    log = InMemoryLog("pins")
    for kafka, options, match in (
        (Kafka("h:1"), {"commit_group": ""}, "name of a consumer group"),
        (log.kafka, {"commit_group": "g"}, "needs Kafka"),
        (Kafka("h:1"), {"commit_group": "g", "ordered": False}, "no one position"),
    ):
        with pytest.raises(ConfigError, match=match):
            ReadUnified("pins", kafka, None, timestamp_fn=KafkaTimestamp(), **options)
