"""B4: secrets of every mechanism are in no log, repr, display data, pipeline, error or page of a runner."""

import gc
import logging
import traceback
import uuid
from collections.abc import Mapping

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.display import DisplayData

from beam_unified import (
    Archive,
    ArchiveTopic,
    ConfigError,
    Kafka,
    KafkaCommitTopic,
    KafkaSecurityError,
    KafkaSyncTopic,
    KafkaTimestamp,
    RateLimit,
    ReadUnified,
    Secret,
    Stop,
    SyncGroup,
    WriteKafka,
    set_rate_limit,
)
from beam_unified.kafka.producers import WRITERS
from integration.leaks import found
from integration.secure_ways import WAYS, kafka_by, new_topic, secrets_of, values_in
from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.services.secure_kafka import SecureKafka

# kafka-python 3.0.12 drops the socket of a refused connection instead of closing it (looked at 2026-11).
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture
def secrets(secure_kafka: SecureKafka, monkeypatch) -> dict[str, str]:
    """Every secret by the environment variable that holds it; of the key, a line from its middle; and a wrong password."""
    known = {**secrets_of(secure_kafka), "WRONG_PASSWORD": uuid.uuid4().hex}
    for name, secret in known.items():
        monkeypatch.setenv(name, secret)
    return {**known, "KEY": known["KEY"].splitlines()[2]}


@pytest.fixture(autouse=True)
def _nothing_left():
    """The client's warnings about itself come where they are expected."""
    yield
    WRITERS.close_all()
    gc.collect()


def exposed(kafka: Kafka) -> Kafka:
    """The same with the values themselves, but for PEM, which `Kafka` refuses as such."""
    values = {
        name: value.resolve() if isinstance(value, Secret) and "password" in name else value
        for name, value in kafka.config.items()
    }
    if isinstance(token := values.get("sasl_oauth_token_provider"), Secret):
        values["sasl_oauth_token_provider"] = Secret.call(Holds(token.resolve()))
    return Kafka(kafka.bootstrap_servers, values)


