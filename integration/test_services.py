"""The services themselves: each starts, is used for real, and ends."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import apache_beam as beam
import s3fs
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.services.kafka import KafkaBroker
from integration.services.object_store import ObjectStore
from integration.services.process import Run, is_alive, named_run


def _bounded(flink: FlinkCluster, worker_pool: str | None = None) -> list[str]:
    return flink_pipeline_options(flink.job_endpoint, checkpointing_interval=None, restarts=0, worker_pool=worker_pool)


def _count_words(options: list[str]) -> None:
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        counts = pipeline | beam.Create(["a", "b", "a"]) | beam.combiners.Count.PerElement()
        assert_that(counts, equal_to([("a", 2), ("b", 1)]))


def test_broker_keeps_old_records_until_told_to_delete_them(kafka: KafkaBroker) -> None:
    """Records of 1970 stay in a topic of ours; `delete_records` moves the start of the log."""
    topic = kafka.create_topic(f"services-{uuid.uuid4()}")
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for value in (b"0", b"1", b"2"):
        producer.send(topic, value, timestamp_ms=1_000)
    producer.close()
    kafka.delete_records(topic, {0: 1})
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, group_id=None, consumer_timeout_ms=5_000)
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        records = [next(consumer), next(consumer)]
    finally:
        consumer.close()
    assert [(record.offset, record.value, record.timestamp) for record in records] == [
        (1, b"1", 1_000),
        (2, b"2", 1_000),
    ]


def test_object_store_keeps_objects(object_store: ObjectStore) -> None:
    """What s3fs writes, s3fs reads."""
    bucket = object_store.make_bucket("services")
    filesystem = s3fs.S3FileSystem(**object_store.storage_options, skip_instance_cache=True)
    filesystem.pipe_file(f"{bucket}/folder/object", b"content")
    assert filesystem.cat_file(f"{bucket}/folder/object") == b"content"


def test_prism_runs_a_pipeline(prism: Path) -> None:
    """PrismRunner starts the program it is pointed at."""
    _count_words(["--runner=PrismRunner", f"--prism_location={prism}", "--experiments=disable_prism_server_singleton"])


def test_flink_runs_a_pipeline(flink: FlinkCluster) -> None:
    """The Python code of the pipeline runs in this process."""
    _count_words(_bounded(flink))


def test_flink_runs_a_pipeline_in_worker_processes(flink: FlinkCluster, worker_pool: str, service_run: Run) -> None:
    """The Python code of the pipeline runs in a process of the worker pool."""
    with beam.Pipeline(options=PipelineOptions(_bounded(flink, worker_pool))) as pipeline:
        pids = pipeline | beam.Create([None]) | beam.Map(lambda _: os.getppid())
        assert_that(pids, equal_to(list(service_run.processes("workers"))))


def test_killed_task_manager_is_replaced(flink: FlinkCluster) -> None:
    """A task manager killed without warning is gone; another one can be started and is registered."""
    killed = flink.kill_task_manager()
    assert killed not in flink.task_manager_pids()
    replacement = flink.start_task_manager()
    assert flink.task_manager_pids().keys() == {replacement}
    assert flink.task_manager_pids()[replacement] in flink.registered_task_managers()


def test_command_line_starts_once_and_leaves_nothing() -> None:
    """A second `up` finds the same processes; `down` leaves none."""
    name = f"services-test-{os.getpid()}"
    run = named_run(name)

    def command(*arguments: str) -> str:
        command_line = [sys.executable, "-m", "integration.services", "--run", name, *arguments]
        return subprocess.run(command_line, check=True, capture_output=True, text=True, timeout=120).stdout

    try:
        first = command("up", "s3", "kafka")
        pids = run.processes()
        assert sorted(pids.values()) == ["kafka", "s3"]
        assert command("up", "s3", "kafka") == first
        assert run.processes() == pids
        assert "down" in command("down", "s3")
        assert list(run.processes().values()) == ["kafka"]
        command("down")
        assert not run.processes()
        assert not any(is_alive(pid) for pid in pids)
        assert not run.directory.exists()
    finally:
        run.remove()
