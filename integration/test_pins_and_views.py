"""pipelines/pins_and_views.py over a real broker and real S3, its readers kept in step through a topic of Kafka."""

import uuid
import zlib
from contextlib import closing

import pytest
from kafka import KafkaProducer

from beam_unified import Archive, Kafka, KafkaSyncTopic, TopicPartition
from beam_unified.clock import SYSTEM_CLOCK
from pipelines import pins_and_views as example
from pipelines import pins_load
from pipelines.flights.archiver import Archiver


@pytest.mark.rule("S1", "S3")
def test_the_gate_makes_a_replay_exact(kafka, object_store):
    """History from S3, which Kafka has forgotten, the tail from Kafka: the ratio of a batch join with the gate, less without."""
    launch_ms, suffix = SYSTEM_CLOCK.now_ms(), f"-{uuid.uuid4().hex[:8]}"
    events = pins_load.load(launch_ms, pins=40, views=1_000)
    source = Kafka(kafka.bootstrap_servers)
    archive = Archive(f"s3://{object_store.make_bucket('pins')}/archive", object_store.storage_options)
    stops = {topic: _write(kafka, archive, topic + suffix, events[topic], launch_ms) for topic in events}
    with_gate, without = (
        example.ratio(
            ["--runner=FnApiRunner"], kafka=source, archive=archive, gate=gate, stops=stops, suffix=suffix,
            coordinator=KafkaSyncTopic(kafka=source),
        )
        for gate in (True, False)
    )  # fmt: skip
    assert with_gate == pins_load.batch_ratio(events)
    assert without < with_gate


def _write(broker, archive, name, events, launch_ms):
    """History through Kafka into the archive, then the tail; gives where each partition ends."""
    source, count = Kafka(broker.bootstrap_servers), pins_load.PARTITIONS[name.rpartition("-")[0]]
    broker.create_topic(name, count)
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers)) as producer:
        _produce(producer, name, count, [event for event in events if event.at_ms < launch_ms])
        with closing(Archiver(name, source, archive)) as archiver:
            archiver.run_once()
            broker.delete_records(name, {partition: end for partition, end in archiver.archived.items() if end})
        _produce(producer, name, count, [event for event in events if event.at_ms >= launch_ms])
    with closing(source.connect()) as log:
        return {partition: log.bounds(TopicPartition(name, partition)).stop for partition in range(count)}


def _produce(producer, name, count, events):
    for event in events:
        producer.send(name, event.value, partition=zlib.crc32(event.pin.encode()) % count, timestamp_ms=event.at_ms)
    producer.flush()
