"""A broker's listeners with TLS, client certificates and SASL: every client of the package through each, and what refusals say."""

import gc
import logging
import re
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from kafka.admin import ACLOperation

from beam_unified import (
    Archive,
    ArchiveUnavailableError,
    Kafka,
    KafkaCommitTopic,
    KafkaRecord,
    KafkaSecurityError,
    KafkaSyncTopic,
    KafkaTimestamp,
    ReadUnified,
    Secret,
    Stop,
    TopicPartition,
    UnknownTopicError,
    WriteKafka,
)
from beam_unified.archive.writer import write_flush
from beam_unified.kafka.messages import MessageBatch
from beam_unified.kafka.producers import WRITERS, KafkaWriter, WriteSettings
from beam_unified.kafka.writing import TopicWriter
from beam_unified.stores import Fetched
from integration import leaks
from integration.secure_ways import WAYS, kafka_by, new_topic, secrets_of, settings, token, values_in
from integration.services.secure_kafka import USER, SecureKafka
from tests.contracts.coordinator import read, read_until, report

# kafka-python 3.0.12 drops the socket of a refused connection instead of closing it (looked at 2026-11).
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")


@pytest.fixture
def secrets(secure_kafka: SecureKafka, monkeypatch) -> dict[str, str]:
    """Every secret by the environment variable that holds it."""
    found = secrets_of(secure_kafka)
    for name, secret in found.items():
        monkeypatch.setenv(name, secret)
    return found


@pytest.fixture(autouse=True)
def _nothing_left():
    """The client's warnings about itself come where they are expected."""
    yield
    WRITERS.close_all()
    gc.collect()


@pytest.mark.parametrize("way", WAYS)
def test_every_way_reads_and_writes(secure_kafka, secrets, way):
    """From one topic to another, both ends through the listener, secrets looked up by the worker."""
    values = (b"0", b"1", b"2")
    source, sink = new_topic(secure_kafka, values), new_topic(secure_kafka)
    kafka = kafka_by(secure_kafka, way)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        records = pipeline | ReadUnified(
            source, kafka, None, timestamp_fn=KafkaTimestamp(), output="record", stop=Stop.offsets({0: 3})
        )
        _ = records | WriteKafka(sink, kafka)
    assert values_in(secure_kafka, sink) == list(values)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_synchronises_and_announces(secure_kafka, secrets, way):
    """The sync topic and the topic of commits, both created through the listener."""
    kafka, group = kafka_by(secure_kafka, way), f"group-{uuid.uuid4().hex[:8]}"
    coordinator = KafkaSyncTopic(kafka=kafka).connect(group, "run")
    coordinator.publish(report(0, 1, 2))
    assert [logged.entry.position for logged in read(coordinator, 1)] == [2]
    coordinator.close()
    topic = f"commits-{uuid.uuid4().hex[:8]}"
    writer = TopicWriter(kafka, topic, config={"cleanup.policy": "compact"}, replication_factor=None)
    writer.write(b"key", b"value")
    writer.close()
    assert values_in(secure_kafka, topic) == [b"value"]


@pytest.mark.rule("B4")
@pytest.mark.parametrize("way", WAYS)
def test_every_way_for_the_other_client(secure_kafka, secrets, way, caplog, capfd):
    """librdkafka, from the same settings, while kafka-python answers the questions. B4: it says no secret anywhere."""
    caplog.set_level(logging.DEBUG)
    topic, kafka = new_topic(secure_kafka, (b"0",)), replace(kafka_by(secure_kafka, way), client="confluent")
    log, found = kafka.connect(), list[bytes | None]()
    for _ in range(40):
        if not found:
            fetched = log.fetch(TopicPartition(topic, 0), 0, max_records=10, timeout_ms=500)
            assert isinstance(fetched, Fetched)
            found = [] if fetched.batch is None else list(fetched.batch.values())
            by_librdkafka = isinstance(fetched.batch, MessageBatch)
    log.close()
    assert found == [b"0"]
    assert by_librdkafka
    said = capfd.readouterr()
    shown = {"log": caplog.text, "output": said.out + said.err, "repr": f"{kafka!r} {log!r}"}
    assert leaks.found(secrets, shown) == []


