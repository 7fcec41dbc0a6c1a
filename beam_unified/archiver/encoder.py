"""Records of one flush to Parquet files, an hour each, on local disk. The bytes are a function of the records alone.

Row groups are cut where the records say so (65,536 rows, or 16 MiB of keys, values and headers), never where a fetch happened to
end: whoever reads the same records in other portions gets the same files. In memory is at most what one row group of each open
hour takes; encoded groups are in files of a folder that goes with the encoder.
"""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_unified.archive import layout
from beam_unified.archive.commits import Commit, Part
from beam_unified.archive.layout import PartName
from beam_unified.archive.rows import schema_of, table_of_columns
from beam_unified.flushes import Flush
from beam_unified.offsets import TopicPartition
from beam_unified.records import Batch, Columns

WRITER = f"1 pyarrow {pa.__version__}"
"""Goes up with every change that may change a byte."""

_GROUP_ROWS = 65_536
_GROUP_BYTES = 16 * 1024 * 1024
_ROW_OVERHEAD = 32  # what a row counts beside its bytes
_PENDING_BYTES = 128 * 1024 * 1024  # of all open hours together: beyond, a flush is due
_HOUR_MS = 3_600_000


class Encoded:
    """A flush that is encoded and not written yet: its commit, and the local file and digest of each part."""

    def __init__(self, commit: Commit, files: tuple[str, ...], sha256: tuple[str, ...]) -> None:
        """Belongs to its encoder: gone when that is closed."""
        self.commit, self.files, self.sha256 = commit, files, sha256


