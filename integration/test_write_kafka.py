"""WriteKafka on a real broker: what arrives, what fails and how, and brokers and task managers that go away in mid-run."""

import json
import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from kafka import KafkaProducer

from beam_unified import (
    BadRecordError,
    Kafka,
    KafkaRecord,
    KafkaTimestamp,
    KafkaUnavailableError,
    ReadUnified,
    Record,
    TopicPartition,
    UnknownTopicError,
    WriteKafka,
)
from beam_unified.kafka.producers import WRITERS
from integration.services.flink import flink_pipeline_options
from integration.unlimited_log import SlowDown


@pytest.fixture(autouse=True)
def _no_writer_left():
    yield
    WRITERS.close_all()
    assert not WRITERS._idle


def topic_of(kafka, partitions=1, **config):
    return kafka.create_topic(f"sink-{uuid.uuid4().hex[:8]}", partitions, config)


def written(kafka, topic, partitions=1):
    """Everything in a topic, by partition."""
    log: Any = Kafka(kafka.bootstrap_servers).connect()
    found: dict[int, list[Record]] = {}
    for partition in range(partitions):
        tp, at, found[partition] = TopicPartition(topic, partition), 0, []
        end = log.bounds(tp).stop
        while at < end:
            fetched = log.fetch(tp, at, max_records=10_000, timeout_ms=500)
            at = fetched.next_offset
            found[partition] += fetched.batch.records() if fetched.batch else []
    log.close()
    return found


def write(kafka, elements, topic, **options):
    with beam.Pipeline(runner=FnApiRunner()) as p:
        p | beam.Create(elements) | WriteKafka(topic, Kafka(kafka.bootstrap_servers), **options)


def producer_threads():
    return [
        thread
        for thread in threading.enumerate()
        if "kafka" in thread.name.lower() and "producer" in thread.name.lower()
    ]


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd", "snappy"])
def test_what_is_written_is_read(kafka, compression):
    """Key, value, headers, timestamp and partition of every kind of element; compressed or not."""
    topic = topic_of(kafka, 2)
    old = Record(b"k", None, (("a", b"1"), ("a", b"2")), "elsewhere", 7, 99, 1_000, None, "archive")
    elements = [KafkaRecord(b"v", None, (("h", b""),), 2_000, 1), old, (b"k", b"pair"), KafkaRecord(b"to", topic=topic)]
    write(kafka, elements, topic, config={"compression.type": compression})
    found = written(kafka, topic, 2)
    records = [record for records in found.values() for record in records]
    assert {r.value: (r.key, r.headers) for r in records} == {
        b"v": (None, (("h", b""),)),
        None: (b"k", (("a", b"1"), ("a", b"2"))),
        b"pair": (b"k", ()),
        b"to": (None, ()),
    }
    times = {r.value: r.timestamp for r in records}
    assert (times[b"v"], times[None]) == (2_000, 1_000)
    assert b"v" in [r.value for r in found[1]]
    assert not producer_threads()


def test_the_snippet_of_the_page(kafka):
    """docs/writing.md, as it stands there."""
    page = (Path(__file__).parent.parent / "docs" / "writing.md").read_text(encoding="utf-8")
    snippet, topic = page.split("```python\n")[1].split("```")[0], topic_of(kafka)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        exec(snippet, {"p": p, "topic": topic, "bootstrap_servers": kafka.bootstrap_servers})
    found = {(record.key, record.value, record.headers) for record in written(kafka, topic)[0]}
    assert found == {(b"a", b"1", (("source", b"docs"),)), (b"b", b"2", (("source", b"docs"),))}


@pytest.mark.parametrize("config", [{"acks": 1}, {"acks": "1"}, {"retries": 0}])
def test_settings_that_idempotence_does_not_go_with(kafka, config):
    """They turn it off: everything arrives, by the leader's word alone, or in one attempt."""
    topic = topic_of(kafka)
    write(kafka, [(b"k", b"%d" % i) for i in range(10)], topic, config=config)
    assert sorted(int(r.value) for r in written(kafka, topic)[0]) == list(range(10))


def second_last(key, partitions):
    return partitions[-2]


def test_a_partitioner(kafka):
    """A function of key and partitions decides."""
    topic = topic_of(kafka, 3)
    write(kafka, [(b"%d" % i, b"x") for i in range(50)], topic, partitioner=second_last)
    assert [len(records) for records in written(kafka, topic, 3).values()] == [0, 50, 0]


def test_memory_is_bounded(kafka):
    """With room for one record on its way every one is waited for, and all arrive in order."""
    topic = topic_of(kafka)
    write(kafka, [(b"k", b"%d" % i) for i in range(30)], topic, max_in_flight_bytes=1)
    assert sorted(int(r.value) for r in written(kafka, topic)[0]) == list(range(30))


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("element", "config", "error", "match"),
    [
        ((b"k", "text"), {}, BadRecordError, "Key and value must be bytes"),
        ((None, None), {}, BadRecordError, "one of them not None"),
        (KafkaRecord(b"v", headers=(("h", None),)), {}, BadRecordError, "headers pairs of str and bytes"),
        (KafkaRecord(b"v", partition=9), {}, BadRecordError, "the partition one that exists"),
        (5, {}, BadRecordError, "map to one of them first"),
        ((b"k", b"x" * 2_000_000), {}, BadRecordError, "is too large"),
        (
            (b"k", random.randbytes(2_000_000)),
            {"max_request_size": 5_000_000},
            BadRecordError,
            r"to sink-.*\[0\] is too large",
        ),
        (
            KafkaRecord(b"v", topic="no-such"),
            {"max_block_ms": 500},
            (UnknownTopicError, KafkaUnavailableError),
            "no-such",
        ),
    ],
)
def test_what_cannot_be_written_fails_and_says_why(kafka, element, config, error, match):
    """B2: a failed delivery fails the bundle, with topic and next step; and leaves no producer."""
    with pytest.raises(error, match=match):
        write(kafka, [element], topic_of(kafka), config=config)
    assert not producer_threads()


