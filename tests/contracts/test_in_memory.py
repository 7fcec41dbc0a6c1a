"""The testing kit obeys the contracts of the real stores."""

import pytest

from beam_unified.flushes import Flush
from beam_unified.testing import InMemoryLog
from tests.contracts.archive_log import ArchiveLogContract
from tests.contracts.kafka_log import KafkaLogContract


class InMemoryKafkaWorld:
    """A scripted Kafka half."""

    topic = "pins"

    def __init__(self):
        self.log = InMemoryLog(self.topic, partitions=2)
        self.source = self.log.kafka

    def append(self, value, *, key=None, headers=(), timestamp, partition=0):
        return self.log.append(partition, value, key=key, headers=headers, timestamp=timestamp)

    def hole(self, partition=0):
        self.log.hole(partition, 3)

    def begin_transaction(self, value, *, timestamp):
        offset = self.log.append(0, value, timestamp=timestamp)
        self.log.open_transaction(0, offset)
        return offset

    def commit_transaction(self):
        self.log.open_transaction(0, None)
        self.log.hole(0)

    def expire(self, log_start, partition=0):
        self.log.expire(partition, log_start)

    def add_partition(self):
        self.log.add_partition()


class InMemoryArchiveWorld:
    """A scripted archive half."""

    topic = "pins"

    def __init__(self):
        self.log = InMemoryLog(self.topic, partitions=12)
        self.source = self.log.archive
        self.missing = InMemoryLog("needles").archive

    def write_flush(self, records, start, stop, partition=0):
        times = [record.timestamp for record in records if record.timestamp is not None]
        flush = Flush(start, stop, min(times, default=None), max(times, default=None))
        self.log.restore(partition, flush, tuple(records))


class TestInMemoryKafka(KafkaLogContract):
    """The Kafka half."""

    @pytest.fixture
    def world(self):
        return InMemoryKafkaWorld()


class TestInMemoryArchive(ArchiveLogContract):
    """The archive half."""

    @pytest.fixture
    def world(self):
        return InMemoryArchiveWorld()
