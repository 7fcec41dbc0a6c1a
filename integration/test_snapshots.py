"""Snapshots of a real topic in a real object store: replayed on every runner when Kafka is gone, and told when it changed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_unified import (
    Archive,
    ConfigError,
    JsonField,
    KafkaTimestamp,
    ReadUnified,
    Record,
    Snapshot,
    SnapshotChangedError,
    Start,
    Stop,
    TopicPartition,
)
from beam_unified.archive.writer import write_flush
from beam_unified.stores import Fetched
from beam_unified.testing import PartitionDigest, PartitionDigests, assert_same_digests, digests_of
from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.services.kafka import KafkaBroker
from integration.services.object_store import ObjectStore
from integration.test_runners import flink_options, prism_options
from integration.unlimited_log import Results, Scenario, WriteLines

pytestmark = [
    pytest.mark.rule("R9"),
    # A runner that is cancelled or killed hangs up on the workers in this process, whose threads end with gRPC's error.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

PARTITIONS = 3
RECORDS = 2_000
EVENT_TIME = JsonField("time", unit="ms")


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot file on S3, of a topic that is gone."""

    path: str
    storage_options: dict[str, object]
    expected: list[PartitionDigest]


@pytest.fixture(scope="module")
def kept(kafka: KafkaBroker, object_store: ObjectStore) -> Kept:
    """Six tenths only in the archive, the rest archived by the capture; then the topic is deleted."""
    bucket = object_store.make_bucket("snapshots")
    scenario = Scenario(kafka, archive_in(object_store, bucket), partitions=PARTITIONS)
    scenario.produce(RECORDS * 6 // 10)
    records = from_kafka(scenario)
    scenario.archive_and_expire(flushes=4)
    scenario.produce(RECORDS * 4 // 10)
    records += from_kafka(scenario)
    snapshot = Snapshot.capture(scenario.kafka, scenario.archive, scenario.topic, archive_missing=True)
    path = f"s3://{bucket}/snapshots/pins.json"
    snapshot.save(path, object_store.storage_options)
    kafka.delete_topic(scenario.topic)
    times = scenario.ledger.times
    timed = [(record, times[record.partition][record.offset] * 1_000) for record in records]
    return Kept(path, object_store.storage_options, digests_of(timed))


def archive_in(object_store: ObjectStore, bucket: str) -> Archive:
    return Archive(f"s3://{bucket}/merced", object_store.storage_options)


def from_kafka(scenario: Scenario) -> list[Record]:
    """Every record that Kafka holds, without this package's reader."""
    found, log = list[Record](), scenario.kafka.connect()
    for partition in range(scenario.partitions):
        tp = TopicPartition(scenario.topic, partition)
        held = log.bounds(tp)
        offset = held.start
        while offset < held.stop:
            fetched = log.fetch(tp, offset, max_records=10_000, timeout_ms=500)
            assert isinstance(fetched, Fetched)
            offset = fetched.next_offset
            found += [] if fetched.batch is None else fetched.batch.records()
    log.close()
    return found


@pytest.fixture(params=["fn-api", "direct", "prism", "prism-streaming", "flink", "flink-batch"])
def runner(request: pytest.FixtureRequest) -> list[str]:
    """Options of a runner."""
    if request.param.startswith("prism"):
        options = prism_options(request.getfixturevalue("prism"))
        return [*options, "--streaming"] if request.param == "prism-streaming" else options
    if request.param.startswith("flink"):
        flink: FlinkCluster = request.getfixturevalue("flink")
        if request.param == "flink":
            return [*flink_options(flink), "--shutdown_sources_after_idle_ms=0"]
        return flink_pipeline_options(flink.job_endpoint, streaming=False, checkpointing_interval=None, restarts=0)
    return ["--runner=DirectRunner"] if request.param == "direct" else []


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_replays_are_identical_on_every_runner_without_kafka(
    kept: Kept, runner: list[str], tmp_path: Path, *, ordered: bool
) -> None:
    """R9: two replays give what the producer wrote: offsets, event times, timestamps, keys, values; in order if asked for."""
    for attempt in ("first", "second"):
        found = replay(kept, runner, tmp_path / attempt, ordered=ordered)
        assert_same_digests(found, kept.expected)
        if ordered:
            assert [one.disordered for one in found] == [0] * PARTITIONS


def replay(kept: Kept, options: list[str], folder: Path, *, ordered: bool) -> list[PartitionDigest]:
    """The digests that a pipeline gives."""
    folder.mkdir()
    chosen = None if options else FnApiRunner()
    with beam.Pipeline(runner=chosen, options=PipelineOptions(options)) as pipeline:
        _ = (
            pipeline
            | ReadUnified.from_snapshot(
                kept.path,
                storage_options=kept.storage_options,
                timestamp_fn=EVENT_TIME,
                output="record",
                ordered=ordered,
            )
            | PartitionDigests()
            | "Rows" >> beam.Map(list)
            | beam.ParDo(WriteLines(folder, "digests"))
        )
    return list(written(folder))


def written(folder: Path) -> Iterator[PartitionDigest]:
    for line in Results(folder).lines("digests"):
        yield PartitionDigest(*line)  # type: ignore[arg-type]


# -- what changed, on S3


@pytest.fixture
def small(kafka: KafkaBroker, object_store: ObjectStore) -> Scenario:
    """Two flushes of one partition, and a rest that only Kafka holds."""
    scenario = Scenario(kafka, archive_in(object_store, object_store.make_bucket("small")), partitions=1)
    scenario.produce(60)
    scenario.archive_and_expire(flushes=2)
    scenario.produce(10)
    return scenario


def build(snapshot: Snapshot, options: object) -> None:
    """Builds a pipeline over it, which looks at what is there."""
    _ = beam.Pipeline(runner=FnApiRunner()) | ReadUnified.from_snapshot(
        snapshot,
        storage_options=options,  # type: ignore[arg-type]
        timestamp_fn=KafkaTimestamp(),
    )


def capture(scenario: Scenario, **options: object) -> Snapshot:
    """The archived part."""
    return Snapshot.capture(scenario.kafka, scenario.archive, scenario.topic, stop=Stop.offsets({0: 60}), **options)  # type: ignore[arg-type]


def test_s3_tells_a_replaced_file_by_its_etag(small: Scenario, object_store: ObjectStore) -> None:
    """R9: ETags come with the listing and with the file alike; same size and other bytes are noticed before anything runs."""
    snapshot = capture(small)
    assert {part.kind for one in snapshot.partitions[0].flushes for part in one.parts} == {"etag"}
    build(snapshot, object_store.storage_options)
    files, root = small.archive.file_system()
    path = f"{root}/{small.topic}/{snapshot.partitions[0].flushes[1].parts[0].path}"
    content = bytearray(files.cat_file(path))
    content[100] ^= 1
    files.pipe_file(path, bytes(content))
    with pytest.raises(SnapshotChangedError, match=rf"s3://{path} was replaced: its ETag is"):
        build(snapshot, object_store.storage_options)


@pytest.mark.parametrize("fingerprint", ["etag", "sha256"])
def test_s3_tells_what_is_missing_and_what_was_added(
    small: Scenario, object_store: ObjectStore, fingerprint: str
) -> None:
    """R9: a flush inside the pinned offsets, a file that is gone; what comes behind the pinned offsets is fine."""
    snapshot, (files, root) = capture(small, fingerprint=fingerprint), small.archive.file_system()
    tp = TopicPartition(small.topic, 0)
    write_flush(small.archive, tp, [], start=60, stop=70)
    build(snapshot, object_store.storage_options)
    commit = write_flush(small.archive, tp, [], start=20, stop=40)
    with pytest.raises(SnapshotChangedError, match=rf"_commits/0/{20:020d}-{40:020d}-none-none.json is additional"):
        build(snapshot, object_store.storage_options)
    assert commit.parts == ()
    files.rm_file(f"{root}/{small.topic}/_commits/0/{20:020d}-{40:020d}-none-none.json")
    path = f"{root}/{small.topic}/{snapshot.partitions[0].flushes[0].parts[0].path}"
    files.rm_file(path)
    with pytest.raises(SnapshotChangedError, match=rf"s3://{path} is missing"):
        build(snapshot, object_store.storage_options)


def test_what_only_the_broker_holds_is_refused(small: Scenario) -> None:
    """R9: with its offsets; a start by time means the same over both stores."""
    with pytest.raises(ConfigError, match=rf"only Kafka holds {small.topic}\[0\] offsets 60 to 69"):
        Snapshot.capture(small.kafka, small.archive, small.topic)
    start = Start.at("2026-09-21T14:13:21Z")
    (pinned,) = Snapshot.capture(
        small.kafka, small.archive, small.topic, start=start, stop=Stop.offsets({0: 60})
    ).partitions
    assert (pinned.offsets.start, pinned.offsets.stop) == (10, 60)


def test_a_snapshot_file_holds_no_secret(kept: Kept, object_store: ObjectStore) -> None:
    """B4: neither key nor endpoint of the storage, nor a broker; it is JSON."""
    files, _ = Archive(kept.path.rpartition("/")[0], object_store.storage_options).file_system()
    text = files.cat_file(kept.path).decode()
    assert json.loads(text)["format_version"] == 1
    for secret in (object_store.access_key, object_store.secret_key, object_store.endpoint_url, "127.0.0.1"):
        assert secret not in text
