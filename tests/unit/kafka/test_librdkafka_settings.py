"""`Kafka(client=...)`: one set of names for both clients, each setting translated, answered by kafka-python, or refused."""

import logging
import sys

import pytest
from confluent_kafka import Consumer
from kafka import KafkaConsumer

from beam_unified.errors import ConfigError
from beam_unified.kafka import clients, librdkafka_settings
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.librdkafka_settings import translated, untranslatable
from beam_unified.kafka.security import NAMES

SECRET = "marker-5f2c"

OURS = {"auto_offset_reset", "enable_auto_commit", "group_id", "key_deserializer", "value_deserializer", "kafka_client"}
"""What `Kafka` takes from nobody."""

REFUSED = {
    "bootstrap_servers",
    "proxy_url",
    "sasl_kerberos_domain_name",
    "sasl_kerberos_name",
    "sasl_kerberos_service_name",
    "socket_options",
    "socks5_proxy",
    "ssl_context",
}
"""What librdkafka has nothing for."""

GIVEN: dict[str, tuple[object, dict[str, object]]] = {
    "allow_auto_create_topics": (True, {"allow.auto.create.topics": True}),
    "check_crcs": (False, {"check.crcs": False}),
    "client_dns_lookup": ("use_all_dns_ips", {"client.dns.lookup": "use_all_dns_ips"}),
    "client_id": ("replay", {"client.id": "replay"}),
    "client_rack": ("a", {"client.rack": "a"}),
    "connections_max_idle_ms": (1_000, {"connections.max.idle.ms": 1_000}),
    "fetch_max_bytes": (2_000_000, {"fetch.max.bytes": 2_000_000}),
    "fetch_max_wait_ms": (50, {"fetch.wait.max.ms": 50}),
    "fetch_min_bytes": (2, {"fetch.min.bytes": 2}),
    "isolation_level": ("read_uncommitted", {"isolation.level": "read_uncommitted"}),
    "max_partition_fetch_bytes": (4_096, {"fetch.message.max.bytes": 4_096}),
    "metadata_max_age_ms": (9_000, {"metadata.max.age.ms": 9_000, "topic.metadata.refresh.interval.ms": 9_000}),
    "receive_buffer_bytes": (65_536, {"socket.receive.buffer.bytes": 65_536}),
    "receive_message_max_bytes": (99_000_000, {"receive.message.max.bytes": 99_000_000}),
    "reconnect_backoff_max_ms": (9_000, {"reconnect.backoff.max.ms": 9_000}),
    "reconnect_backoff_ms": (70, {"reconnect.backoff.ms": 70}),
    "request_timeout_ms": (20_000, {"socket.timeout.ms": 20_000}),
    "retry_backoff_ms": (70, {"retry.backoff.ms": 70}),
    "send_buffer_bytes": (65_536, {"socket.send.buffer.bytes": 65_536}),
}


def test_every_setting_of_kafka_python_is_accounted_for():
    """None is dropped silently: a new one of kafka-python fails here until somebody has decided what it is."""
    kinds = [GIVEN.keys(), librdkafka_settings._OF_THE_QUESTIONS, NAMES, OURS, REFUSED]
    assert sorted(name for kind in kinds for name in kind) == sorted(KafkaConsumer.DEFAULT_CONFIG)
    assert GIVEN.keys() == librdkafka_settings._TRANSLATED.keys()


@pytest.mark.parametrize("name", GIVEN)
def test_a_setting_is_translated_and_librdkafka_takes_it(name):
    """By its name there, with its value; librdkafka itself refuses names that it does not know."""
    value, theirs = GIVEN[name]
    settings = translated({name: value}, "127.0.0.1:1")
    assert theirs.items() <= settings.items()
    Consumer({**settings, "log_level": 0}).close()


def test_a_setting_without_a_value_is_not_set():
    """None is kafka-python's word for its default, and no value of librdkafka's."""
    given = dict.fromkeys(name for name in GIVEN if name != "isolation_level")
    assert translated(given, "a:1") == translated({}, "a:1")


