"""Reads one committed flush: its parts, merged by offset, checked against the commit.

It knows nothing of other flushes, of positions or of Kafka. What it does not notice: a file that was edited and kept its
size, its number of rows and good offsets, for a commit holds no hash of the content.

A flush spans the hour folders of its records, and late events lie in the folder of their own hour, so the offsets of its
parts interleave. Each part is a stream of row batches in offset order; a step of the merge takes, from every stream, the
rows up to the smallest "last offset" of their current batches, and sorts those. Nothing is done row by row.

Rows are fetched and decoded in threads, a few batches ahead of whoever takes them. Memory stays at `_WHOLE_FILES_BYTES` of files
fetched whole, a compressed row group of each larger file, and `_AHEAD + 1` times `_BATCHES_BYTES` of decoded rows at most,
however large files are; each flush that is opened before its turn (`reading.reader`: one, or a few small ones) adds its whole
files and one batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_unified.archive.ahead import ReadAhead, Threads
from beam_unified.archive.commits import Commit, Part
from beam_unified.archive.rows import ArrowBatch, check_schema, check_values
from beam_unified.archive.storage import Storage
from beam_unified.errors import CorruptArchiveError
from beam_unified.flushes import Flush
from beam_unified.offsets import TopicPartition
from beam_unified.records import Batch

_BATCH_ROWS = 32_768
_AHEAD = 4  # batches: while they are emitted, the next row group of a large file arrives
_BATCHES_BYTES = 32 * 1024 * 1024  # of all parts of a flush together, as far as the file's own figures tell
_WHOLE_FILE_BYTES = 64 * 1024 * 1024  # up to here one GET brings a whole part,
_WHOLE_FILES_BYTES = 128 * 1024 * 1024  # as long as those of a flush take no more than this together

_OFFSETS = "holds offsets twice, out of order or outside of its flush"
_UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises over bytes that are not Parquet. Errors of the storage are of another kind (`storage`)."""


class CommittedFlush:
    """An open flush, positioned at the first record at or after an offset. Implements `stores.FlushReader`."""

    def __init__(self, storage: Storage, tp: TopicPartition, commit: Commit, offset: int, threads: Threads) -> None:
        """Opens every part at once, so that a missing one is noticed before the first record is given.

        Raises:
            CorruptArchiveError: a part is missing, truncated, unreadable, or of another topic.
            ArchiveUnavailableError: the storage does not answer.
        """
        self._tp = tp
        self._current: pa.RecordBatch | None = None
        self._rows: ReadAhead[pa.RecordBatch] | None = None
        self._files: list[pa.NativeFile] = []
        try:
            parts = [_Part(storage, tp, commit.flush, part) for part in commit.parts]
            for part, file in zip(parts, _fetch(storage, parts), strict=True):
                self._files.append(file)
                part.check(file)
        except BaseException:
            self.close()
            raise
        batch_bytes = _BATCHES_BYTES // max(1, len(parts))
        streams = [part.rows(file, offset, batch_bytes) for part, file in zip(parts, self._files, strict=True)]
        rows = streams[0] if len(streams) == 1 else _once(tp, storage, commit, _merge(streams))
        self._rows = ReadAhead(rows, threads, _AHEAD)

    def read(self, max_records: int) -> Batch | None:
        """The next records; None at the end of the flush."""
        rows = self._current
        if rows is None and self._rows is not None:
            rows = next(self._rows, None)
        if rows is None:
            return None
        self._current = rows.slice(max_records) if rows.num_rows > max_records else None
        return ArrowBatch(self._tp, rows.slice(0, max_records))

    def close(self) -> None:
        """Closes the files, when none of them is being read."""
        if self._rows is not None:
            self._rows.close()
        self._rows, self._current = None, None
        while self._files:
            self._files.pop().close()


