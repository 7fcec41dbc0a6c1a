"""Formats by name, with Beam's own words and schemas: bytes of a value to rows, and back.

| format   | `schema`       | rows                                            |
| -------- | -------------- | ----------------------------------------------- |
| `RAW`    | none           | `payload`: bytes, null for a tombstone          |
| `STRING` | none           | `payload`: text                                 |
| `JSON`   | a JSON Schema  | a field a property; checked against the schema  |
| `AVRO`   | an Avro schema | a field a field; bare Avro, without a registry  |
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import fastavro
from apache_beam.io import avroio
from apache_beam.portability.api import schema_pb2
from apache_beam.typehints import schemas
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.yaml import json_utils

from beam_unified.decoding.decoder import Decode, Decoder, each_value
from beam_unified.errors import ConfigError

FORMATS = ("RAW", "STRING", "JSON", "AVRO")

RAW_ROW = RowTypeConstraint.from_fields([("payload", bytes | None)])


@dataclass(frozen=True, slots=True)
class RowFormat:
    """A decoder of values to rows. Holds the schema as text, so that it can be hashed and pickled.

    Raises:
        ConfigError: an unknown format, or a schema that is missing, superfluous or wrong.
    """

    name: str
    schema: str = ""

    @classmethod
    def named(cls, name: str, schema: Any) -> "RowFormat":
        """Of a name in any case, and a schema as text or parsed."""
        upper = name.upper()
        if upper not in FORMATS:
            raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {name!r}.")
        if (schema is None) is (upper in {"JSON", "AVRO"}):
            raise ConfigError(f"format {upper} {'needs a' if schema is None else 'takes no'} schema.")
        made = cls(upper, "" if schema is None else schema if isinstance(schema, str) else json.dumps(schema))
        try:
            made._parts()
        except Exception as error:
            raise ConfigError(f"not a schema for format {upper} ({type(error).__name__}: {error}).") from error
        return made

    @property
    def element_type(self) -> Any:
        """The rows, for Beam."""
        return schemas.named_tuple_from_schema(self._parts()[0])

    def open(self) -> Decode:
        """See `Decoder`."""
        return each_value(self._parts()[1])

    def _parts(self) -> tuple[schema_pb2.Schema, Callable[[bytes], Any]]:
        if self.name == "STRING":
            fields = [schemas.schema_field("payload", str)]
            return schema_pb2.Schema(fields=fields), lambda value: beam.Row(payload=value.decode())
        schema = json.loads(self.schema)
        if self.name == "JSON":
            beam_schema = json_utils.json_schema_to_beam_schema(schema)
            return beam_schema, json_utils.json_parser(beam_schema, schema)
        beam_schema = avroio.avro_schema_to_beam_schema(schema)
        to_row, parsed = avroio.avro_dict_to_beam_row(schema, beam_schema), fastavro.parse_schema(schema)
        return beam_schema, lambda value: to_row(fastavro.schemaless_reader(io.BytesIO(value), parsed, None))


def decoder_of(name: str, schema: Any) -> Decoder | None:
    """The decoder of a format; None for RAW, which has nothing to decode. Raises ConfigError."""
    if name.upper() == "RAW":
        if schema is not None:
            raise ConfigError("format RAW takes no schema.")
        return None
    return RowFormat.named(name, schema)


def formatter_of(name: str, element_type: Any) -> Callable[[Any], bytes | None]:
    """Rows of a type to bytes.

    Raises:
        ConfigError: an unknown format, or rows that it cannot write.
    """
    try:
        schema: schema_pb2.Schema = schemas.schema_from_element_type(element_type)
    except TypeError:
        raise ConfigError(f"WriteKafka writes rows of a schema, got {element_type}: map to fields first.") from None
    match name.upper():
        case "RAW" | "STRING":
            names = [field.name for field in schema.fields]
            if len(names) != 1:
                raise ConfigError(f"format {name.upper()} writes rows of one field, these have {', '.join(names)}.")
            return _OneField(names[0])
        case "JSON":
            made: Callable[[Any], bytes] = json_utils.json_formater(schema)
            return made
        case "AVRO":
            return _avro(schema)
        case _:
            raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {name!r}.")


@dataclass(frozen=True, slots=True)
class _OneField:
    name: str

    def __call__(self, row: Any) -> bytes | None:
        value: bytes | str | None = getattr(row, self.name)
        return value.encode() if isinstance(value, str) else value


def _avro(schema: schema_pb2.Schema) -> Callable[[Any], bytes]:
    avro_schema: Mapping[str, Any] = avroio.beam_schema_to_avro_schema(schema)
    to_dict = avroio.beam_row_to_avro_dict(avro_schema, schema)

    def write(row: Any) -> bytes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, avro_schema, to_dict(row))
        return buffer.getvalue()

    return write