class Holds:
    """A function that carries its secret with it."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __call__(self) -> str:
        return self.value


def read_by(kafka: Kafka, topic: str, **options) -> ReadUnified:
    """One record."""
    return ReadUnified(
        topic, kafka, None, timestamp_fn=KafkaTimestamp(), output="record", stop=Stop.offsets({0: 1}), **options
    )


def built(kafkas: list[Kafka], folder: str) -> Mapping[str, str | bytes]:
    """What is shown of a pipeline that uses all of them everywhere, without running it."""
    source, places = "pins", {}
    pipeline, transforms = beam.Pipeline(runner=FnApiRunner()), []
    for number, kafka in enumerate(kafkas):
        sync = SyncGroup(f"group-{number}", topics=[source], coordinator=KafkaSyncTopic(kafka=kafka))
        read = ReadUnified(source, kafka, None, timestamp_fn=KafkaTimestamp(), sync=sync, validate=False)
        commits = KafkaCommitTopic(kafka=kafka, topic="commits")
        archive = ArchiveTopic(source, kafka, Archive(folder), notify=commits, validate=False)
        _ = pipeline | f"Read {number}" >> read
        _ = pipeline | f"Archive {number}" >> archive
        write = WriteKafka(source, kafka, validate=False)
        _ = pipeline | f"Create {number}" >> beam.Create([(b"", b"")]) | f"Write {number}" >> write
        transforms += [read, archive, write]
        places[f"repr {number}"] = f"{kafka!r} {kafka.security!r} {kafka} {kafka.security} {sync!r} {commits!r}"
    places["display data"] = repr([DisplayData.create_from(transform).items for transform in transforms])
    places["reprs"] = repr(transforms)
    return {**places, "pipeline": pipeline.to_runner_api().SerializeToString()}


def make_topics(kafka: Kafka, read: str) -> None:
    """A commit topic and a sync topic that did not exist, by admin clients."""
    KafkaCommitTopic(kafka=kafka, topic=f"commits-{uuid.uuid4().hex[:8]}").connect().close()
    sync = KafkaSyncTopic(kafka=kafka)
    with pytest.raises(ConfigError, match="no reader of such a run has reported"):  # said when the topic is there
        set_rate_limit(sync, read, RateLimit(bytes_per_s=1), group=uuid.uuid4().hex, run_id="run", timeout_s=60)


@pytest.mark.rule("B4")
def test_pipelines_hold_no_secret(secure_kafka, secrets, tmp_path):
    """B4: nor what is shown of them. The same search finds every password and token that is not a `Secret`."""
    kafkas = [kafka_by(secure_kafka, way) for way in WAYS[1:]]  # TLS has no secret
    assert found(secrets, built(kafkas, str(tmp_path))) == []
    hits = found(secrets, built([exposed(kafka) for kafka in kafkas], str(tmp_path)))
    assert {name: f"{name} in pipeline" in hits for name in secrets} == {
        name: name not in {"KEY", "WRONG_PASSWORD"} for name in secrets
    }
    assert {hit.rpartition(" in ")[2] for hit in hits} == {"pipeline"}


@pytest.mark.rule("B4")
@pytest.mark.parametrize("way", WAYS)
def test_logs_and_errors_hold_no_secret(secure_kafka, secrets, way, caplog):
    """B4: of everything that logs, at its most talkative, while a pipeline runs and while connections are refused."""
    source, sink = new_topic(secure_kafka, (b"0",)), new_topic(secure_kafka)
    kafka = kafka_by(secure_kafka, way)
    caplog.set_level(logging.DEBUG)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | read_by(kafka, source) | WriteKafka(sink, kafka)
    make_topics(kafka, source)
    wrong = {
        "ssl_cafile": str(secure_kafka.pem("other-authority")),
        "ssl_keyfile": Secret.env("PLAIN_PASSWORD"),
        "sasl_plain_password": Secret.env("WRONG_PASSWORD"),
        "sasl_oauth_token_provider": Secret.env("WRONG_PASSWORD"),
    }
    errors = []
    for name in kafka.config.keys() & wrong.keys():
        with pytest.raises((KafkaSecurityError, ConfigError)) as caught:
            kafka_by(secure_kafka, way, **{name: wrong[name]}).connect()
        errors += traceback.format_exception(caught.value)
    assert values_in(secure_kafka, sink) == [b"0"]
    assert "kafka.net.connection" in caplog.text
    assert len(errors) > 1
    assert found(secrets, {"log": caplog.text, "errors": "".join(errors)}) == []


@pytest.mark.rule("B4")
def test_flink_shows_no_secret(secure_kafka, secrets, flink: FlinkCluster, caplog):
    """B4: every page about a job that works through all listeners and is refused by one, and the logs of all processes."""
    caplog.set_level(logging.INFO)
    source, sink = new_topic(secure_kafka, (b"0",)), new_topic(secure_kafka)
    options = flink_pipeline_options(flink.job_endpoint, streaming=False, checkpointing_interval=None, parallelism=1)
    pipeline = beam.Pipeline(options=PipelineOptions([*options, "--job_name=secrets"]))
    reads = [pipeline | way >> read_by(kafka_by(secure_kafka, way), source) for way in WAYS[1:]]  # TLS has no secret
    _ = reads | beam.Flatten() | WriteKafka(sink, kafka_by(secure_kafka, "PLAIN"))
    wrong = kafka_by(secure_kafka, "SCRAM", sasl_plain_password=Secret.env("WRONG_PASSWORD"))
    _ = pipeline | "Refused" >> read_by(wrong, source, validate=False)
    pipeline.run()
    job = flink.job_id("secrets")

    def done() -> None:
        assert "over SASL_SSL with SCRAM-SHA-512: they refuse the credentials" in flink.job_exceptions(job)
        assert len(values_in(secure_kafka, sink)) >= len(WAYS[1:])

    flink.run.wait_until("refusal, and records of the others", done, name="flink-job-manager", timeout_s=90)
    flink.cancel(job)
    assert found(secrets, {**pages_of(flink, job), "log of the workers": caplog.text}) == []


def pages_of(flink: FlinkCluster, job: str) -> dict[str, str]:
    """What Flink's REST interface says of a job and itself, and what its processes have logged."""
    paths = ["/jobs/overview", "/config", "/jobmanager/config", "/jobmanager/environment", "/taskmanagers"]
    paths += [f"/jobs/{job}{page}" for page in ("", "/plan", "/config", "/exceptions", "/accumulators")]
    for vertex in flink.get(f"/jobs/{job}")["vertices"]:
        paths += [f"/jobs/{job}/vertices/{vertex['id']}", f"/jobs/{job}/vertices/{vertex['id']}/accumulators"]
    pages = {path: str(flink.get(path)) for path in paths}
    logs = {path.name: path.read_text(errors="replace") for path in flink.run.path("logs").glob("flink-*.log")}
    assert len(logs) >= 3
    return {**pages, **logs}
