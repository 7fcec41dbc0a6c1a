"""Synchronisation over a topic of the real broker: the contract of coordinators, brokers that stop, processes that agree."""

import pytest

from beam_unified import Kafka
from beam_unified.kafka.sync_topic import KafkaSyncTopic
from tests.contracts.coordinator import CoordinatorContract


class TestKafkaSyncTopic(CoordinatorContract):
    """The log in a topic."""

    @pytest.fixture
    def source(self, kafka):
        return KafkaSyncTopic(kafka=Kafka(kafka.bootstrap_servers))
