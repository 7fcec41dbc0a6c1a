"""`WriteKafka(config=)`: what is refused when the pipeline is built, and what the client is given."""

import pytest

from beam_unified.errors import ConfigError
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.producers import WriteSettings
from beam_unified.sink import WriteKafka

KAFKA = Kafka("a:9092")


def client_settings(kafka=KAFKA, **config):
    """For the client's constructor."""
    return WriteSettings(kafka=kafka, config=config, partitioner=None, max_in_flight_bytes=1).client_settings()


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"acks": 0}, "losses go unseen: use 'all' or 1"),
        ({"acks": "0"}, "losses go unseen: use 'all' or 1"),
        ({"acks": 2}, "'acks' must be 'all' or 1, got 2"),
        ({"acks": True}, "'acks' must be 'all' or 1, got True"),
        ({"delivery.timeout.ms": "120000"}, "'delivery_timeout_ms' must be a number, without quotes, got str"),
        ({"batch_size": True}, "'batch_size' must be a number"),
        ({"retries": None}, "'retries' must be a number"),
        ({"enable.idempotence": "false"}, "'enable_idempotence' must be True or False, got str"),
        ({"enable.idempotence": True, "acks": "1"}, "not to be had with acks=1: leave one of them out"),
        ({"enable.idempotence": True, "retries": 0}, "not to be had with retries=0"),
        (
            {"enable.idempotence": True, "max.in.flight.requests.per.connection": 6},
            "not to be had with max_in_flight_requests_per_connection=6",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_the_pipeline_is_built(config, match):
    """By name, with what to write instead; not by the worker."""
    with pytest.raises(ConfigError, match=match):
        WriteKafka("pins", KAFKA, config=config)


@pytest.mark.parametrize(
    ("config", "acks", "idempotent"),
    [
        ({}, "all", True),
        ({"acks": -1}, "all", True),
        ({"acks": "all", "retries": 3, "max_in_flight_requests_per_connection": 5}, "all", True),
        ({"acks": "1"}, 1, False),
        ({"acks": 1, "enable_idempotence": False}, 1, False),
        ({"retries": 0}, "all", False),
        ({"max_in_flight_requests_per_connection": 6}, "all", False),
        ({"enable_idempotence": False}, "all", False),
    ],
)
def test_idempotent_wherever_it_can_be(config, acks, idempotent):
    """The client refuses, on the worker, to be so with some settings: they turn it off (KIP-679)."""
    found = client_settings(**config)
    assert (found["acks"], found["enable_idempotence"]) == (acks, idempotent)


def test_a_shared_setting_counts_as_well():
    """What readers are given goes to the producer, too, where it knows it."""
    shared = Kafka("a:9092", {"max.in.flight.requests.per.connection": 6})
    assert client_settings(shared)["enable_idempotence"] is False
    assert client_settings(shared, max_in_flight_requests_per_connection=5)["enable_idempotence"] is True
