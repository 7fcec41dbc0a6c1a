"""Values framed as Confluent's serializers write them: a magic byte and a schema id, or the schema's GUID in a header.

Needs `pip install beam-unified[schema-registry]`: confluent-kafka's registry client and deserializers. They are kept by those
who made the wire format and follow it (references, header GUIDs, message indexes); schemas are cached per worker.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from beam_unified.decoding.avro import schema_text
from beam_unified.decoding.decoder import Decode, made_of_fields
from beam_unified.decoding.json_schema import JsonSchema
from beam_unified.decoding.protobuf import message_class
from beam_unified.errors import BadRecordError, ConfigError, StoreError
from beam_unified.records import Batch
from beam_unified.secrets import resolved

_TIMEOUT = 10.0  # seconds a request; the client's own default is to wait for ever
# No such subject, version, schema (the registry's own error codes): the record's fault. Any other 404 is a wrong address.
_UNKNOWN = (40401, 40402, 40403)


@dataclass(frozen=True, slots=True)
class SchemaRegistry:
    """Where the registry is. Speaks Confluent's API, as Confluent's, Apicurio's (`/apis/ccompat/v7`), Karapace and Redpanda do.

    Args:
        url: Without user and password.
        config: Settings of confluent-kafka's `SchemaRegistryClient` (`basic.auth.user.info`, `ssl.ca.location`, ...). Values
            may be `Secret`s; none appears in a repr, a log or an error. `timeout` is 10 seconds a request unless it is set
            here, and a request is tried 1 + `max.retries` (3) times.

    Raises:
        ConfigError: an address with credentials in it.
    """

    url: str
    config: Mapping[str, object] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if "@" in self.url:
            raise ConfigError(
                "SchemaRegistry url holds credentials: give them as config={'basic.auth.user.info': Secret...}."
            )
        object.__setattr__(self, "config", dict(self.config))

    def connect(self) -> SchemaRegistryClient:
        """A client, for this process. Asks nobody yet."""
        try:
            return _Client({"url": self.url, "timeout": _TIMEOUT, **resolved(self.config)})
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"settings of the schema registry {self.url} do not fit: {type(error).__name__}."
            ) from None


@dataclass(frozen=True, slots=True)
class ConfluentAvro:
    """Avro values in Confluent's framing.

    Each value names its writer schema; `reader_schema` is what all of them look like, whenever they were written, so that old
    files and new records come out alike. Without it a value looks as it was written.

    Args:
        registry: Where writer schemas are.
        reader_schema: JSON text.
        target: Type or function that makes a value of each record's fields, `target(**fields)`; None gives dicts.

    Raises:
        ConfigError: a reader schema that is none.
    """

    registry: SchemaRegistry
    reader_schema: str | None = None
    target: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if self.reader_schema is not None:
            schema_text(self.reader_schema, "reader_schema")

    @property
    def element_type(self) -> Any:
        """The target where it is a type; `Any` where it is a function; dict without."""
        return made_of_fields(self.target)

    def open(self) -> Decode:
        """See `Decoder`."""
        target = self.target
        made = None if target is None else lambda fields, _context: target(**fields)
        client = self.registry.connect()
        return _framed(self.registry, client, AvroDeserializer(client, self.reader_schema, made))


@dataclass(frozen=True, slots=True)
class ConfluentProtobuf:
    """Protobuf values in Confluent's framing, read with the class that the pipeline has, as Protobuf evolves.

    Args:
        registry: Where writer schemas are.
        type: A generated message class, or the name of a message in `descriptors`; see `Protobuf`.
        descriptors: See `Protobuf`.
    """

    registry: SchemaRegistry
    type: Any
    descriptors: bytes | None = None

    def __post_init__(self) -> None:
        message_class(self.type, self.descriptors)

    @property
    def element_type(self) -> Any:
        """See `Protobuf`."""
        return self.type if self.descriptors is None else Any

    def open(self) -> Decode:
        """See `Decoder`."""
        kind = message_class(self.type, self.descriptors)
        client = self.registry.connect()
        return _framed(self.registry, client, ProtobufDeserializer(kind, None, client))


@dataclass(frozen=True, slots=True)
class ConfluentJson:
    """JSON values in Confluent's framing, checked against the schema that each names.

    Args:
        registry: Where schemas are.
        reader_schema: JSON Schema as text that values must obey instead.
        target: Type or function that makes a value of each value's fields, `target(**fields)`; None gives dicts.

    Raises:
        ConfigError: a reader schema that is none.
    """

    registry: SchemaRegistry
    reader_schema: str | None = None
    target: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if self.reader_schema is not None:
            JsonSchema(self.reader_schema)  # checks it

    @property
    def element_type(self) -> Any:
        """The target where it is a type; `Any` where it is a function; dict without."""
        return made_of_fields(self.target)

    def open(self) -> Decode:
        """See `Decoder`."""
        target = self.target
        made = None if target is None else lambda fields, _context: target(**fields)
        client = self.registry.connect()
        return _framed(self.registry, client, JSONDeserializer(self.reader_schema, made, client))


def _framed(registry: SchemaRegistry, client: SchemaRegistryClient, deserialize: Callable[..., Any]) -> Decode:
    """A deserializer of confluent-kafka as ours: what is the registry's fault is no bad record."""

    def decode(batch: Batch) -> list[Any]:
        result: list[Any] = []
        for record in batch.iter_records():
            if record.value is None:
                raise BadRecordError("it is a tombstone, without a value: decode with Nullable(...) to get None")
            headers = cast("list[tuple[str, bytes]]", list(record.headers))
            context = SerializationContext(record.topic, MessageField.VALUE, headers)
            try:
                result.append(deserialize(record.value, context))
            except _Fault as fault:
                raise StoreError(
                    f"no schema from the registry {registry.url} for {_schema_id(record.value)} of {record.topic} ({fault}): check "
                    "the address and its path, that it runs, and the credentials in config."
                ) from None
        return result

    weakref.finalize(decode, client.close)  # its connections go with the decoder
    return decode


def _schema_id(value: bytes) -> str:
    return f"schema id {int.from_bytes(value[1:5])}" if value[:1] == b"\0" else "the schema that a header names"


class _Fault(Exception):
    """The registry, or who gives tokens for it, did not do its work. In words without secrets."""


class _Client(SchemaRegistryClient):  # type: ignore[misc]  # untyped
    """Raises SchemaRegistryError where there is no such schema, and `_Fault` for whatever goes wrong on the way to an answer."""

    def get_schema(self, *args: Any, **options: Any) -> Any:
        with _faults():
            return super().get_schema(*args, **options)

    def get_schema_by_guid(self, *args: Any, **options: Any) -> Any:
        with _faults():
            return super().get_schema_by_guid(*args, **options)

    def get_version(self, *args: Any, **options: Any) -> Any:
        with _faults():
            return super().get_version(*args, **options)

    def get_associations_by_resource_name(self, *args: Any, **options: Any) -> Any:
        # Registries without associations say 404, by which the deserializers know them.
        with _faults(passed=(404,)):
            return super().get_associations_by_resource_name(*args, **options)


@contextmanager
def _faults(passed: tuple[int, ...] = ()) -> Iterator[None]:
    try:
        yield
    except SchemaRegistryError as error:
        if error.http_status_code in passed or (error.http_status_code == 404 and error.error_code in _UNKNOWN):
            raise
        raise _Fault(f"status {error.http_status_code}") from None
    except Exception as error:  # noqa: BLE001 - of the network, of OAuth, of an answer that is none
        raise _Fault(type(error).__name__) from None
