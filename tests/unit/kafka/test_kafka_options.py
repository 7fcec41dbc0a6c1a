"""`Kafka`: which settings it takes, and that no setting's value is ever shown."""

import gc
import logging
import pickle
import socket
import threading
import traceback

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.display import DisplayData
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as client_errors

from beam_unified.errors import ConfigError, KafkaUnavailableError
from beam_unified.event_time import KafkaTimestamp
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.connecting import connected
from beam_unified.kafka.producers import client_settings
from beam_unified.transforms import ReadUnified

# kafka-python 3.0.12 does not close the socket of a refused connection, it drops it (looked at 2026-11).
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SECRET = "marker-5f2c"
SECRETS = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_plain_username": "user",
    "sasl_plain_password": SECRET,
    "ssl_password": SECRET,
}


@pytest.fixture(autouse=True)
def _collected_here():
    """The client's warnings about itself come where they are expected."""
    yield
    gc.collect()


@pytest.fixture
def closed_port():
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def failure(closed_port, **config):
    """The error of a connection that cannot be made."""
    kafka = Kafka(f"127.0.0.1:{closed_port}", config={"bootstrap_timeout_ms": 200, **SECRETS, **config})
    with pytest.raises((ConfigError, KafkaUnavailableError)) as caught:
        kafka.connect()
    return caught.value


def test_settings_are_named_with_dots_or_underscores():
    """Kafka's documentation has dots, Python's keyword arguments have underscores."""
    dots = Kafka("a:9092", config={"security.protocol": "SSL", "ssl.cafile": "ca.pem"})
    underscores = Kafka("a:9092", config={"security_protocol": "SSL", "ssl_cafile": "ca.pem"})
    assert dots == underscores
    assert dots.config == underscores.config


def test_servers_are_text_or_a_sequence():
    """As Kafka's tools take them, or as Python writes a list."""
    assert Kafka(["a:9092", "b:9092"]) == Kafka("a:9092,b:9092")


def test_the_callers_settings_are_copied():
    """Neither changed by us, nor changed under us."""
    config = {"security.protocol": "SSL"}
    kafka = Kafka("a:9092", config=config)
    config["security.protocol"] = "PLAINTEXT"
    assert kafka.config == {"security_protocol": "SSL"}
    assert config == {"security.protocol": "PLAINTEXT"}


@pytest.mark.rule("R4")
def test_read_committed_unless_configured():
    """What readers see must not depend on aborted transactions."""
    assert Kafka("a:9092").isolation_level == "read_committed"
    assert Kafka("a:9092", config={"isolation.level": "read_uncommitted"}).isolation_level == "read_uncommitted"


