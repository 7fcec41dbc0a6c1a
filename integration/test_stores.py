"""The contract suites of tests/contracts over a real broker, by each client, and S3; and the harness over both."""

import time
import uuid
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from tenacity import Retrying, stop_after_delay, wait_fixed

from beam_unified import Announced, Archive, Kafka, KafkaCommitTopic, Stop, TopicPartition
from beam_unified.archive import layout
from beam_unified.archive.archive import ConnectedArchive
from beam_unified.archive.writer import write_flush
from beam_unified.flushes import Flush
from beam_unified.harness import sample
from beam_unified.kafka.client import KafkaBatch
from beam_unified.kafka.messages import MessageBatch
from beam_unified.testing import ManualClock
from integration.unlimited_log import CLIENTS, Scenario
from tests.contracts.archive_log import ArchiveLogContract
from tests.contracts.kafka_log import T0, KafkaLogContract, fetch


class BrokerWorld:
    """A topic on the real broker."""

    def __init__(self, broker, client):
        self._broker = broker
        self.topic = broker.create_topic(f"contract-{uuid.uuid4().hex[:8]}", 2)
        self.source = Kafka(broker.bootstrap_servers, client=client)
        self._producer = self._new_producer()
        self._transaction = None

    def append(self, value, *, key=None, headers=(), timestamp, partition=0):
        return self._send(self._producer, value, key=key, headers=headers, timestamp=timestamp, partition=partition)

    def hole(self, partition=0):
        producer = self._transactional()
        producer.begin_transaction()
        self._send(producer, b"aborted", timestamp=1_794_830_400_000, partition=partition)
        producer.abort_transaction()
        self._wait_until_readable()

    def begin_transaction(self, value, *, timestamp):
        self._transaction = self._transactional()
        self._transaction.begin_transaction()
        return self._send(self._transaction, value, timestamp=timestamp, partition=0)

    def commit_transaction(self):
        assert self._transaction is not None
        self._transaction.commit_transaction()
        self._wait_until_readable()

    def expire(self, log_start, partition=0):
        self._broker.delete_records(self.topic, {partition: log_start})

    def add_partition(self):
        with self._broker.admin() as admin:
            admin.create_partitions({self.topic: 3})
        self._producer = self._new_producer()  # which knows of it

    def _wait_until_readable(self):
        """The marker of a transaction is written after the producer has been told that it ended."""
        everything = Kafka(self._broker.bootstrap_servers, {"isolation_level": "read_uncommitted"}).connect()
        readable = self.source.connect()
        tp = TopicPartition(self.topic, 0)
        for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.05)):
            with attempt:
                assert readable.bounds(tp) == everything.bounds(tp)
        everything.close()
        readable.close()

    def _new_producer(self, **settings):
        # librdkafka's producer, because kafka-python's cannot send a header without a value.
        return Producer({"bootstrap.servers": self._broker.bootstrap_servers, "linger.ms": 0, **settings})

    def _transactional(self):
        producer = self._new_producer(**{"transactional.id": uuid.uuid4().hex})
        producer.init_transactions()
        return producer

    def _send(self, producer, value, *, timestamp, partition, key=None, headers=()):
        offsets = []
        producer.produce(
            self.topic,
            value,
            key,
            partition,
            on_delivery=lambda error, message: offsets.append(message.offset() if error is None else error),
            timestamp=timestamp,
            headers=list(headers),
        )
        producer.flush()
        return offsets[0]


class ArchiveWorld:
    """An archive in layout A1 at some root."""

    topic = "pins"

    def __init__(self, root, storage_options=None):
        self.source = Archive(f"{root}/merced", storage_options or {})
        self.missing = Archive(f"{root}/nothing-here", storage_options or {})

    def write_flush(self, records, start, stop, partition=0):
        write_flush(self.source, TopicPartition(self.topic, partition), records, start=start, stop=stop)


@pytest.mark.parametrize("client", CLIENTS)
class TestRealKafka(KafkaLogContract):
    """Both clients over a Kafka 4 broker: one set of answers."""

    @pytest.fixture
    def world(self, kafka, client):
        return BrokerWorld(kafka, client)

    def test_the_client_that_was_asked_for_fetches(self, world, log, tp, client):
        """What librdkafka cannot go on with is fetched by kafka-python: that must not be everything."""
        world.append(b"0", timestamp=T0)
        found = {type(fetched.batch) for _ in range(50) if (fetched := fetch(log, tp, 0)).batch is not None}
        assert found == {MessageBatch if client == "confluent" else KafkaBatch}


