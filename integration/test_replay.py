"""Dead letters through a topic of a real broker, and their replay from S3 and from Kafka."""

import json
import uuid
from dataclasses import dataclass

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from kafka import KafkaProducer

from beam_unified import (
    Archive,
    DataLossError,
    Json,
    Kafka,
    KafkaTimestamp,
    ReadUnified,
    ReplayDeadLetters,
    Stop,
    WriteKafka,
    connect_record,
)
from beam_unified.decoding.decoder import each_value
from integration.unlimited_log import Scenario

pytestmark = pytest.mark.rule("B1")


@dataclass(frozen=True)
class AlsoOld:
    """The corrected decoder: it knows the old form, too."""

    element_type = dict

    def open(self):
        return each_value(lambda value: {"n": int(value[4:])} if value.startswith(b"old ") else json.loads(value))


class World:
    """Half of a topic on S3 alone, half in Kafka alone; among JSON there are records in an old form."""

    def __init__(self, kafka, object_store):
        self.archive = Archive(f"s3://{object_store.make_bucket('replay')}/merced", object_store.storage_options)
        self.scenario = Scenario(kafka, self.archive, partitions=2)
        self.kafka, self.topic = self.scenario.kafka, self.scenario.topic
        self.old: dict[tuple[int, int], int] = {}
        self.producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        self.fill()
        self.scenario.archive_and_expire(flushes=2)
        self.archived = self.ends()
        self.fill()
        self.producer.close()
        self.dead = kafka.create_topic(f"dead-{uuid.uuid4().hex[:8]}", 2)

    def fill(self):
        for _ in range(4):
            self.scenario.produce(50)
            for partition in range(2):
                n = len(self.old)
                sent = self.producer.send(self.topic, b"old %d" % n, partition=partition, headers=[("own", b"h")])
                self.old[partition, sent.get(timeout=10).offset] = n

    def ends(self):
        return {partition: 1 + max(offset for p, offset in self.old if p == partition) for partition in range(2)}

    def set_apart(self):
        """Every record of the topic is read with the decoder that knows JSON alone."""
        with beam.Pipeline(runner=FnApiRunner()) as p:
            read = ReadUnified(
                self.topic, self.kafka, self.archive, timestamp_fn=KafkaTimestamp(), decoder=Json(), dead_letters=True,
                stop=Stop.offsets(self.ends()),
            )  # fmt: skip
            letters = (p | read).dead_letters
            _ = letters | beam.Map(connect_record) | WriteKafka(self.dead, self.kafka)

    def letters(self, pipeline):
        read = ReadUnified(self.dead, self.kafka, None, timestamp_fn=KafkaTimestamp(), output="record", stop=Stop.now())
        return pipeline | "Dead" >> read

    def replay(self):
        return ReplayDeadLetters(
            self.kafka, self.archive, timestamp_fn=KafkaTimestamp(), decoder=AlsoOld(), output="record"
        )


@pytest.fixture
def world(kafka, object_store):
    return World(kafka, object_store)


def test_what_failed_is_replayed_with_the_corrected_decoder(world, kafka):
    """Exactly those records, each once, from the store that holds it; and an error where retention has passed in both."""
    world.set_apart()
    world.set_apart()  # a pipeline that ran twice
    expected = [
        (partition, offset, n, "archive" if offset < world.archived[partition] else "kafka", (("own", b"h"),))
        for (partition, offset), n in world.old.items()
    ]
    assert len({store for *_, store, _ in expected}) == 2
    with beam.Pipeline(runner=FnApiRunner()) as p:
        found = world.letters(p) | world.replay()
        rows = found | beam.Map(
            lambda x: (x.record.partition, x.record.offset, x.value["n"], x.record.store, x.record.headers)
        )
        assert_that(rows, equal_to(expected))
    kafka.delete_records(world.topic, world.ends())
    first = min(offset for partition, offset in world.old if offset >= world.archived[partition])
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = world.letters(pipeline) | world.replay()
    with pytest.raises(DataLossError, match=rf"{world.topic}\[\d\]: offsets {first} to \d+ were to be read again"):
        pipeline.run().wait_until_finish()


def test_what_is_no_more_is_missing(kafka):
    """A broker is silent about a topic or partition that it does not have: it is asked, and the others are read."""
    topic, source = kafka.create_topic(f"here-{uuid.uuid4().hex[:8]}"), Kafka(kafka.bootstrap_servers)
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        producer.send(topic, b"here", partition=0)
    wanted = [(topic, 0, 0), (topic, 7, 0), (f"not-{topic}", 0, 0)]
    with beam.Pipeline(runner=FnApiRunner()) as p:
        found, bad = (
            p | beam.Create(wanted) | ReplayDeadLetters(source, None, timestamp_fn=KafkaTimestamp(), dead_letters=True)
        )
        assert_that(found, equal_to([b"here"]))
        assert_that(
            bad | beam.Map(lambda x: (x.reason, *x[:3])), equal_to([("missing", *one) for one in wanted[1:]]), "bad"
        )
