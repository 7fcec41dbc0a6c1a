"""Every decoder by itself: bytes to values, and what cannot be decoded."""

import io
import json
import pickle
from dataclasses import dataclass
from typing import Any, NamedTuple

import fastavro
import msgspec
import pydantic
import pytest
from google.protobuf import descriptor_pb2

from beam_unified import BadRecordError, Bytes, ConfigError, Decoder, Json, Nullable, Text
from beam_unified.decoding.avro import Avro
from beam_unified.decoding.confluent import ConfluentAvro, SchemaRegistry
from beam_unified.decoding.json_schema import JsonSchema
from beam_unified.decoding.protobuf import Protobuf
from beam_unified.records import ListBatch, Record, Store


class NamedPin(NamedTuple):
    id: int
    title: str = "untitled"


@dataclass
class DataPin:
    id: int
    title: str = "untitled"


class StructPin(msgspec.Struct):
    id: int
    title: str = "untitled"


class ModelPin(pydantic.BaseModel):
    id: int
    title: str = "untitled"


OLD = {"type": "record", "name": "Pin", "fields": [{"name": "id", "type": "int"}]}
NEW = {
    "type": "record",
    "name": "Pin",
    "fields": [{"name": "id", "type": "long"}, {"name": "title", "type": "string", "default": "untitled"}],
}
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}


def descriptors():
    file = descriptor_pb2.FileDescriptorProto(name="pin.proto", package="pins", syntax="proto3")
    message = file.message_type.add(name="Pin")
    message.field.add(name="id", number=1, type=3, label=1)
    message.field.add(name="title", number=2, type=9, label=1)
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def batch(*values):
    return ListBatch([Record(None, v, (), "pins", 0, i, 1, None, "kafka") for i, v in enumerate(values)], Store.KAFKA)


def decode(decoder, *values):
    return list(pickle.loads(pickle.dumps(decoder)).open()(batch(*values)))


def avro(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


GOOD = [
    (Bytes(), b"\xff", b"\xff"),
    (Text(), "ü".encode(), "ü"),
    (Text("latin-1"), b"\xfc", "ü"),
    (Json(), b'{"a": [1, null]}', {"a": [1, None]}),
    (Json(list[int]), b"[1, 2]", [1, 2]),
    *((Json(kind), b'{"id": 7, "other": []}', kind(id=7)) for kind in (NamedPin, DataPin, StructPin, ModelPin)),
    *(
        (Json(kind), b'{"id": 7, "title": "x"}', kind(id=7, title="x"))
        for kind in (NamedPin, DataPin, StructPin, ModelPin)
    ),
    (Avro(OLD, NEW), avro(OLD, {"id": 7}), {"id": 7, "title": "untitled"}),
    (Avro(json.dumps(NEW), target=NamedPin), avro(NEW, {"id": 7, "title": "x"}), NamedPin(7, "x")),
    (JsonSchema(SCHEMA), b'{"id": 7}', {"id": 7}),
]
BAD = [
    (Text(), b"\xff"),
    (Json(), b"[]"),
    (Json(), b'{"a": '),
    *(
        (Json(kind), value)
        for kind in (NamedPin, DataPin, StructPin, ModelPin)
        for value in (b"{}", b'{"id": "x"}', b"")
    ),
    (Avro(OLD), b""),
    (Avro(OLD), avro(OLD, {"id": 7}) + b"more"),
    (Protobuf("pins.Pin", descriptors()), b"\xff\xff"),
    (JsonSchema(SCHEMA), b'{"id": "x"}'),
]
ALL = [*dict.fromkeys(type(decoder) for decoder, *_ in (*GOOD, *BAD))]


@pytest.mark.parametrize(("decoder", "value", "expected"), GOOD, ids=lambda value: type(value).__name__)
def test_values_are_decoded(decoder, value, expected):
    """A pickled decoder gives the value, of the right type, in the right place."""
    found = decode(decoder, value, value)
    assert found == [expected, expected]
    assert type(found[0]) is type(expected)
    assert isinstance(decoder, Decoder)


def pin_of(id, title="untitled"):  # noqa: A002 - the field's name
    return (id, title)


@pytest.mark.parametrize(
    "make", [Avro, lambda _, target=None: ConfluentAvro(SchemaRegistry("http://x"), target=target)]
)
def test_a_target_may_be_a_function(make):
    """What it gives has no type that is known, and the output's is Any; Beam would take the function for a type."""
    assert make(NEW, target=pin_of).element_type is Any
    assert make(NEW, target=NamedPin).element_type is NamedPin
    assert make(NEW).element_type == dict[str, Any]
    assert decode(Avro(NEW, target=pin_of), avro(NEW, {"id": 7, "title": "x"})) == [(7, "x")]


def test_protobuf_from_descriptors_is_read():
    """A message by its name in a descriptor set, without generated code."""
    (pin,) = decode(Protobuf("pins.Pin", descriptors()), b"\x08\x07\x12\x01x")
    assert (pin.id, pin.title) == (7, "x")


def test_protobuf_by_class():
    """A generated class."""
    kind = descriptor_pb2.FileDescriptorSet
    assert decode(Protobuf(kind), descriptors())[0].file[0].package == "pins"
    assert Protobuf(kind).element_type is kind


@pytest.mark.rule("B1")
@pytest.mark.parametrize(("decoder", "value"), BAD)
def test_what_cannot_be_decoded_is_an_error(decoder, value):
    """No decoder guesses, or gives something half."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the library raises; the reader names it
        decode(decoder, value)
    assert not isinstance(caught.value, ConfigError)


@pytest.mark.rule("B1")
@pytest.mark.parametrize("decoder", [decoder for decoder, *_ in GOOD], ids=lambda value: type(value).__name__)
def test_tombstones(decoder):
    """A tombstone is bad, unless the decoder is Nullable, which gives None in its place."""
    with pytest.raises(BadRecordError, match="tombstone"):
        decode(decoder, None)
    good = next(value for other, value, _ in GOOD if other == decoder)
    (expected,) = decode(decoder, good)
    assert decode(Nullable(decoder), None, good, None) == [None, expected, None]
    assert decode(Nullable(decoder), None) == [None]


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Json(3), "Json cannot make 3"),
        (lambda: Avro("{"), "writer_schema is no Avro schema"),
        (lambda: Avro(OLD, {"type": "nonsense"}), "reader_schema is no Avro schema"),
        (lambda: Protobuf("pins.Pin"), "generated message class"),
        (lambda: Protobuf("pins.Pan", descriptors()), "no message 'pins.Pan'"),
        (lambda: JsonSchema({"type": 5}), "not a JSON Schema"),
    ],
)
def test_a_decoder_that_cannot_work_fails_when_built(make, match):
    """B2: on the machine that builds the pipeline."""
    with pytest.raises(ConfigError, match=match):
        make()
