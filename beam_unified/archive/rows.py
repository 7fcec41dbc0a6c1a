"""Rows of the archive's Parquet files: their schema, and a batch of them as the reader hands it over. No I/O.

Every row holds the bytes of Kafka, so that both stores have one encoding. Columns become Python lists only when asked
for, and whole: nothing here works row by row except `iter_records`, through `map`. Files are read and written elsewhere.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_unified.archive.commits import SCHEMA_VERSION
from beam_unified.offsets import TopicPartition
from beam_unified.records import TIMESTAMP_TYPES, Batch, Columns, Headers, Record, Store, record_rows

SCHEMA = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC")),
        pa.field("timestamp_type", pa.int8()),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field(
            "headers", pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False), ("value", pa.binary())]))
        ),
    ]
)

_TOPIC, _PARTITION, _VERSION = b"beam_unified.topic", b"beam_unified.partition", b"beam_unified.schema_version"


def schema_of(tp: TopicPartition) -> pa.Schema:
    """The schema with topic, partition and its version in the file's metadata."""
    return SCHEMA.with_metadata(
        {_TOPIC: tp.topic.encode(), _PARTITION: b"%d" % tp.partition, _VERSION: b"%d" % SCHEMA_VERSION}
    )


def check_schema(schema: pa.Schema, tp: TopicPartition) -> str | None:
    """What is wrong with a file of this schema where one of `tp` is expected; None where nothing is."""
    metadata = schema.metadata or {}
    topic, partition, version = (
        metadata.get(key, b"?").decode(errors="replace") for key in (_TOPIC, _PARTITION, _VERSION)
    )
    if version != str(SCHEMA_VERSION):
        return f"has schema version {version}, this release of beam-unified reads {SCHEMA_VERSION}"
    if (topic, partition) != (tp.topic, str(tp.partition)):
        return f"is a file of {topic}[{partition}]"
    if not schema.equals(SCHEMA):
        return f"has another schema: {', '.join(schema.names)}"
    return None


def check_values(rows: pa.RecordBatch) -> None:
    """Raises ValueError over what only damaged bytes hold, and what would be a Python error later on."""
    rows.column(5).validate(full=True)  # text; of the other columns any bytes are good, and pyarrow makes their offsets
    bounds = pc.min_max(rows.column(2)).as_py()  # there are two types, so the smallest and largest say it all
    if not {bounds["min"], bounds["max"]} <= TIMESTAMP_TYPES.keys():
        raise ValueError(f"it holds the timestamp type {bounds['max']}")


def table_of(tp: TopicPartition, records: Sequence[Record]) -> pa.Table:
    """Records as a table."""
    return table_of_columns(tp, Columns.of_records(records))


def table_of_columns(tp: TopicPartition, columns: Columns) -> pa.Table:
    """Columns as a table."""
    return pa.Table.from_arrays(_arrays(columns), schema=schema_of(tp))


def rows_of(batch: Batch) -> pa.RecordBatch:
    """Any batch as rows of `SCHEMA`: those it is over, or made of its columns in one pass."""
    if isinstance(batch, ArrowBatch):
        return batch.rows
    return pa.RecordBatch.from_arrays(_arrays(Columns.of(batch)), schema=SCHEMA)


def _arrays(columns: Columns) -> list[pa.Array]:
    return [
        pa.array(columns.offsets, pa.int64()),
        pa.array(columns.timestamps, pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
        pa.array(columns.timestamp_types, pa.int8()),
        pa.array(columns.keys, pa.binary()),
        pa.array(columns.values, pa.binary()),
        _header_column(columns.headers),
    ]


def _header_column(headers: Sequence[Sequence[tuple[str, bytes | None]]]) -> pa.Array:
    kind = SCHEMA.field("headers").type
    if not any(headers):
        return pa.ListArray.from_arrays(pa.array([0] * (len(headers) + 1), pa.int32()), pa.array([], kind.value_type))
    return pa.array([[{"key": name, "value": value} for name, value in pairs] for pairs in headers], kind)


def headers_of(column: pa.Array) -> Iterable[Headers]:
    """A column of headers as `Record` has them, one a row."""
    bounds = column.offsets.to_numpy()
    first, last = int(bounds[0]), int(bounds[-1])
    if first == last:
        return repeat((), len(column))
    names, values = column.values.slice(first, last - first).flatten()
    pairs = tuple(zip(names.to_pylist(), values.to_pylist(), strict=True))
    return [pairs[one:other] for one, other in pairwise((bounds - first).tolist())]


class ArrowBatch:
    """A batch over rows of the archive. Slices share memory."""

    __slots__ = ("_rows", "_tp")

    store = Store.ARCHIVE

    def __init__(self, tp: TopicPartition, rows: pa.RecordBatch) -> None:
        """Takes rows of `SCHEMA`, in offset order."""
        self._tp = tp
        self._rows = rows

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    @property
    def rows(self) -> pa.RecordBatch:
        """The rows."""
        return self._rows

    def last_offset(self) -> int:
        """Offset of the last row."""
        return int(self._rows.column(0)[-1].as_py())

    def offsets(self) -> Sequence[int]:
        """Offsets."""
        return self._rows.column(0).to_numpy().tolist()  # type: ignore[no-any-return]  # numpy is untyped here

    def timestamps(self) -> Sequence[int | None]:
        """Kafka timestamps."""
        column = self._rows.column(1).cast(pa.int64())
        return column.to_pylist() if column.null_count else column.to_numpy().tolist()  # type: ignore[no-any-return]

    def values(self) -> Sequence[bytes | None]:
        """Values."""
        return self._rows.column(4).to_pylist()  # type: ignore[no-any-return]

    def iter_records(self) -> Iterator[Record]:
        """Whole records, one by one."""
        tp = self._tp
        return record_rows(
            self._rows.column(3).to_pylist(),
            self.values(),
            headers_of(self._rows.column(5)),
            repeat(tp.topic),
            repeat(tp.partition),
            self.offsets(),
            self.timestamps(),
            map(TIMESTAMP_TYPES.__getitem__, self._rows.column(2).to_pylist()),
            repeat(self.store.value),
        )

    def records(self) -> list[Record]:
        """Whole records at once."""
        return list(self.iter_records())

    def size_bytes(self) -> int:
        """Size of the slice in memory."""
        return int(self._rows.nbytes)

    def between(self, start: int, stop: int | None) -> Batch:
        """The rows with `start <= offset < stop`."""
        offsets = self._rows.column(0).to_numpy()
        first = int(offsets.searchsorted(start))
        last = len(offsets) if stop is None else int(offsets.searchsorted(stop))
        if first == 0 and last == len(offsets):
            return self
        return ArrowBatch(self._tp, self._rows.slice(first, max(0, last - first)))

    def milliseconds(self) -> "np.ndarray | None":
        """Kafka timestamps as an array, without a copy; None where any record has none."""
        column = self._rows.column(1)
        return None if column.null_count else column.view(pa.int64()).to_numpy()