@pytest.mark.rule("R1")
def test_nothing_that_a_user_sets_lets_a_position_jump():
    """No offset reset, no commit, no stored offset."""
    settings = translated({"client_id": "replay"}, "a:1")
    assert settings["auto.offset.reset"] == "error"
    assert not settings["enable.auto.commit"]
    assert not settings["enable.auto.offset.store"]


@pytest.mark.rule("B2", "B4")
@pytest.mark.parametrize("name", sorted(REFUSED - {"ssl_context", "bootstrap_servers"}))
def test_what_librdkafka_lacks_is_refused_by_name(name):
    """When the pipeline is built, without its value; `auto` means kafka-python then, and kafka-python takes it."""
    with pytest.raises(ConfigError, match=rf"'{name}' cannot be had with client='confluent': leave it out") as caught:
        Kafka("a:9092", config={name: SECRET}, client="confluent")
    assert SECRET not in str(caught.value)
    assert clients.compiled("auto", Kafka("a:9092", config={name: SECRET}, client="auto").config) is None
    with pytest.raises(ConfigError, match=name):
        translated({name: SECRET}, "a:9092")


@pytest.mark.rule("B2")
@pytest.mark.parametrize("mechanism", ["GSSAPI", "AWS_MSK_IAM"])
def test_a_mechanism_that_librdkafka_lacks_is_refused_by_name(mechanism):
    """Its wheels have no Kerberos."""
    config = {"security_protocol": "SASL_SSL", "sasl_mechanism": mechanism}
    with pytest.raises(ConfigError, match="'sasl_mechanism' cannot be had with client='confluent'"):
        Kafka("a:9092", config=config, client="confluent")
    assert clients.compiled("auto", config) is None


def test_security_is_translated():
    """The same settings, made of the same value as kafka-python's."""
    config = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "user",
        "sasl_plain_password": SECRET,
        "ssl_check_hostname": False,
    }
    assert untranslatable(config) is None
    settings = translated(config, "a:1")
    assert (
        settings.items()
        >= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "user",
            "sasl.password": SECRET,
            "ssl.endpoint.identification.algorithm": "none",
        }.items()
    )


@pytest.mark.rule("B2")
@pytest.mark.parametrize("client", ["librdkafka", "", None, ["auto"]])
def test_an_unknown_client_is_refused_with_those_there_are(client):
    """A typing error is no choice."""
    with pytest.raises(ConfigError, match="client must be one of 'auto', 'confluent', 'kafka-python'"):
        Kafka("a:9092", client=client)


def test_kafka_python_unless_said_otherwise():
    """What is installed beside it changes nothing for who has not asked."""
    assert clients.compiled(Kafka("a:9092").client, {}) is None


@pytest.fixture
def _not_installed(monkeypatch):
    """As on a worker without confluent-kafka."""
    clients._say.cache_clear()
    monkeypatch.delitem(sys.modules, "beam_unified.kafka.librdkafka", raising=False)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)


@pytest.mark.rule("B2")
@pytest.mark.usefixtures("_not_installed")
def test_without_confluent_kafka_it_is_an_error_that_says_what_to_install():
    """Where it is asked for by name."""
    with pytest.raises(
        ConfigError, match=r"needs confluent-kafka on every worker: pip install 'beam-unified\[confluent\]'"
    ):
        Kafka("a:9092", client="confluent").connect()


@pytest.mark.usefixtures("_not_installed")
def test_auto_takes_what_is_there_and_says_so_once(caplog):
    """kafka-python where the other is not installed."""
    with caplog.at_level(logging.INFO, logger="beam_unified"):
        assert clients.compiled("auto", {}) is None
        assert clients.compiled("auto", {}) is None
    assert len([record for record in caplog.records if "kafka-python fetches" in record.message]) == 1


def test_auto_takes_librdkafka_where_it_is_installed_and_says_so_once(caplog):
    """And never says a setting's value."""
    clients._say.cache_clear()
    with caplog.at_level(logging.INFO, logger="beam_unified"):
        for _ in range(2):
            found = clients.compiled("auto", {"client_id": SECRET})
            assert found is not None
    assert [record.message for record in caplog.records] == ["Kafka(client='auto'): librdkafka fetches."]
