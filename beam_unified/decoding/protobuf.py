"""Protobuf without framing: every value is one message. For Confluent's framing see `confluent`."""

from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from beam_unified.decoding.decoder import Decode, each_value
from beam_unified.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Protobuf:
    """Protobuf messages.

    Args:
        type: A generated message class; or the full name of a message in `descriptors`.
        descriptors: A serialized `FileDescriptorSet`, as `protoc --include_imports --descriptor_set_out` writes it.

    The output's type is the class, or any message where it is made from descriptors on the worker.

    Raises:
        ConfigError: descriptors that do not parse, or have no such message.
    """

    type: Any
    descriptors: bytes | None = None

    def __post_init__(self) -> None:
        message_class(self.type, self.descriptors)

    @property
    def element_type(self) -> Any:
        """The class; `Any` for one made from descriptors, which only its own process knows."""
        return self.type if self.descriptors is None else Any

    def open(self) -> Decode:
        """See `Decoder`."""
        return each_value(message_class(self.type, self.descriptors).FromString)


def message_class(kind: Any, descriptors: bytes | None) -> Any:
    """The class of messages. Raises ConfigError."""
    if descriptors is None:
        if isinstance(kind, type) and issubclass(kind, message.Message):
            return kind
        raise ConfigError(f"Protobuf needs a generated message class, or a name and descriptors=, got {kind!r}.")
    pool = descriptor_pool.DescriptorPool()
    try:
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
            pool.Add(file)
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(kind))
    except (KeyError, TypeError, message.DecodeError) as error:
        raise ConfigError(
            f"no message {kind!r} in the descriptors ({type(error).__name__}): give its full name with the package, and a "
            "set made by protoc --include_imports --descriptor_set_out."
        ) from error
