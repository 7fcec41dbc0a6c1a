"""Errors that users meet with real services: each says what, where and what to do next, and none shows a secret."""

import io
import time
from datetime import timedelta

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_unified import (
    Archive,
    ArchiveUnavailableError,
    ConfigError,
    Kafka,
    KafkaTimestamp,
    KafkaUnavailableError,
    ReadUnified,
    Start,
    Stop,
    TopicPartition,
    UnknownTopicError,
)
from beam_unified.archive.rows import table_of
from beam_unified.archive.writer import write_flush
from integration.unlimited_log import Scenario

SECRET = "hunter2-hunter2"


@pytest.fixture
def archive(object_store):
    return Archive(f"s3://{object_store.make_bucket('errors')}", object_store.storage_options)


@pytest.fixture
def scenario(kafka, archive) -> Scenario:
    scenario = Scenario(kafka, archive, partitions=2)
    scenario.produce(20)
    scenario.archive_and_expire(flushes=1)
    scenario.produce(5)
    return scenario


def build(topic, kafka, archive, **options) -> None:
    """Applies the transform to a pipeline that is never run."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | ReadUnified(topic, kafka, archive, timestamp_fn=KafkaTimestamp(), **options)


def run(scenario: Scenario, **options) -> str:
    """Runs over the scenario up to its end; gives the text of the error that ends it."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    stop = Stop.offsets(scenario.stop_offsets())
    _ = pipeline | ReadUnified(
        scenario.topic, scenario.kafka, scenario.archive, timestamp_fn=KafkaTimestamp(), stop=stop, **options
    )
    with pytest.raises(Exception, match=r".") as caught:  # Beam wraps ours in one of its own
        pipeline.run()
    return str(caught.value)


@pytest.mark.rule("B2")
def test_unknown_topic(kafka, archive):
    """B2: a topic that does not exist is an error while the pipeline is built."""
    with pytest.raises(UnknownTopicError, match="'no-such-topic' does not exist"):
        build("no-such-topic", Kafka(kafka.bootstrap_servers), archive)


@pytest.mark.rule("B2")
def test_partition_out_of_range(scenario):
    """B2: an offset for a partition that the topic does not have."""
    with pytest.raises(ConfigError, match="names partition 7 of topic"):
        build(scenario.topic, scenario.kafka, scenario.archive, start=Start.offsets({0: 0, 1: 0, 7: 0}))


@pytest.mark.rule("B2")
def test_broker_unreachable(archive):
    """B2: no broker at the address: said within seconds."""
    began = time.monotonic()
    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:1 .*Check the address"):
        build("pins", Kafka("127.0.0.1:1"), archive)
    assert time.monotonic() - began < 30  # the client's own default is minutes


@pytest.mark.rule("B2", "B4")
def test_no_such_bucket(scenario, object_store):
    """B2, B4: the bucket's name is wrong."""
    with pytest.raises(ArchiveUnavailableError, match=r"s3://no-such-bucket-here/.*Check the bucket") as caught:
        build(scenario.topic, scenario.kafka, Archive("s3://no-such-bucket-here/merced", object_store.storage_options))
    assert object_store.secret_key not in str(caught.value)


@pytest.mark.rule("B2")
def test_no_such_prefix(scenario):
    """B2: the bucket is right, the folder in it is not."""
    archive = Archive(f"{scenario.archive.root}/elsewhere", scenario.archive.storage_options)
    with pytest.raises(ArchiveUnavailableError, match=rf"no archive of topic '{scenario.topic}': s3://.*/elsewhere/"):
        build(scenario.topic, scenario.kafka, archive)


@pytest.mark.rule("B2", "B4")
def test_wrong_credentials(scenario):
    """B2, B4: S3 refuses us; the error says so and does not show the secret."""
    options = {**scenario.archive.storage_options, "secret": SECRET}
    archive = Archive(scenario.archive.root, options)
    with pytest.raises(ArchiveUnavailableError, match=r"Check the .*credentials") as caught:
        build(scenario.topic, scenario.kafka, archive)
    assert SECRET not in f"{caught.value} {archive!r} {caught.value.__cause__}"


@pytest.mark.rule("B2", "B4")
def test_s3_unreachable(scenario):
    """B2, B4: no S3 server at the endpoint: said within seconds."""
    endpoint = {"endpoint_url": "http://127.0.0.1:1"}
    options = {**scenario.archive.storage_options, "client_kwargs": endpoint, "secret": SECRET}
    began = time.monotonic()
    with pytest.raises(ArchiveUnavailableError, match="Check the endpoint") as caught:
        build(scenario.topic, scenario.kafka, Archive(scenario.archive.root, options))
    assert time.monotonic() - began < 30
    assert SECRET not in str(caught.value)


@pytest.mark.rule("B2")
def test_truncated_file(scenario):
    """B2: a Parquet file that is shorter than its commit says is named, with the offsets it should hold."""
    files, path = one_file(scenario)
    files.pipe_file(path, files.cat_file(path)[:-10])
    text = run(scenario)
    assert path.rpartition("/")[2] in text
    assert f"{scenario.topic}[0]" in text
    assert "truncated or replaced" in text


@pytest.mark.rule("B2")
def test_file_of_another_topic(scenario):
    """B2: a file with the right name and size that was copied from another topic is named."""
    files, path = one_file(scenario)
    size = len(files.cat_file(path))
    other = io.BytesIO()
    records = scenario.archive.connect()
    tp = TopicPartition(scenario.topic, 0)
    (flush,) = records.index(tp)
    rows = records.open(tp, flush, 0).read(1_000)
    table = table_of(TopicPartition("needles-of-the-same-length"[: len(scenario.topic)], 0), rows.records())
    pq.write_table(table, other, compression="zstd", write_page_checksum=True)
    assert len(other.getvalue()) == size, "a file of another size is met by another check"
    files.pipe_file(path, other.getvalue())
    text = run(scenario)
    assert "is a file of needles-" in text
    assert path.rpartition("/")[2] in text


@pytest.mark.rule("R4")
def test_isolation_levels_must_agree(scenario):
    """R4: an archive written with read_committed is not read beside a read_uncommitted consumer."""
    kafka = Kafka(scenario.kafka.bootstrap_servers, {"isolation.level": "read_uncommitted"})
    with pytest.raises(ConfigError, match="archived as read_committed, the reader is read_uncommitted"):
        build(scenario.topic, kafka, scenario.archive)


@pytest.mark.rule("R5")
def test_gap(kafka, archive):
    """R5: offsets in neither store end the pipeline with topic, partition, first and last missing offset."""
    scenario = Scenario(kafka, archive, partitions=1)
    scenario.produce(20)
    write_flush(archive, TopicPartition(scenario.topic, 0), [], start=0, stop=5)
    kafka.delete_records(scenario.topic, {0: 12})
    text = run(scenario, gap_timeout=timedelta(seconds=1), start=Start.offsets({0: 0}))
    assert f"{scenario.topic}[0]: offsets 5 to 11 are in neither store" in text


def one_file(scenario: Scenario):
    """The file system, and the path of partition 0's only data file."""
    files, root = scenario.archive.file_system()
    (path,) = files.glob(f"{root}/{scenario.topic}/dt=*/hr=*/0-*.parquet")
    return files, path