PAGE = Path(__file__).parent.parent / "docs" / "security.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("number", "way"), list(enumerate(["TLS", "MTLS", "SCRAM", "OAUTH"])))
def test_the_examples_of_the_page(secure_kafka, secrets, monkeypatch, number, way):
    """As they stand there, but for host, paths and the names of variables."""
    assert len(SNIPPETS) == 5
    for name, secret in {"CLIENT_KEY": "KEY", "KEY_PASSWORD": "KEY_PASSWORD", "PASSWORD": "SCRAM_PASSWORD"}.items():
        monkeypatch.setenv(f"KAFKA_{name}", secrets[secret])
    text = SNIPPETS[number].replace("broker:9093", secure_kafka.listeners[way])
    text = text.replace("/etc/kafka/ca.pem", str(secure_kafka.pem("authority")))
    text = text.replace("/etc/kafka/client-certificate.pem", str(secure_kafka.pem("client-certificate")))
    scope: dict[str, Any] = {"Kafka": Kafka, "Secret": Secret, "fetch_token": lambda: secrets["TOKEN"]}
    exec(text, scope)
    topic = new_topic(secure_kafka)
    log = scope["kafka"].connect()
    try:
        assert log.partitions(topic) == (0,)
    finally:
        log.close()


def test_the_example_for_msk():
    """It can be built; there is no such cluster here."""
    scope: dict[str, Any] = {"Kafka": Kafka}
    exec(SNIPPETS[4], scope)
    assert str(scope["kafka"].security) == "SASL_SSL with OAUTHBEARER"


def expired() -> str:
    return token(seconds=-3_600)


STRANGER = "{certificates}/stranger.pem"
REFUSALS: dict[str, tuple[str, dict[str, object], str]] = {
    "password of PLAIN": ("PLAIN", {"sasl_plain_password": "wrong"}, r"PLAIN: they refuse the credentials: check sasl_pl"),
    "password of SCRAM": (
        "SCRAM", {"sasl_plain_password": Secret.env("PLAIN_PASSWORD")},
        r"SCRAM-SHA-512: they refuse the credentials: check .*sasl_plain_password \(environment variable PLAIN_PASSWORD\)",
    ),
    "user of SCRAM": ("SCRAM", {"sasl_plain_username": "bob"}, r"SASL_SSL with SCRAM-SHA-512: they refuse the credentials"),
    "token": (
        "OAUTH", {"sasl_oauth_token_provider": Secret.call(expired)},
        r"OAUTHBEARER: they refuse the credentials: check what sasl_oauth_token_provider \(function expired\) gives",
    ),
    "mechanism": ("PLAIN", {"sasl_mechanism": "SCRAM-SHA-512"}, r"SCRAM-SHA-512: the listener does not offer this mech"),
    "authority": (
        "TLS", {"ssl_cafile": "{certificates}/other-authority.pem"},
        r"SSL: their certificate is not signed by an authority .* \(now: .*/other-authority.pem\)",
    ),
    "authority of the system": ("SCRAM", {"ssl_cafile": None}, r"not signed by an authority .*\(now: the system's\)"),
    "host name": ("ELSEWHERE", {}, r"SSL: their certificate is for another host name: use its name"),
    "no client certificate": (
        "MTLS", {"ssl_certfile": None, "ssl_keyfile": None},
        r"SSL: they refuse our certificate, or that there is none: give ssl_certfile .*\(none is given\)",
    ),
    "client certificate of a stranger": (
        "MTLS", {"ssl_certfile": STRANGER, "ssl_keyfile": None, "ssl_password": None},
        r"they refuse our certificate.*\(ours: .*/stranger.pem\)",
    ),
}  # fmt: skip


