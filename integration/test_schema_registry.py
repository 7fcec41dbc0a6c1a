"""Decoders against a real schema registry: schemas that change in mid-topic, old files and new records alike."""

import json
import uuid
from datetime import timedelta
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2
from kafka import KafkaProducer

from beam_unified import Archive, Field, Kafka, ReadUnified, Secret, Stop, StoreError, TopicPartition
from beam_unified.archive.writer import write_flush
from beam_unified.decoding.confluent import ConfluentAvro, ConfluentJson, ConfluentProtobuf, SchemaRegistry
from beam_unified.decoding.protobuf import message_class
from beam_unified.records import ListBatch, Record, Store

OLD = json.dumps(
    {"type": "record", "name": "Pin", "fields": [{"name": "id", "type": "int"}, {"name": "at", "type": "long"}]}
)
NEW = json.dumps(
    {
        "type": "record",
        "name": "Pin",
        "fields": [
            {"name": "at", "type": "long"},
            {"name": "id", "type": "long"},
            {"name": "title", "type": "string", "default": "untitled"},
        ],
    }
)


class Pin(NamedTuple):
    id: int
    at: int
    title: str


def framed(serializer, topic, value):
    return serializer(value, SerializationContext(topic, MessageField.VALUE))


def one(topic, value):
    return ListBatch([Record(None, value, (), topic, 0, 0, 1, None, "kafka")], Store.KAFKA)


@pytest.mark.rule("B1")
def test_avro_evolves_in_mid_topic(kafka, registry, tmp_path):
    """Old records from the archive and new ones from Kafka come out by one reader schema; what is framed wrongly is set apart."""
    topic = kafka.create_topic(f"avro-{uuid.uuid4().hex[:8]}")
    client = SchemaRegistryClient({"url": registry.url})
    old, new = AvroSerializer(client, OLD), AvroSerializer(client, NEW)
    values = [framed(old, topic, {"id": i, "at": 1_000 * i}) for i in range(10)]
    values += [framed(new, topic, {"id": i, "at": 1_000 * i, "title": f"pin {i}"}) for i in range(10, 20)]
    values += [b"not framed", b"\0\x7f\xff\xff\xff" + values[0][5:]]
    client.close()
    assert values[0][:5] != values[10][:5]  # two schema ids
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for value in values:
        producer.send(topic, value, partition=0)
    producer.close()
    source, tp, archive = Kafka(kafka.bootstrap_servers), TopicPartition(topic, 0), Archive(tmp_path.as_posix())
    log: Any = source.connect()
    records: list[Record] = []
    while len(records) < 12:
        fetched = log.fetch(tp, len(records), max_records=12 - len(records), timeout_ms=500)
        records += fetched.batch.records() if fetched.batch else []
    log.close()
    write_flush(archive, tp, records, start=0, stop=12)
    kafka.delete_records(topic, {0: 12})

    with beam.Pipeline(runner=FnApiRunner()) as p:
        pins, letters = p | ReadUnified(
            topic,
            source,
            archive,
            decoder=ConfluentAvro(SchemaRegistry(registry.url), NEW, Pin),
            timestamp_fn=Field("at", unit="ms"),
            max_out_of_orderness=timedelta(seconds=1),
            stop=Stop.offsets({0: len(values)}),
            dead_letters=True,
        )
        expected = [Pin(i, 1_000 * i, "untitled" if i < 10 else f"pin {i}") for i in range(20)]
        assert_that(pins, equal_to(expected))
        assert_that(
            letters | beam.Map(lambda d: (d.offset, d.reason)), equal_to([(20, "decoding"), (21, "decoding")]), "bad"
        )


def test_json_schema_and_protobuf(registry):
    """The other two formats, framed by Confluent's own serializers."""
    client, where = SchemaRegistryClient({"url": registry.url}), SchemaRegistry(registry.url)
    schema = json.dumps(
        {"title": "Pin", "type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
    )
    value = framed(JSONSerializer(schema, client), "pins-json", {"id": 7})
    assert ConfluentJson(where, schema).open()(one("pins-json", value)) == [{"id": 7}]
    with pytest.raises(Exception, match="id"):
        ConfluentJson(where, schema).open()(one("pins-json", value[:5] + b"{}"))
    kind = message_class("pins.Pin", DESCRIPTORS)
    value = framed(ProtobufSerializer(kind, client, {"use.deprecated.format": False}), "pins-pb", kind(id=7))
    assert [found.id for found in ConfluentProtobuf(where, "pins.Pin", DESCRIPTORS).open()(one("pins-pb", value))] == [
        7
    ]
    client.close()


def _descriptors():
    file = descriptor_pb2.FileDescriptorProto(name="pin.proto", package="pins", syntax="proto3")
    file.message_type.add(name="Pin").field.add(name="id", number=1, type=3, label=1)
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


DESCRIPTORS = _descriptors()


@pytest.mark.rule("B1", "B4")
def test_a_registry_that_is_away_makes_no_dead_letters():
    """It is an error of the store, which the runner tries again; and it shows no secret."""
    secret = SchemaRegistry("http://127.0.0.1:1", {"basic.auth.user.info": Secret.call(user_info), "max.retries": 0})
    assert "hunter2" not in repr(secret)
    with pytest.raises(
        StoreError, match=r"no schema from the registry http://127\.0\.0\.1:1 for schema id 1 of pins"
    ) as caught:
        ConfluentAvro(secret).open()(one("pins", b"\0\0\0\0\x01\x02\x02"))
    assert "hunter2" not in str(caught.value)


def user_info():
    return "someone:hunter2"
