"""Batches of columns as elements: their coder, and `ExplodeBatches`, which makes an element of each row again.

The timestamp of a batch is the smallest event time of its rows, so that it holds the watermark for all of them; but never
below the watermark that was reported when it was emitted. A batch with a late row in it would else be late as a whole, and
thousands of rows would be dropped that are not (T4). So a batch is never late, its late rows ride along, and `ExplodeBatches`
gives them back their own event time, with which they are as late as `output="record"` has them (T3).
"""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import PCollection
from apache_beam.typehints.typehints import is_consistent_with
from apache_beam.utils import windowed_value
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

from beam_unified.archive.rows import headers_of
from beam_unified.errors import ConfigError
from beam_unified.records import TIMESTAMP_TYPES, Record, record_rows
from beam_unified.source.chunks import WINDOWS
from beam_unified.source.columns import ARROW_SCHEMA, INSTANT

_VERSION = b"\1"


class RecordBatchCoder(beam.coders.Coder):
    """`pyarrow.RecordBatch` to bytes and back: a version byte, then Arrow's IPC stream (B5).

    Equal batches give equal bytes, however they were cut out of larger ones; reading shares memory with the bytes.
    """

    def encode(self, value: pa.RecordBatch) -> bytes:
        """Version 1."""
        sink = pa.BufferOutputStream()
        sink.write(_VERSION)
        with pa.ipc.new_stream(sink, value.schema) as stream:
            stream.write_batch(_copied(value))
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]  # pyarrow is untyped

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Any version ever written. Raises ValueError for one of the future."""
        if encoded[:1] != _VERSION:
            raise ValueError(f"a batch of version {encoded[:1]!r} was written by a later release of beam-unified")
        return pa.ipc.open_stream(pa.py_buffer(encoded).slice(1)).read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """For the byte counters of runners."""
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        """See above."""
        return True

    def to_type_hint(self) -> type:
        """What it encodes."""
        return pa.RecordBatch  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


def _copied(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch without what lies under nulls and around its ends: Arrow writes that, too."""
    return batch.take(pa.array(np.arange(batch.num_rows)))


class ExplodeBatches(beam.PTransform):
    """Batches -> what `output="record"` (or "value") would have given: the same elements, with the same event times.

    For the stages that want records, behind those that worked on columns. Rows that were filtered out stay out; a batch must
    have the columns of `ARROW_SCHEMA`, others do not matter.

    Args:
        output: "record" for `Record`, "value" for the bytes.

    Raises:
        ConfigError: for another output, and for a PCollection of anything but `pyarrow.RecordBatch`; on a worker, for batches
            without the columns, or whose values were decoded: their bytes are gone.
    """

    def __init__(self, output: Literal["record", "value"] = "record") -> None:
        super().__init__()
        if output not in {"record", "value"}:
            raise ConfigError(f"ExplodeBatches output must be one of 'record', 'value', got {output!r}.")
        self._output = output

    def expand(self, batches: PCollection) -> PCollection:
        """Each batch by itself."""
        if not is_consistent_with(batches.element_type, pa.RecordBatch):
            raise ConfigError(
                f"ExplodeBatches takes pyarrow.RecordBatch, as ReadUnified(output='arrow') gives it, got {batches.element_type}."
            )
        kind: object = Record if self._output == "record" else bytes | None
        return batches | "Rows" >> beam.ParDo(ExplodeRows(self._output)).with_output_types(kind)


class ExplodeRows(beam.DoFn):
    """Batch -> its rows, as ready-made windowed values."""

    def __init__(self, output: Literal["record", "value"] = "record") -> None:
        self._output = output

    def process(self, batch: pa.RecordBatch) -> Iterator[WindowedValue]:
        """One batch."""
        _check(batch)
        micros = batch.column("event_time").cast(INSTANT).cast(pa.int64()).to_pylist()
        elements: Iterable[Any] = batch.column("value").to_pylist()
        if self._output == "record":
            elements = record_rows(
                batch.column("key").to_pylist(),
                elements,
                headers_of(batch.column("headers")),
                _texts(batch.column("topic")),
                batch.column("partition").to_pylist(),
                batch.column("offset").to_pylist(),
                batch.column("timestamp").cast(pa.int64()).to_pylist(),
                map(TIMESTAMP_TYPES.__getitem__, batch.column("timestamp_type").to_pylist()),
                _texts(batch.column("store")),
            )
        return map(windowed_value.create, elements, micros, repeat(WINDOWS), repeat(PANE_INFO_UNKNOWN))


def _check(batch: pa.RecordBatch) -> None:
    found = {field.name: field.type for field in batch.schema}
    if missing := [name for name in ARROW_SCHEMA.names if name not in found]:
        raise ConfigError(f"ExplodeBatches needs the column {missing[0]!r}: keep the columns of ARROW_SCHEMA.")
    if found["value"] != pa.binary():
        raise ConfigError(
            f"ExplodeBatches needs the bytes of the values, these are decoded ({found['value']}): leave the decoder out of "
            "ReadUnified, or read with output='record'."
        )


def _texts(column: pa.Array) -> Iterable[str]:
    """A column of names; most often of one."""
    if len(column) and len(column.dictionary) == 1:
        return repeat(column.dictionary[0].as_py())
    return column.to_pylist()  # type: ignore[no-any-return]