class TestArchiveOnS3(ArchiveLogContract):
    """Layout A1 over the S3 protocol."""

    @pytest.fixture
    def world(self, object_store):
        return ArchiveWorld(f"s3://{new_bucket(object_store)}", object_store.storage_options)


@pytest.mark.rule("R3")
def test_an_aged_listing_asks_s3_for_what_is_new(object_store):
    """R3: behind the last flush only, over as many pages as it takes; all of it before a gap is believed."""
    archive, tp = Archive(f"s3://{new_bucket(object_store)}", object_store.storage_options), TopicPartition("pins", 0)
    clock = ManualClock()
    log = ConnectedArchive(archive, clock)
    first, late = Flush(10, 11, 0, 0), Flush(0, 1, 0, 0)
    later = [Flush(start, start + 1, 0, 0) for start in range(11, 1_200)]
    put_commits(archive, [first])
    assert list(log.index(tp)) == [first]
    put_commits(archive, [late, *later])
    clock.advance(30_000)
    assert list(log.index(tp)) == [first, *later]
    assert list(log.index(tp, refresh=True)) == [late, first, *later]


class AnnouncedWorld:
    """An archive on S3 whose commits are announced when they are written."""

    topic = "pins"

    def __init__(self, broker, store, index):
        self._archive = Archive(f"s3://{new_bucket(store)}/merced", store.storage_options)
        commits = KafkaCommitTopic(kafka=Kafka(broker.bootstrap_servers), topic=f"commits-{uuid.uuid4().hex[:8]}")
        self.source = Announced(self._archive, commits, index=index)
        empty = KafkaCommitTopic(kafka=commits.kafka, topic=f"{commits.topic}-empty")
        nowhere = Archive(f"s3://{new_bucket(store)}/nothing", store.storage_options)
        self.missing = Announced(nowhere, empty, index=index)
        self._announcer = commits.connect()

    def write_flush(self, records, start, stop, partition=0):
        tp = TopicPartition(self.topic, partition)
        self._announcer.announce(write_flush(self._archive, tp, records, start=start, stop=stop))

    def close(self):
        self._announcer.close()


@pytest.mark.rule("A4")
@pytest.mark.parametrize("index", ["announcements", "both"])
class TestAnnounced(ArchiveLogContract):
    """Rule A4: an index from announcements, alone or beside listings, gives the same answers as listing."""

    @pytest.fixture
    def world(self, kafka, object_store, index):
        world = AnnouncedWorld(kafka, object_store, index)
        yield world
        world.close()


@pytest.mark.rule("A4")
def test_announcements_since_an_instant(kafka, object_store):
    """Only what was announced at or after it; and what comes later is found without a listing."""
    world = AnnouncedWorld(kafka, object_store, "announcements")
    world.write_flush([], 0, 5)
    time.sleep(0.05)
    since = datetime.now(UTC)
    time.sleep(0.05)
    world.write_flush([], 5, 9)
    log = Announced(world.source.archive, world.source.commits, since=since).connect()
    tp = TopicPartition(world.topic, 0)
    assert [flush.start for flush in log.index(tp)] == [5]
    world.write_flush([], 9, 10)
    assert [flush.start for flush in log.index(tp, refresh=True)] == [5, 9]
    log.close()
    world.close()


def put_commits(archive, flushes):
    """Empty commit objects: a listing goes by their names."""
    files, root = archive.file_system()
    files.pipe({f"{root}/pins/_commits/0/{layout.commit_name(flush)}": b"" for flush in flushes})


@pytest.mark.rule("R1", "T4", "B5")
@pytest.mark.parametrize("client", CLIENTS)
def test_random_splits_over_real_stores(kafka, object_store, client):
    """R1, T4, B5: split at random over a broker and S3, in both halves: the same records as one plain read."""
    archive = Archive(f"s3://{new_bucket(object_store)}", object_store.storage_options)
    scenario = Scenario(kafka, archive, partitions=1, client=client)
    scenario.produce(600)
    scenario.archive_and_expire(flushes=3)
    scenario.produce(400)
    report = sample(scenario.read(stop=Stop.offsets(scenario.stop_offsets())), (scenario.topic, 0), runs=20, seed=11)
    assert [record.offset for record, _ in report.emitted] == scenario.ledger.offsets()[0]
    assert {record.store for record, _ in report.emitted} == {"archive", "kafka"}
    assert report.splits > 10


def new_bucket(object_store):
    return object_store.make_bucket("contract")
