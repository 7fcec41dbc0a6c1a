"""Pipelines in Beam YAML, with this package's providers, on DirectRunner over a real broker and a real S3 server."""

import json
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.yaml import yaml_transform
from kafka import KafkaProducer

import beam_unified.yaml
from beam_unified import Archive, TopicPartition
from beam_unified.kafka.client import Kafka
from beam_unified.records import Record
from beam_unified.stores import Fetched
from integration.services.kafka import KafkaBroker
from integration.services.object_store import ObjectStore
from integration.unlimited_log import Scenario

PARTITIONS, ARCHIVED, IN_KAFKA = 2, 300, 100
PROVIDERS = Path(beam_unified.yaml.__file__).with_name("providers.yaml")


@pytest.fixture(scope="module")
def archive(object_store: ObjectStore) -> Archive:
    return Archive(f"s3://{object_store.make_bucket('yaml')}/merced", object_store.storage_options)


@pytest.fixture
def scenario(kafka: KafkaBroker, archive: Archive) -> Scenario:
    """The first part in the archive only, the last in Kafka only."""
    made = Scenario(kafka, archive, partitions=PARTITIONS)
    made.produce(ARCHIVED)
    made.archive_and_expire(flushes=2)
    made.produce(IN_KAFKA)
    return made


def run(text: str, scenario: Scenario, **names: str) -> None:
    """Runs a pipeline file. Names in angle brackets are replaced."""
    names |= {
        "topic": scenario.topic,
        "servers": scenario.broker.bootstrap_servers,
        "archive": scenario.archive.root,
        "options": json.dumps(dict(scenario.archive.storage_options)),
    }
    for name, value in names.items():
        text = text.replace(f"<{name}>", value)
    text += f"\nproviders:\n  - include: {PROVIDERS}\n"
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(pickle_library="cloudpickle")) as pipeline:
        yaml_transform.expand_pipeline(pipeline, text)


def records(broker: KafkaBroker, topic: str) -> list[Record]:
    """Everything in partition 0 of a topic."""
    log, tp, found = Kafka(broker.bootstrap_servers).connect(), TopicPartition(topic, 0), list[Record]()
    offset, stop = 0, log.bounds(tp).stop
    while offset < stop:
        fetched = log.fetch(tp, offset, max_records=10_000, timeout_ms=500)
        assert isinstance(fetched, Fetched)
        found += [] if fetched.batch is None else fetched.batch.records()
        offset = fetched.next_offset
    log.close()
    return found


def values(broker: KafkaBroker, topic: str) -> list[bytes]:
    """Their values."""
    return [one.value or b"" for one in records(broker, topic)]


FILTERED = """
pipeline:
  transforms:
    - type: ReadUnified
      name: Read
      config:
        topic: <topic>
        bootstrap_servers: <servers>
        archive: <archive>
        storage_options: <options>
        stop: now
        format: JSON
        schema: {type: object, properties: {n: {type: integer}, time: {type: integer}}, required: [n, time]}
        timestamp_field: time
        max_out_of_orderness: 5s
        error_handling: {output: bad}
    - type: Filter
      input: Read
      config: {language: python, keep: "n % 4 == 0"}
    - type: MapToFields
      input: Filter
      config: {language: python, fields: {number: n, label: {callable: "lambda row: f'n{row.n}'"}}}
    - type: WriteKafka
      input: MapToFields
      config: {topic: <good>, bootstrap_servers: <servers>, key_field: label}
    - type: MapToFields
      name: Reasons
      input: Read.bad
      config: {language: python, fields: {reason: {callable: "lambda row: f'{row.element.topic} {row.element.offset}: {row.msg}'"}}}
    - type: WriteKafka
      name: WriteBad
      input: Reasons
      config: {topic: <bad>, bootstrap_servers: <servers>, format: STRING}
"""


@pytest.mark.rule("R1")
@pytest.mark.rule("B1")
def test_a_log_is_read_filtered_and_written_by_yaml_alone(scenario: Scenario, kafka: KafkaBroker):
    """Every record of both stores once; one that cannot be decoded is the second output, with its coordinates."""
    good, bad = (kafka.create_topic(f"{scenario.topic}-{name}", 1) for name in ("good", "bad"))
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for partition, value in enumerate([b"no json", b'{"n": "four", "time": 1}']):
        producer.send(scenario.topic, value, partition=partition)
    producer.close()
    run(FILTERED, scenario, good=good, bad=bad)
    written = records(kafka, good)
    wanted = [n for n in range(ARCHIVED + IN_KAFKA) if n % 4 == 0 for _ in range(PARTITIONS)]
    assert sorted(json.loads(one.value or b"")["number"] for one in written) == wanted
    assert all(one.key == b"n%d" % json.loads(one.value or b"")["number"] for one in written)
    reasons = sorted((one.value or b"").decode() for one in records(kafka, bad))
    assert len(reasons) == 2
    assert all(reason.startswith(f"{scenario.topic} {ARCHIVED + IN_KAFKA}: ") for reason in reasons)


COUNTED = """
pipeline:
  type: chain
  transforms:
    - type: ReadUnified
      config:
        topic: <topic>
        bootstrap_servers: <servers>
        archive: <archive>
        storage_options: <options>
        start: <start>
        stop: <stop>
        output: record
        ordered: false
        timestamp_field: time
    - type: MapToFields
      config: {language: python, fields: {partition: partition, offset: offset, store: store}}
    - type: WriteKafka
      config: {topic: <out>, bootstrap_servers: <servers>}
"""


@pytest.mark.rule("R7")
def test_raw_records_are_rows_with_their_place_in_the_log(scenario: Scenario, kafka: KafkaBroker):
    """From an offset of each partition to another, over both stores."""
    out = kafka.create_topic(f"{scenario.topic}-out", 1)
    run(COUNTED, scenario, out=out, start="0:250,1:0", stop="0:350,1:10")
    found = sorted((row["partition"], row["offset"], row["store"]) for row in map(json.loads, values(kafka, out)))
    assert found == [
        *((0, offset, "archive" if offset < ARCHIVED else "kafka") for offset in range(250, 350)),
        *((1, offset, "archive") for offset in range(10)),
    ]


ARCHIVED_BY_YAML = """
pipeline:
  type: chain
  transforms:
    - type: ArchiveTopic
      config:
        topic: <topic>
        bootstrap_servers: <servers>
        archive: <archive>
        storage_options: <options>
        stop: now
        flush_records: 40
    - type: WriteKafka
      config: {topic: <out>, bootstrap_servers: <servers>}
"""


@pytest.mark.rule("A2")
def test_a_topic_is_archived_by_yaml_alone(scenario: Scenario, kafka: KafkaBroker):
    """The archive goes on where its commits ended; a row a flush."""
    out = kafka.create_topic(f"{scenario.topic}-flushes", 1)
    run(ARCHIVED_BY_YAML, scenario, out=out)
    rows = [json.loads(value) for value in values(kafka, out)]
    end = ARCHIVED + IN_KAFKA
    assert sorted((row["partition"], row["start"], row["stop"]) for row in rows if row["start"] >= ARCHIVED) == [
        (partition, start, min(start + 40, end))
        for partition in range(PARTITIONS)
        for start in range(ARCHIVED, end, 40)
    ]
    for partition in range(PARTITIONS):
        assert scenario.archive.connect().index(TopicPartition(scenario.topic, partition)).stop == end
