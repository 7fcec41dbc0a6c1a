"""Reads one committed flush: its parts, merged by offset, checked against the commit.

It knows nothing of other flushes, of positions or of Kafka; `archive` opens the files for it.

A flush spans the hour folders of its records, and late events lie in the folder of their own hour, so the offsets of its
parts interleave. Each part is a stream of row batches in offset order; a step of the merge takes, from every stream, the
rows up to the smallest "last offset" of their current batches, and sorts those. Memory stays at a batch per part, and
nothing is done row by row.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_unified.archive.commits import Commit, Part
from beam_unified.archive.rows import SCHEMA, ArrowBatch, origin
from beam_unified.errors import CorruptArchiveError
from beam_unified.offsets import TopicPartition
from beam_unified.records import Batch

_BATCH_ROWS = 16_384

OpenPart = Callable[[Part], pa.NativeFile]
"""Opens a data file, as `archive` does it: checks that it is there and has the size that the commit says."""


class CommittedFlush:
    """An open flush, positioned. Implements `stores.FlushReader`."""

    def __init__(self, tp: TopicPartition, commit: Commit, open_part: OpenPart, describe: Callable[[str], str]) -> None:
        """Opens nothing yet; see `starting_at`."""
        self._tp = tp
        self._commit = commit
        self._open_part = open_part
        self._describe = describe
        self._files: list[pa.NativeFile] = []
        self._rows: Iterator[pa.RecordBatch] = iter(())
        self._current: pa.RecordBatch | None = None

    def starting_at(self, offset: int) -> "CommittedFlush":
        """Opens the parts, positioned at the first record at or after `offset`.

        Raises:
            CorruptArchiveError: a part is missing, truncated, unreadable, or of another topic.
        """
        streams = [self._stream(part, offset) for part in self._commit.parts]
        self._rows = self._checked(streams[0] if len(streams) == 1 else _merge(streams))
        self._current = self._next()
        return self

    def read(self, max_records: int) -> Batch | None:
        """The next records; None at the end of the flush."""
        rows = self._current
        if rows is None:
            return None
        taken = rows.slice(0, max_records)
        self._current = rows.slice(max_records) if rows.num_rows > max_records else self._next()
        return ArrowBatch(self._tp, taken)

    def close(self) -> None:
        """Closes the files."""
        self._rows, self._current = iter(()), None
        while self._files:
            self._files.pop().close()

    def _next(self) -> pa.RecordBatch | None:
        return next(self._rows, None)

    def _stream(self, part: Part, offset: int) -> Iterator[pa.RecordBatch]:
        """Rows of one part from `offset` on; opens the file at once, so that a missing one is noticed at once."""
        file = self._open_part(part)
        self._files.append(file)
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise self._corrupt(part, f"is not a readable Parquet file ({error})") from error
        found = origin(parquet.schema_arrow)
        if found != str(self._tp):
            raise self._corrupt(part, f"is a file of {found}")
        if not parquet.schema_arrow.equals(SCHEMA):
            raise self._corrupt(part, f"has another schema: {', '.join(parquet.schema_arrow.names)}")
        if parquet.metadata.num_rows != part.rows:
            raise self._corrupt(part, f"has {parquet.metadata.num_rows} rows, the commit says {part.rows}")
        return self._batches(parquet, part, offset)

    def _batches(self, parquet: pq.ParquetFile, part: Part, offset: int) -> Iterator[pa.RecordBatch]:
        wanted = [group for group in range(parquet.num_row_groups) if _reaches(parquet, group, offset)]
        try:
            for rows in parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=wanted):
                first = int(rows.column(0).to_numpy().searchsorted(offset))
                if first < rows.num_rows:
                    yield rows.slice(first)
        except (pa.ArrowException, OSError) as error:
            raise self._corrupt(part, f"cannot be decoded ({error})") from error

    def _checked(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Passes on what is in order and inside the flush; anything else would be a lost or doubled record."""
        flush, last = self._commit.flush, self._commit.flush.start - 1
        for rows in batches:
            offsets = rows.column(0).to_numpy()
            if offsets[0] <= last or offsets[-1] >= flush.stop or (np.diff(offsets) <= 0).any():
                raise CorruptArchiveError(
                    f"{self._tp}: the parts of flush [{flush.start}, {flush.stop}) hold offsets twice, out of order or "
                    f"outside of it (near offset {int(offsets[0])}): {self._describe('')}. Write the flush again from Kafka "
                    "or from a copy."
                )
            last = int(offsets[-1])
            yield rows

    def _corrupt(self, part: Part, what: str) -> CorruptArchiveError:
        flush = self._commit.flush
        return CorruptArchiveError(
            f"{self._tp}: {self._describe(part.path)} {what}. It belongs to offsets [{flush.start}, {flush.stop}); "
            "restore it from a copy, or remove the flush's commit object so that the flush counts as not there."
        )


def _merge(streams: list[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Rows of all streams by offset."""
    heads = [(stream, rows) for stream in streams if (rows := next(stream, None)) is not None]
    while heads:
        horizon = min(_last(rows) for _, rows in heads)
        taken, left = [], []
        for stream, rows in heads:
            cut = int(rows.column(0).to_numpy().searchsorted(horizon, side="right"))
            if cut:
                taken.append(rows.slice(0, cut))
            rest = rows.slice(cut) if cut < rows.num_rows else next(stream, None)
            if rest is not None:
                left.append((stream, rest))
        heads = left
        if len(taken) == 1:
            yield taken[0]
        else:
            yield pa.Table.from_batches(taken).sort_by("offset").combine_chunks().to_batches()[0]


def _last(rows: pa.RecordBatch) -> int:
    return int(rows.column(0)[-1].as_py())


def _reaches(parquet: pq.ParquetFile, group: int, offset: int) -> bool:
    """Whether a row group can hold a record at or after `offset`, by its statistics."""
    statistics = parquet.metadata.row_group(group).column(0).statistics
    return statistics is None or not statistics.has_min_max or statistics.max >= offset
