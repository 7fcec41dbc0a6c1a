"""Avro without framing: every value is one datum of one writer schema. For Confluent's framing see `confluent`.

fastavro, which Beam brings: 2.9 us a record of five fields (measured).
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import fastavro

from beam_unified.decoding.decoder import Decode, each_value, made_of_fields
from beam_unified.errors import ConfigError

AvroSchema = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Avro:
    """Avro values, as dicts or as `target`.

    Args:
        writer_schema: What the values were written with, as JSON text or parsed.
        reader_schema: What they are to look like; Avro's schema resolution does it. None: as they were written.
        target: Type or function that makes a value of each record's fields, `target(**fields)`; None gives dicts.

    Raises:
        ConfigError: a schema that is none.
    """

    writer_schema: AvroSchema
    reader_schema: AvroSchema | None = None
    target: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        for option in ("writer_schema", "reader_schema"):
            schema = getattr(self, option)
            if schema is not None:
                object.__setattr__(self, option, schema_text(schema, option))

    @property
    def element_type(self) -> Any:
        """The target where it is a type; `Any` where it is a function; dict without."""
        return made_of_fields(self.target)

    def open(self) -> Decode:
        """See `Decoder`."""
        writer = fastavro.parse_schema(json.loads(str(self.writer_schema)))
        reader = None if self.reader_schema is None else fastavro.parse_schema(json.loads(str(self.reader_schema)))
        read, target = fastavro.schemaless_reader, self.target

        def decode(value: bytes) -> Any:
            source = io.BytesIO(value)
            found: Any = read(source, writer, reader)
            if source.tell() != len(value):
                raise ValueError(
                    f"{len(value) - source.tell()} bytes are left behind the datum: another writer schema?"
                )
            return found if target is None else target(**found)

        return each_value(decode)


def schema_text(schema: AvroSchema, option: str) -> str:
    """An Avro schema as JSON text. Raises ConfigError, naming the option, for what is none."""
    try:
        parsed = json.loads(schema) if isinstance(schema, str) else schema
        fastavro.parse_schema(parsed)
    except Exception as error:
        raise ConfigError(f"{option} is no Avro schema ({type(error).__name__}: {error}).") from error
    return json.dumps(parsed)
