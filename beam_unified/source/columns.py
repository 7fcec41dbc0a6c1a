"""Columns of `output="arrow"`: the schema of a batch, and how one is made of what a store handed over. Imports no Beam.

A batch is of one partition and in offset order. Rows of the archive share memory with the decoded Parquet, those of Kafka become
columns in one pass: no Python object is made for a record that no decoder or timestamp function wants to see.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from operator import attrgetter
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa

from beam_unified.archive.rows import SCHEMA, rows_of
from beam_unified.decoding.decoder import Decoder
from beam_unified.decoding.interpreter import Meaning
from beam_unified.errors import ConfigError
from beam_unified.offsets import TopicPartition

INSTANT = pa.timestamp("us", tz="UTC")
_NAME = pa.dictionary(pa.int32(), pa.string())
_PLACE = (
    pa.field("event_time", INSTANT, nullable=False),
    pa.field("topic", _NAME, nullable=False),
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("store", _NAME, nullable=False),
)
_VALUE = SCHEMA.get_field_index("value")

ARROW_SCHEMA = pa.schema([*SCHEMA, *_PLACE])
"""Of a batch without a decoder; with one, `value` has the decoder's type.

offset, timestamp (Kafka's, ms), timestamp_type (0: of the producer, 1: of the broker), key, value, headers; then event_time (us),
topic, partition, store. Columns, not metadata of the schema, because those survive when batches are put together.
"""


@dataclass(frozen=True, slots=True)
class ArrowOutput:
    """How batches are made.

    Attributes:
        value: Type of the decoded values; None leaves them bytes.
    """

    value: pa.DataType | None

    @property
    def schema(self) -> pa.Schema:
        """Of every batch."""
        return ARROW_SCHEMA if self.value is None else ARROW_SCHEMA.set(_VALUE, pa.field("value", self.value))

    def column(self, elements: Sequence[Any]) -> pa.Array:
        """Decoded values as a column. Raises where one does not fit its type."""
        if elements and pa.types.is_struct(self.value) and not isinstance(_first(elements), tuple | None):
            row = _row(type(_first(elements)))
            elements = [None if one is None else row(one) for one in elements]
        return pa.array(elements, self.value)

    def batch(self, tp: TopicPartition, found: Meaning) -> pa.RecordBatch:
        """What records mean, as a batch."""
        columns, count = rows_of(found.batch).columns, len(found.batch)
        if self.value is not None:
            assert found.elements is not None, "there is a decoder"
            columns[_VALUE] = found.column if found.column is not None else self.column(found.elements)
        return pa.RecordBatch.from_arrays(
            [
                *columns,
                pa.array(np.asarray(found.micros, np.int64)).view(INSTANT),
                _name(tp.topic, count),
                _number(tp.partition, count),
                _name(found.batch.store.value, count),
            ],
            schema=self.schema,
        )


def arrow_output(decoder: Decoder | None) -> ArrowOutput:
    """What fits a decoder. Raises ConfigError for one whose values are no rows."""
    if decoder is None:
        return ArrowOutput(None)
    try:
        return ArrowOutput(_type_of(decoder.element_type))
    except TypeError as error:
        raise ConfigError(
            f"output='arrow' makes columns of a decoder's values: {error}. Decode into a NamedTuple or dataclass whose fields are "
            "int, float, bool, str, bytes, lists of these or None; or leave the decoder out, which gives the bytes."
        ) from error


_SCALARS = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string(), bytes: pa.binary()}


def _type_of(kind: Any, *, inside: str = "") -> pa.DataType:
    """Arrow's type of a Python type. Raises TypeError."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if get_origin(kind) in {Union, UnionType}:
        some = [one for one in get_args(kind) if one is not type(None)]
        if len(some) == 1:
            return _type_of(some[0], inside=inside)
    elif get_origin(kind) is list:
        return pa.list_(_type_of(*get_args(kind), inside=inside or "a list"))
    elif not inside and (names := _field_names(kind)):
        hints = get_type_hints(kind)
        return pa.struct([(name, _type_of(hints.get(name, Any), inside=f"field {name}")) for name in names])
    raise TypeError(f"{f'{inside} is' if inside else 'it gives'} {kind!r}")


def _field_names(kind: Any) -> tuple[str, ...]:
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    return tuple(getattr(kind, "_fields", ())) if isinstance(kind, type) and issubclass(kind, tuple) else ()


def _first(elements: Sequence[Any]) -> Any:
    return next((one for one in elements if one is not None), None)


def _row(kind: type) -> Any:
    """A dataclass's value to a tuple, which is what Arrow takes for a struct."""
    names = _field_names(kind)
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda one: (get(one),)


_MOST_ROWS = 65_536  # of a batch; more than `CallBudget.of_columns` allows would work, and cost an allocation


@lru_cache(maxsize=16)
def _names(text: str) -> pa.Array:
    return _repeated_name(text, _MOST_ROWS)


@lru_cache(maxsize=16)
def _numbers(number: int) -> pa.Array:
    return pa.array(np.full(_MOST_ROWS, number, np.int32))


def _name(text: str, count: int) -> pa.Array:
    """A column that says the same in every row; most are parts of one array."""
    return _names(text).slice(0, count) if count <= _MOST_ROWS else _repeated_name(text, count)


def _number(number: int, count: int) -> pa.Array:
    """As `_name`."""
    return _numbers(number).slice(0, count) if count <= _MOST_ROWS else pa.array(np.full(count, number, np.int32))


def _repeated_name(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text]), safe=False)