class FlushEncoder:
    """One flush in the making. Not thread safe. Close it: it holds files."""

    def __init__(
        self, tp: TopicPartition, start: int, *, group_rows: int = _GROUP_ROWS, group_bytes: int = _GROUP_BYTES
    ) -> None:
        """Begins at the position `start`. Other row groups than the writer's are for tests."""
        self.tp, self.start = tp, start
        self._group = group_rows, group_bytes
        self.records = 0
        self._folder = tempfile.TemporaryDirectory(prefix="beam-unified-flush-", ignore_cleanup_errors=True)
        self._hours: dict[int | None, _Hour] = {}
        self._first_ms: int | None = None
        self._last_ms: int | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of Parquet so far."""
        return sum(hour.written for hour in self._hours.values())

    @property
    def full(self) -> bool:
        """Whether too many hours are open for the memory that there is: a flush is due, whatever its limits."""
        return sum(hour.pending_bytes for hour in self._hours.values()) > _PENDING_BYTES

    def add(self, batch: Batch) -> None:
        """The next records, in offset order."""
        table = table_of_columns(self.tp, Columns.of(batch))
        self.records += table.num_rows
        times = table.column(1).cast(pa.int64())
        bounds = pc.min_max(times).as_py()
        if bounds["min"] is not None:
            self._first_ms = bounds["min"] if self._first_ms is None else min(self._first_ms, bounds["min"])
            self._last_ms = bounds["max"] if self._last_ms is None else max(self._last_ms, bounds["max"])
        for hour, rows in _by_hour(table, times, bounds["min"], bounds["max"]):
            if hour not in self._hours:
                path = Path(self._folder.name) / f"{len(self._hours)}.parquet"
                self._hours[hour] = _Hour(path.as_posix(), schema_of(self.tp), *self._group)
            self._hours[hour].add(rows)

    def finish(self, stop: int, isolation_level: str) -> Encoded:
        """Ends the flush at the position `stop`. Nothing may be added any more."""
        tp = self.tp
        hours = sorted(self._hours, key=lambda hour: (hour is None, hour or 0))
        parts, files, digests = list[Part](), list[str](), list[str]()
        for number, hour in enumerate(hours, start=1):
            name = PartName(partition=tp.partition, start=self.start, stop=stop, part=number, parts=len(hours))
            found = self._hours[hour]
            size, digest = found.finish()
            parts.append(Part(path=layout.part_path(name, hour), size_bytes=size, rows=found.rows))
            files.append(found.path)
            digests.append(digest)
        commit = Commit(
            topic=tp.topic,
            partition=tp.partition,
            flush=Flush(self.start, stop, self._first_ms, self._last_ms),
            isolation_level=isolation_level,
            parts=tuple(parts),
        )
        return Encoded(commit, tuple(files), tuple(digests))

    def close(self) -> None:
        """Removes the files. Idempotent."""
        for hour in self._hours.values():
            hour.close()
        self._folder.cleanup()


class _Hour:
    """One file: the records of one hour."""

    def __init__(self, path: str, schema: pa.Schema, group_rows: int, group_bytes: int) -> None:
        self.path, self.rows = path, 0
        self._group_rows, self._group_bytes = group_rows, group_bytes
        self.pending_bytes = 0
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._sink = pa.OSFile(path, "wb")
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd", write_page_checksum=True)

    @property
    def written(self) -> int:
        return 0 if self._sink.closed else int(self._sink.tell())

    def add(self, rows: pa.Table) -> None:
        self.rows += rows.num_rows
        self._pending.append(rows)
        self._pending_rows += rows.num_rows
        self.pending_bytes += rows.nbytes
        if self._pending_rows >= self._group_rows or self.pending_bytes >= self._group_bytes:
            self._cut()

    def finish(self) -> tuple[int, str]:
        """Size and SHA-256."""
        self._cut()
        for rest in self._pending:
            self._write(rest)
        self._pending = []
        self._writer.close()
        self._sink.close()
        with Path(self.path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Path(self.path).stat().st_size, digest

    def close(self) -> None:
        if not self._sink.closed:
            self._writer.close()
            self._sink.close()

    def _cut(self) -> None:
        """Writes every row group that is complete; one table is left, of less than a group."""
        if not self._pending:
            return
        table = pa.concat_tables(self._pending).combine_chunks()
        ends, at = np.cumsum(_row_bytes(table)), 0
        while at < table.num_rows:
            base = 0 if at == 0 else ends[at - 1]
            stop = min(at + self._group_rows, int(ends.searchsorted(base + self._group_bytes)) + 1)
            if stop > table.num_rows or (stop == table.num_rows and not self._complete(ends, at, base)):
                break
            self._write(table.slice(at, stop - at))
            at = stop
        rest = table.slice(at)
        self._pending = [rest] if rest.num_rows else []
        self._pending_rows, self.pending_bytes = rest.num_rows, rest.nbytes

    def _complete(self, ends: "np.ndarray", at: int, base: int) -> bool:
        """Whether the rows from `at` to the last one fill a group."""
        return len(ends) - at >= self._group_rows or bool(ends[-1] - base >= self._group_bytes)

    def _write(self, rows: pa.Table) -> None:
        # Chunks and offsets into shared buffers would show in the pages: a copy that begins at its own first row does not.
        copy = pa.concat_tables([rows.take(pa.array(np.arange(rows.num_rows)))]).combine_chunks()
        self._writer.write_table(copy, row_group_size=rows.num_rows)


def _by_hour(
    table: pa.Table, times: pa.ChunkedArray, first_ms: int | None, last_ms: int | None
) -> list[tuple[int | None, pa.Table]]:
    """Rows per hour, in order. Most batches are of one."""
    if first_ms is None or last_ms is None:
        return [(None, table)] if table.num_rows else []
    if times.null_count == 0 and layout.hour_of(first_ms) == layout.hour_of(last_ms):
        return [(layout.hour_of(first_ms), table)]
    found = list[tuple[int | None, pa.Table]]()
    if times.null_count:
        found.append((None, table.filter(times.is_null())))
        table = table.filter(times.is_valid())
        times = times.drop_null()
    hours = times.to_numpy() // _HOUR_MS
    return found + [(int(hour), table.filter(pa.array(hours == hour))) for hour in np.unique(hours)]


def _row_bytes(table: pa.Table) -> "np.ndarray":
    """What each row takes, as far as where it is cut is concerned."""
    sizes = np.full(table.num_rows, _ROW_OVERHEAD, np.int64)
    for column in (3, 4):
        sizes += pc.fill_null(pc.binary_length(table.column(column)), 0).to_numpy()
    for headers in table.column(5).chunks:  # one: the table is combined
        names, values = headers.flatten().flatten()
        lengths = pc.fill_null(pc.binary_length(values), 0).to_numpy() + pc.binary_length(names).to_numpy()
        ends = np.concatenate([[0], np.cumsum(lengths)])
        bounds = headers.offsets.to_numpy() - headers.offsets[0].as_py()
        sizes += np.diff(ends[bounds])
    return sizes