class _Part:
    """One data file: what its commit says of it, and the errors that name it."""

    def __init__(self, storage: Storage, tp: TopicPartition, flush: Flush, part: Part) -> None:
        self._tp, self._flush, self._part = tp, flush, part
        self._url = storage.url(f"{tp.topic}/{part.path}")
        self.path = f"{tp.topic}/{part.path}"
        self.size_bytes = part.size_bytes

    def check_size(self, size: int | None) -> None:
        """Whether it is there and as long as it should be."""
        if size is None:
            raise self.corrupt("is missing, although its flush is committed")
        if size != self.size_bytes:
            raise self.corrupt(f"has {size} bytes, its commit says {self.size_bytes}: it was truncated or replaced")

    def check(self, file: pa.NativeFile) -> None:
        """Whether it is a Parquet file of this partition, with as many rows as it should have, as far as its footer tells."""
        try:
            parquet = pq.ParquetFile(file)
            wrong = check_schema(parquet.schema_arrow, self._tp)
            rows = parquet.metadata.num_rows
            in_order = wrong is not None or _groups_in_order(parquet.metadata, self._flush)
        except _UNREADABLE as error:
            raise self.corrupt(f"is not a readable Parquet file ({error})") from error
        if wrong is not None:
            raise self.corrupt(wrong)
        if rows != self._part.rows:
            raise self.corrupt(f"has {rows} rows, its commit says {self._part.rows}")
        if not in_order:
            raise self.corrupt(_OFFSETS)

    def rows(self, file: pa.NativeFile, offset: int, batch_bytes: int) -> Iterator[pa.RecordBatch]:
        """Its rows from `offset` on, in batches of about `batch_bytes` at most; never an empty one."""
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=True)
            yield from self._rows(parquet, offset, _batch_rows(parquet.metadata, batch_bytes))
        except _UNREADABLE as error:
            raise self.corrupt(f"cannot be decoded ({error})") from error

    def _rows(self, parquet: pq.ParquetFile, offset: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
        skipped = _groups_below(parquet.metadata, offset)
        wanted = range(skipped, parquet.num_row_groups)
        seen, last = 0, self._flush.start - 1
        for rows in _batches(parquet, wanted, batch_rows):
            offsets = rows.column(0).to_numpy()
            if len(offsets) == 0:
                continue
            if offsets[0] <= last or offsets[-1] >= self._flush.stop or not _increasing(offsets):
                raise self.corrupt(f"{_OFFSETS} (near offset {int(offsets[0])})")
            check_values(rows)
            seen, last = seen + len(offsets), int(offsets[-1])
            first = int(offsets.searchsorted(offset))
            if first < len(offsets):
                yield rows.slice(first)
        if skipped == 0 and seen != self._part.rows:
            raise self.corrupt(f"gave {seen} rows, its commit says {self._part.rows}")

    def corrupt(self, what: str) -> CorruptArchiveError:
        """The error about this file."""
        return CorruptArchiveError(
            f"{self._tp}: {self._url} {what}. It belongs to offsets {self._flush.start} to {self._flush.stop - 1}: "
            "restore it from a copy, or remove the flush's commit object so that the flush counts as not there."
        )


def _fetch(storage: Storage, parts: Sequence[_Part]) -> Iterator[pa.NativeFile]:
    """The files, in order: whole ones, fetched side by side before the first is given, or ones to read piece by piece."""
    whole, budget = [], _WHOLE_FILES_BYTES
    for part in sorted(parts, key=lambda part: part.size_bytes):
        if part.size_bytes <= min(_WHOLE_FILE_BYTES, budget):
            whole.append(part.path)
            budget -= part.size_bytes
    contents = dict(zip(whole, storage.get_all(whole), strict=True))
    for part in parts:
        if part.path in contents:
            content = contents.pop(part.path)
            part.check_size(None if content is None else len(content))
            yield pa.BufferReader(content)
        else:
            yield _open(storage, part)


def _open(storage: Storage, part: _Part) -> pa.NativeFile:
    try:
        file, size = storage.open(part.path)
    except FileNotFoundError:
        part.check_size(None)
        raise
    try:
        part.check_size(size)
    except CorruptArchiveError:
        file.close()
        raise
    return file


def _batches(parquet: pq.ParquetFile, groups: Sequence[int], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Row group by row group: what `pre_buffer` fetches of one, in a request or a few, is held until the batches are through."""
    for group in groups:
        yield from parquet.iter_batches(batch_rows, row_groups=[group])


def _groups_in_order(metadata: pq.FileMetaData, flush: Flush) -> bool:
    """Whether the row groups follow one another inside of the flush, by their statistics; those that are skipped, too."""
    last = flush.start - 1
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        statistics = group.column(0).statistics
        if statistics is not None and statistics.has_min_max:
            wide_enough = statistics.max - statistics.min >= group.num_rows - 1
            if statistics.min <= last or statistics.max >= flush.stop or not wide_enough:
                return False
            last = statistics.max
    return True


def _groups_below(metadata: pq.FileMetaData, offset: int) -> int:
    """How many row groups at the beginning hold only records before `offset`, by their statistics."""
    for number in range(metadata.num_row_groups):
        statistics = metadata.row_group(number).column(0).statistics
        if statistics is None or not statistics.has_min_max or statistics.max >= offset:
            return number
    return int(metadata.num_row_groups)


def _batch_rows(metadata: pq.FileMetaData, batch_bytes: int) -> int:
    """Rows a batch, so that those of large records do not fill the memory."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    row_bytes = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1.0)
    return max(1, min(_BATCH_ROWS, int(batch_bytes / max(1.0, row_bytes))))


def _increasing(offsets: "np.ndarray") -> bool:
    return bool((offsets[1:] > offsets[:-1]).all())


@dataclass(slots=True)
class _Head:
    """A stream of the merge: the rows it stands at, and their offsets."""

    stream: Iterator[pa.RecordBatch]
    rows: pa.RecordBatch
    offsets: "np.ndarray"


def _head(stream: Iterator[pa.RecordBatch], rows: pa.RecordBatch | None = None) -> list[_Head]:
    """The stream at `rows`, or at its next rows; empty at its end."""
    rows = next(stream, None) if rows is None else rows
    return [] if rows is None else [_Head(stream, rows, rows.column(0).to_numpy())]


def _merge(streams: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Rows of all streams by offset."""
    heads = [head for stream in streams for head in _head(stream)]
    while heads:
        horizon = min(head.offsets[-1] for head in heads)
        taken: list[pa.RecordBatch] = []
        left: list[_Head] = []
        for head in heads:
            cut = int(head.offsets.searchsorted(horizon, side="right"))
            if cut == 0:
                left.append(head)
                continue
            taken.append(head.rows.slice(0, cut))
            left += _head(head.stream, head.rows.slice(cut) if cut < len(head.offsets) else None)
        heads = left
        yield from taken if len(taken) == 1 else pa.Table.from_batches(taken).sort_by("offset").to_batches()


def _once(
    tp: TopicPartition, storage: Storage, commit: Commit, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Passes rows on as long as no offset comes twice: in two parts, since each part has been checked by itself."""
    last = -1
    for rows in batches:
        offsets = rows.column(0).to_numpy()
        if offsets[0] <= last or not _increasing(offsets):
            flush = commit.flush
            raise CorruptArchiveError(
                f"{tp}: two parts of the flush of offsets {flush.start} to {flush.stop - 1} under {storage.url(tp.topic)} hold "
                f"the same offset, near {int(offsets[0])}: {', '.join(part.path for part in commit.parts)}. Restore them from "
                "a copy, or remove the flush's commit object so that the flush counts as not there."
            )
        last = int(offsets[-1])
        yield rows