def refused_by(broker: SecureKafka, listener: str, changes: dict[str, object]) -> Kafka:
    """A `Kafka` with something wrong."""
    certificates = broker.pem("authority").parent
    changed = {
        name: value.format(certificates=certificates) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    config = {**settings(broker, "TLS" if listener == "ELSEWHERE" else listener), **changed}
    return Kafka(broker.listeners[listener], {name: value for name, value in config.items() if value is not None})


@pytest.mark.rule("B2", "B4")
@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_say_where_what_and_what_to_do(secure_kafka, secrets, case, caplog):
    """B2: the reader, the writer, the sync topic and the topic of commits each give up at the first refusal."""
    listener, changes, message = REFUSALS[case]
    kafka = refused_by(secure_kafka, listener, changes)
    write = WriteSettings(kafka=kafka, config={}, partitioner=None, max_in_flight_bytes=1)
    commits = KafkaCommitTopic(kafka=kafka, topic="commits")
    caplog.set_level(logging.INFO)
    for refused in (kafka.connect, lambda: KafkaWriter(write), commits.connect, lambda: drained(kafka)):
        caplog.clear()
        with pytest.raises(
            KafkaSecurityError, match=f"could not .*: {secure_kafka.listeners[listener]} over .*{message}"
        ):
            refused()
        assert caplog.text.count("Initializing connection for node_id") == 1


def drained(kafka: Kafka) -> None:
    """What the reports of others would be."""
    coordinator = KafkaSyncTopic(kafka=kafka).connect("group", "run")
    try:
        read_until(coordinator, lambda _: False)
    finally:
        coordinator.close()


@pytest.mark.rule("B2")
def test_a_refusal_by_the_brokers_behind_the_first(secure_kafka):
    """B2: the name that is given is in the certificate, the advertised one is not: every client says so, not "timeout"."""
    port = secure_kafka.listeners["ELSEWHERE"].partition(":")[2]
    kafka = Kafka(f"localhost:{port}", settings(secure_kafka, "TLS"))
    message = (
        "their certificate is for another host name: use its name in bootstrap_servers and the brokers' advertised"
    )
    log = kafka.connect()
    try:
        with pytest.raises(KafkaSecurityError, match=message):
            log.partitions("pins")
    finally:
        log.close()
    with pytest.raises(KafkaSecurityError, match=message):
        drained(kafka)
    config = {"delivery_timeout_ms": 3_000, "request_timeout_ms": 2_000, "max_block_ms": 2_000}
    writer = KafkaWriter(WriteSettings(kafka=kafka, config=config, partitioner=None, max_in_flight_bytes=1))
    with pytest.raises(KafkaSecurityError, match=message):
        writer.write(new_topic(secure_kafka), KafkaRecord(b"1"))
    writer.close()


@pytest.mark.rule("B2")
def test_a_secret_that_is_not_there_is_said_by_every_client(secure_kafka):
    """B2: also where it is needed in the background only, as tokens are."""
    for way in ("MTLS", "SCRAM", "OAUTH"):
        with pytest.raises(Exception, match="no secret from environment variable"):
            drained(kafka_by(secure_kafka, way))


@pytest.mark.rule("B2", "B4")
def test_refusals_end_pipelines(secure_kafka, secrets):
    """B2: when the pipeline is built; and without that check, when it runs, with the same text."""
    topic = new_topic(secure_kafka, (b"0",))
    kafka = kafka_by(secure_kafka, "SCRAM", sasl_plain_password="wrong")
    options: Any = {"timestamp_fn": KafkaTimestamp(), "stop": Stop.offsets({0: 1})}
    message = "over SASL_SSL with SCRAM-SHA-512: they refuse the credentials"
    with pytest.raises(KafkaSecurityError, match=message):
        _ = beam.Pipeline(runner=FnApiRunner()) | ReadUnified(topic, kafka, None, **options)
    with pytest.raises(KafkaSecurityError, match=message):
        _ = beam.Pipeline(runner=FnApiRunner()) | beam.Create([(b"k", b"v")]) | WriteKafka(topic, kafka)
    reading, writing = beam.Pipeline(runner=FnApiRunner()), beam.Pipeline(runner=FnApiRunner())
    _ = reading | ReadUnified(topic, kafka, None, validate=False, **options)
    _ = writing | beam.Create([(b"k", b"v")]) | WriteKafka(topic, kafka, validate=False)
    for pipeline in (reading, writing):
        with pytest.raises(Exception, match=message):
            pipeline.run()


@pytest.mark.rule("B2")
def test_missing_permissions(secure_kafka, secrets):
    """B2: what may be seen and not read, what may be read and not written; and a topic that may not be seen is not there."""
    kafka = kafka_by(secure_kafka, "SCRAM")
    seen, read_only, unseen = (new_topic(secure_kafka, (b"0",)) for _ in range(3))
    secure_kafka.restrict(seen, f"User:{USER}", ACLOperation.DESCRIBE)
    secure_kafka.restrict(read_only, f"User:{USER}", ACLOperation.READ)
    secure_kafka.restrict(unseen, "User:nobody", ACLOperation.READ)
    log = kafka.connect()
    try:
        with pytest.raises(UnknownTopicError, match=f"{unseen}.*or these credentials may not see it"):
            log.partitions(unseen)
        assert log.partitions(seen) == (0,)
        with pytest.raises(KafkaSecurityError, match=rf"could not fetch {seen}\[0\].*lack a permission: grant Read"):
            fetch_for_a_while(log, TopicPartition(seen, 0), 0)
    finally:
        log.close()
    writer = KafkaWriter(WriteSettings(kafka=kafka, config={}, partitioner=None, max_in_flight_bytes=1))
    with pytest.raises(KafkaSecurityError, match=rf"could not write to {read_only}\[0\].*grant .*Write and Describe"):
        writer.write(read_only, KafkaRecord(b"1"))
    writer.close()
    coordinator = KafkaSyncTopic(kafka=kafka, topic=read_only).connect("group", "run")
    coordinator.publish(report(0, 1, 1))
    with pytest.raises(
        KafkaSecurityError, match=f"write to topic '{read_only}' of sync group 'group'.*lack a permission"
    ):
        read_until(coordinator, lambda _: False)
    coordinator.close()


def fetch_for_a_while(log, tp, offset) -> None:
    """As a reader at the end does."""
    for _ in range(20):
        log.fetch(tp, offset, max_records=1, timeout_ms=500)


@pytest.mark.rule("B2", "B4")
def test_rotation(secure_kafka, secrets, tmp_path):
    """A password that changes: connections go on; a new one looks it up anew; one that is lost, with the old one, is refused."""
    password = tmp_path / "password"
    password.write_text(secure_kafka.scram_password)
    kafka = kafka_by(secure_kafka, "SCRAM", sasl_plain_password=Secret.file(str(password)))
    tp = TopicPartition(new_topic(secure_kafka, (b"0",)), 0)
    old: Any = kafka.connect()
    try:
        assert old.bounds(tp).stop == 1
        secure_kafka.change_password("another-one")
        assert old.bounds(tp).stop == 1
        with pytest.raises(KafkaSecurityError, match="they refuse the credentials"):
            kafka.connect()
        password.write_text("another-one")
        new = kafka.connect()
        assert new.bounds(tp).stop == 1
        new.close()
        old._client.close(1)  # as the broker would
        with pytest.raises(KafkaSecurityError, match=r"they refuse the credentials: .*\(file .*/password\)"):
            fetch_for_a_while(old, tp, 1)
    finally:
        secure_kafka.change_password(secure_kafka.scram_password)
        old.close()


@pytest.mark.rule("B4")
def test_a_secret_of_the_archives_storage(object_store, monkeypatch):
    """B4: looked up for a real connection to S3; a wrong one is refused without being shown."""
    options = {**object_store.storage_options, "secret": Secret.env("S3_SECRET")}
    archive = Archive(f"s3://{object_store.make_bucket('secrets')}/merced", options)
    tp = TopicPartition("pins", 0)
    monkeypatch.setenv("S3_SECRET", object_store.secret_key)
    write_flush(archive, tp, [], start=0, stop=5)
    assert archive.connect().index(tp).stop == 5
    wrong = uuid.uuid4().hex
    monkeypatch.setenv("S3_SECRET", wrong)
    with pytest.raises(ArchiveUnavailableError, match=r"Check the .*credentials") as caught:
        archive.connect().index(tp)
    assert wrong not in f"{caught.value} {caught.value.__cause__} {archive!r}"
