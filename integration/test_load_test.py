"""pipelines/load_test.py over a real broker and a small archive: what arrives, and the figures."""

import uuid
from collections import Counter
from contextlib import closing

import pytest
from kafka import KafkaProducer

from beam_unified import Archive, ConfigError, Kafka, TopicPartition
from pipelines import load_test
from pipelines.flights.archiver import Archiver

RECORDS = 600  # of each of two partitions


@pytest.fixture(scope="module")
def world(kafka, tmp_path_factory):
    """A topic that both stores hold, and a record behind it that is in Kafka only: not to be replayed."""
    topic = kafka.create_topic(f"history-{uuid.uuid4().hex[:8]}", 2)
    source, archive = Kafka(kafka.bootstrap_servers), Archive(str(tmp_path_factory.mktemp("load") / "archive"))
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)) as producer:
        for partition in (0, 1):
            for at in range(RECORDS):
                producer.send(topic, b"%d-%d" % (partition, at), key=b"%d" % (at % 50), partition=partition)
        producer.flush()
        with closing(Archiver(topic, source, archive)) as archiver:
            archiver.run_once()
        producer.send(topic, b"live", partition=0)
        producer.flush()
    return kafka, topic, archive


@pytest.mark.rule("S4")
@pytest.mark.parametrize("rate", [None, 300.0], ids=["flat out", "at a rate"])
def test_the_load_arrives_and_is_measured(world, rate):
    """Every record once, none read from the brokers, which hold them, too; S4: never above 1.1 times the rate over ten seconds."""
    broker, topic, archive = world
    target = broker.create_topic(f"loaded-{uuid.uuid4().hex[:8]}", 3, {"message.timestamp.type": "LogAppendTime"})
    source = Kafka(broker.bootstrap_servers)
    outcome = load_test.run(topic, target, ["--runner=FnApiRunner"], kafka=source, archive=archive, rate=rate)
    assert outcome.records == 2 * RECORDS
    assert outcome.bytes_from_kafka == 0
    assert 0 <= outcome.latency_ms[50] <= outcome.latency_ms[95] <= outcome.latency_ms[99]
    assert _values(source, target) == Counter(f"{p}-{at}".encode() for p in (0, 1) for at in range(RECORDS))
    if rate is not None:
        # The half second of the limit that may be taken at once is most of the difference in so short a run.
        assert outcome.achieved <= 1.5 * rate
    assert ("flat out" in str(outcome)) == (rate is None)


def test_a_target_that_tells_no_delivery_is_an_error(world):
    """By default a topic keeps the producer's times, and every latency would be 0."""
    broker, topic, archive = world
    target = broker.create_topic(f"loaded-{uuid.uuid4().hex[:8]}", 1)
    source = Kafka(broker.bootstrap_servers)
    with pytest.raises(ConfigError, match="LogAppendTime"):
        load_test.run(topic, target, ["--runner=FnApiRunner"], kafka=source, archive=archive, rate=None)


def _values(source, topic):
    log = source.connect()
    found: Counter[bytes] = Counter()
    for partition, stop in load_test.ends(source, topic).items():
        at = 0
        while at < stop:
            step = log.fetch(TopicPartition(topic, partition), at, max_records=10_000, timeout_ms=500)
            at = step.next_offset
            found.update(record.value for record in step.batch.records())
    log.close()
    return found