def test_a_failed_delivery_is_never_taken_for_granted(kafka):
    """The broker refuses one record of many, for its timestamp: the pipeline fails, naming topic and partition."""
    topic = topic_of(kafka, **{"message.timestamp.after.max.ms": "1000"})
    future = int(time.time() * 1_000) + 3_600_000
    elements = [KafkaRecord(b"%d" % i, timestamp=future if i == 50 else None) for i in range(100)]
    with pytest.raises(KafkaUnavailableError, match=rf"could not write to {topic}\[0\].*did not acknowledge it"):
        write(kafka, elements, topic)
    assert not producer_threads()


class Numbers:
    """A topic of numbered records, whose key is their partition."""

    def __init__(self, kafka, partitions, count):
        self.kafka, self.partitions, self.count = kafka, partitions, count
        self.source, self.target = topic_of(kafka, partitions), topic_of(kafka, partitions)
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=10)
        for i in range(count):
            for partition in range(partitions):
                producer.send(self.source, b"%d" % i, b"p%d" % partition, partition=partition)
        producer.close()

    def read(self, stop=None):
        kafka = Kafka(self.kafka.bootstrap_servers)
        return ReadUnified(self.source, kafka, None, timestamp_fn=KafkaTimestamp(), stop=stop, output="record")

    def sink(self):
        return WriteKafka(self.target, Kafka(self.kafka.bootstrap_servers))

    def arrived(self):
        return sum(len(records) for records in written(self.kafka, self.target, self.partitions).values())

    def distinct(self):
        found = written(self.kafka, self.target, self.partitions).values()
        return len({(record.key, record.value) for records in found for record in records})

    def check(self):
        """Nothing lost, and first arrivals in order. Gives the number of duplicates."""
        by_key = defaultdict(list)
        for records in written(self.kafka, self.target, self.partitions).values():
            for record in records:
                by_key[record.key].append(int(record.value))
        for numbers in by_key.values():
            assert list(dict.fromkeys(numbers)) == list(range(self.count))
        assert len(by_key) == self.partitions
        return sum(sum(Counter(numbers).values()) - self.count for numbers in by_key.values())


def when_arrived(numbers, least, action):
    """Runs an action beside the pipeline, once so many records are in the target."""

    def run():
        deadline = time.monotonic() + 60
        while numbers.arrived() < least and time.monotonic() < deadline:
            time.sleep(0.2)
        action()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def restart(kafka, after_s=0):
    time.sleep(after_s)
    kafka.kill()
    time.sleep(3)
    kafka.start_again()


def test_the_broker_restarts_in_mid_bundle(kafka):
    """FnApiRunner: a bundle outlives the broker's absence; nothing lost, nothing double, in order."""
    topic = topic_of(kafka)
    restarter = threading.Thread(target=restart, args=(kafka, 1))
    restarter.start()
    with beam.Pipeline(runner=FnApiRunner()) as p:
        numbers = p | beam.Create([0]) | beam.FlatMap(lambda _: ((b"k", b"%d" % i) for i in range(400)))
        numbers | beam.ParDo(SlowDown(0.02)) | WriteKafka(topic, Kafka(kafka.bootstrap_servers))
    restarter.join()
    assert [int(record.value) for record in written(kafka, topic)[0]] == list(range(400))


# The workers are threads of this process, and die with their task manager.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_broker_and_task_manager_go_away_on_flink(kafka, flink):
    """Flink: the broker restarts, then the task manager is killed; nothing lost, first arrivals in order, duplicates counted."""
    numbers, name = Numbers(kafka, 2, 1_500), f"write-{uuid.uuid4().hex[:8]}"
    options = PipelineOptions(
        flink_pipeline_options(
            flink.job_endpoint,
            checkpointing_interval=timedelta(seconds=1),
            extra=[f"--job_name={name}", "--finish_bundle_before_checkpointing", "--max_bundle_time_mills=100"],
        )
    )
    pipeline = beam.Pipeline(options=options)
    pipeline | numbers.read() | beam.ParDo(SlowDown(0.005)) | numbers.sink()
    pipeline.run()
    job = flink.job_id(name)
    flink.wait_for_state(job, "RUNNING")
    when_arrived(numbers, 300, lambda: restart(kafka)).join()
    seen = numbers.arrived()
    when_arrived(numbers, seen + 300, lambda: None).join()
    flink.kill_task_manager()
    flink.start_task_manager()
    total = numbers.partitions * numbers.count
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (
            numbers.arrived() >= total
            and len({(r.key, r.value) for rs in written(kafka, numbers.target, 2).values() for r in rs}) == total
        ):
            break
        time.sleep(1)
    assert flink.restarts(job) >= 1
    flink.cancel(job)
    duplicates = numbers.check()
    print(json.dumps({"records": total, "duplicates": duplicates}))
