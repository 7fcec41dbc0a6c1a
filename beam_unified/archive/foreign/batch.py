"""Records of another tool's file as a `Batch`: columns, whole and in Python's own types. No input or output."""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import TypeVar

import numpy as np

from beam_unified.archive.foreign.columns import Columns, Headers
from beam_unified.offsets import TopicPartition
from beam_unified.records import Columns as AllColumns
from beam_unified.records import Record, Store, record_rows

_T = TypeVar("_T")


class ColumnBatch:
    """A batch over columns. What the layout lacks is None in every record, or no headers; so is the type of its timestamp."""

    __slots__ = ("_columns", "_tp", "offset_array")

    store = Store.ARCHIVE

    def __init__(self, tp: TopicPartition, offsets: "np.ndarray", columns: Columns) -> None:
        """Takes offsets that increase, and columns of that length; `columns.offsets` is not looked at."""
        self._tp, self.offset_array, self._columns = tp, offsets, columns

    def __len__(self) -> int:
        return len(self.offset_array)

    def last_offset(self) -> int:
        """Offset of the last record."""
        return int(self.offset_array[-1])

    def offsets(self) -> Sequence[int]:
        """Offsets."""
        found: list[int] = self.offset_array.tolist()
        return found

    def timestamps(self) -> Sequence[int | None]:
        """Kafka timestamps."""
        return self._or_none(self._columns.timestamps)

    def values(self) -> Sequence[bytes | None]:
        """Values."""
        return self._columns.values

    def columns(self) -> AllColumns:
        """All of it."""
        return AllColumns(
            self._or_none(self._columns.keys),
            self.values(),
            self._headers(),
            self.offsets(),
            self.timestamps(),
            [None] * len(self),
        )

    def iter_records(self) -> Iterator[Record]:
        """Whole records, one by one."""
        return record_rows(
            self._or_none(self._columns.keys),
            self.values(),
            self._headers(),
            repeat(self._tp.topic),
            repeat(self._tp.partition),
            self.offsets(),
            self.timestamps(),
            repeat(None),
            repeat(self.store.value),
        )

    def records(self) -> list[Record]:
        """Whole records at once."""
        return list(self.iter_records())

    def size_bytes(self) -> int:
        """Keys and values."""
        return sum(map(len, filter(None, chain(self._columns.values, self._columns.keys or ()))))

    def between(self, start: int, stop: int | None) -> "ColumnBatch":
        """The records with `start <= offset < stop`."""
        first = int(self.offset_array.searchsorted(start))
        last = len(self) if stop is None else max(first, int(self.offset_array.searchsorted(stop)))
        return self.slice(first, last)

    def slice(self, first: int, last: int) -> "ColumnBatch":
        """Records by their place."""
        if first == 0 and last >= len(self):
            return self
        cut = [None if column is None else column[first:last] for column in self._columns]
        return ColumnBatch(self._tp, self.offset_array[first:last], Columns(*cut))  # type: ignore[arg-type]  # the same columns

    @staticmethod
    def merged(batches: Sequence["ColumnBatch"]) -> "ColumnBatch":
        """Several batches of one partition as one, by offset; of records with the same offset the first batch's."""
        offsets, order = np.unique(np.concatenate([one.offset_array for one in batches]), return_index=True)
        picked = [_picked([one._columns[at] for one in batches], order.tolist()) for at in range(len(Columns._fields))]  # noqa: SLF001 - its own class
        return ColumnBatch(batches[0]._tp, offsets, Columns(*picked))  # type: ignore[arg-type]  # noqa: SLF001

    def _or_none(self, column: Sequence[_T] | None) -> Sequence[_T | None]:
        return [None] * len(self) if column is None else column

    def _headers(self) -> Sequence[Headers]:
        return [()] * len(self) if self._columns.headers is None else self._columns.headers


def _picked(columns: Sequence[Sequence[object] | None], order: Sequence[int]) -> list[object] | None:
    if any(column is None for column in columns):
        return None
    joined = list(chain.from_iterable(column for column in columns if column is not None))
    return [joined[at] for at in order]