@pytest.mark.rule("B2")
@pytest.mark.parametrize("servers", ["", [], ()])
def test_no_server_is_refused(servers):
    """With an example of what to pass."""
    with pytest.raises(ConfigError, match=r"bootstrap_servers is empty: pass 'host:port'"):
        Kafka(servers)


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    "name",
    [
        "auto.offset.reset",
        "auto_offset_reset",
        "enable.auto.commit",
        "group.id",
        "key_deserializer",
        "value.deserializer",
        "bootstrap.servers",
        "kafka_client",
    ],
)
def test_settings_that_are_ours_are_refused_by_name(name):
    """Offsets, groups and deserializers: a user's would lose records or change them."""
    with pytest.raises(
        ConfigError, match=rf"'{name.replace('.', '_')}' is set by this package: leave it out"
    ) as caught:
        Kafka("a:9092", config={name: SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.rule("B2")
def test_an_unknown_setting_is_refused_by_name():
    """A typing error in a setting is no setting at all."""
    with pytest.raises(ConfigError, match=r"unknown Kafka config 'sasl_plain_pasword': use a setting of") as caught:
        Kafka("a:9092", config={"sasl.plain.pasword": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.rule("B2")
def test_an_unknown_isolation_level_is_refused_with_the_two_there_are():
    """The client takes any text and reads uncommitted with it."""
    with pytest.raises(ConfigError, match=r"'isolation_level' must be 'read_committed' or 'read_uncommitted'"):
        Kafka("a:9092", config={"isolation_level": "committed"})


@pytest.mark.rule("B4")
def test_no_secret_in_what_a_kafka_shows_of_itself():
    """repr, str, and inside of other values; it travels with the pipeline, and is as silent on the other side."""
    kafka = Kafka("a:9092", config=SECRETS)
    for copy in (kafka, pickle.loads(pickle.dumps(kafka))):
        assert copy == kafka
        assert copy.config == kafka.config
        for shown in (repr(copy), str(copy), f"{[copy]}", f"{copy!s}"):
            assert SECRET not in shown
            assert "a:9092" in shown


@pytest.mark.rule("B4")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"sasl_mechanism": "SCRAM-SHA-512"},
        {"security_protocol": "SASL_SSL"},
        {"security_protocol": "SASL_SSL", "ssl_cafile": "/does/not/exist.pem"},
        {"request_timeout_ms": 1},
    ],
)
def test_no_secret_in_an_error_a_traceback_or_a_log(closed_port, config, caplog):
    """Nor in what the client below us logs at its most talkative."""
    with caplog.at_level(logging.DEBUG):
        error = failure(closed_port, **config)
    assert SECRET not in "".join(traceback.format_exception(error))
    assert SECRET not in repr(error)
    assert SECRET not in caplog.text


@pytest.mark.rule("B4")
@pytest.mark.parametrize("client", [KafkaConsumer, KafkaProducer, KafkaAdminClient])
def test_no_client_logs_its_settings(closed_port, client, caplog):
    """None of the three kinds that are made here: admin clients of 3.0.12 begin with them, secrets looked up."""
    kafka = Kafka(f"127.0.0.1:{closed_port}", config={"bootstrap_timeout_ms": 200, **SECRETS})
    with caplog.at_level(logging.DEBUG), pytest.raises(client_errors.KafkaError):
        connected(client, client_settings(kafka, client.DEFAULT_CONFIG, {}))
    assert "kafka." in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.rule("B4")
def test_no_secret_in_display_data():
    """Runners store it and show it to everybody."""
    read = ReadUnified("pins", Kafka("a:9092", config=SECRETS), None, timestamp_fn=KafkaTimestamp(), validate=False)
    pipeline = beam.Pipeline(runner=FnApiRunner())
    pipeline | read
    shown = [repr(DisplayData.create_from(read).items), repr(read), repr(read.splittable_dofn().options)]
    for transform in pipeline.to_runner_api().components.transforms.values():
        shown += [str(item) for item in transform.display_data]
        shown.append(transform.unique_name)
    assert not [text for text in shown if SECRET in text]


@pytest.mark.rule("B2")
def test_an_unreachable_broker_is_an_error_within_seconds_that_names_it(closed_port):
    """With what to check."""
    error = failure(closed_port)
    assert isinstance(error, KafkaUnavailableError)
    assert f"127.0.0.1:{closed_port}" in str(error)
    assert "Check the address" in str(error)


@pytest.mark.rule("R8")
def test_a_connection_that_cannot_be_made_leaves_nothing_behind(closed_port):
    """A runner tries a bundle again for as long as the brokers are down: no thread, no socket is leaked at each try."""
    for _ in range(3):
        failure(closed_port)
    assert not [thread for thread in threading.enumerate() if "kafka" in thread.name]


@pytest.mark.rule("B2")
def test_settings_that_contradict_each_other_are_a_config_error(closed_port):
    """What the client says about them is kept: it names the settings."""
    error = failure(closed_port, request_timeout_ms=1)
    assert isinstance(error, ConfigError)
    assert "request_timeout_ms" in str(error)


def test_errors_pickle():
    """A worker raises them, the runner carries them home."""
    error = KafkaUnavailableError("could not connect")
    assert str(pickle.loads(pickle.dumps(error))) == "could not connect"
