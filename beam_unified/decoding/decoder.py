"""What a decoder is, and those that need no format.

A decoder is a description: frozen, picklable, without a connection or cache. `open()` makes the living half on the worker,
which decodes a batch at a time. Secrets are looked up there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from beam_unified.errors import BadRecordError
from beam_unified.records import Batch, ListBatch

Decode: TypeAlias = Callable[[Batch], Sequence[Any]]
"""A batch to what its values mean, one a record. Raises anything where a value cannot be decoded; `StoreError` and
`ConfigError` where it is not the value's fault, which stops the pipeline. Must give the same for the same bytes."""


@runtime_checkable
class Decoder(Protocol):
    """Description of a decoder. For one of your own: a frozen dataclass with these two."""

    @property
    def element_type(self) -> Any:
        """Type of a decoded value: type hint of the output, and its coder follows from it."""
        ...

    def open(self) -> Decode:
        """The living half. Called once a worker thread, never where the pipeline is built."""
        ...


def each_value(function: Callable[[bytes], Any]) -> Decode:
    """A decoder of one value, for batches."""

    def decode(batch: Batch) -> Sequence[Any]:
        values = batch.values()
        if None in values:
            raise BadRecordError("it is a tombstone, without a value: decode with Nullable(...) to get None")
        return list(map(function, values))  # type: ignore[arg-type]  # none of them is None

    return decode


def made_of_fields(target: Callable[..., Any] | None) -> Any:
    """Type of what `target(**fields)` gives: of a type itself; of a function nobody knows. None stands for dicts."""
    if target is None:
        return dict[str, Any]
    return target if isinstance(target, type) else Any


@dataclass(frozen=True, slots=True)
class Bytes:
    """The bytes as they are; but for tombstones what no decoder gives, too."""

    element_type = bytes

    def open(self) -> Decode:
        """See `Decoder`."""
        return each_value(bytes)


@dataclass(frozen=True, slots=True)
class Text:
    """Text. Bytes that are none in the encoding cannot be decoded; nothing is replaced."""

    encoding: str = "utf-8"
    element_type = str

    def __post_init__(self) -> None:
        b"".decode(self.encoding)  # an unknown one fails here

    def open(self) -> Decode:
        """See `Decoder`."""
        encoding = self.encoding
        return each_value(lambda value: value.decode(encoding))


@dataclass(frozen=True, slots=True)
class Nullable:
    """Another decoder, and None for a tombstone. Without it a tombstone is a record that cannot be decoded."""

    decoder: Decoder

    @property
    def element_type(self) -> Any:
        """That of the other, or None."""
        return self.decoder.element_type | None

    def open(self) -> Decode:
        """See `Decoder`."""
        inner = self.decoder.open()

        def decode(batch: Batch) -> Sequence[Any]:
            values = batch.values()
            if None not in values:
                return inner(batch)
            kept = [record for record in batch.iter_records() if record.value is not None]
            decoded = iter(inner(ListBatch(kept, batch.store)) if kept else ())
            return [None if value is None else next(decoded) for value in values]

        return decode
