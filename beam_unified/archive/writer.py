"""Writes a flush: its parts first, its commit object last. For tests and demos; the archiver will build on it.

The content is a function of the records and the range alone: whoever retries overwrites with the same bytes.
"""

import io
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from beam_unified.archive import commits, layout
from beam_unified.archive.archive import Archive
from beam_unified.archive.commits import Commit, Part
from beam_unified.archive.layout import PartName
from beam_unified.archive.rows import table_of
from beam_unified.flushes import Flush
from beam_unified.offsets import TopicPartition
from beam_unified.records import Record

_ROW_GROUP_ROWS = 65_536


def write_flush(
    archive: Archive,
    tp: TopicPartition,
    records: Sequence[Record],
    *,
    start: int,
    stop: int,
    isolation_level: str = "read_committed",
    max_rows_per_part: int = 1_000_000,
) -> Commit:
    """Writes the records of `[start, stop)` as one flush and commits it.

    Args:
        archive: Where to.
        tp: The partition they are of.
        records: All records of the range, in offset order. None at all is a flush that is one hole.
        start: Position before the flush.
        stop: Position after it: holes at its end are inside.
        isolation_level: What the consumer saw that read them.
        max_rows_per_part: A longer hour is cut into several files.

    Raises:
        ValueError: records out of order or outside of the range.
    """
    offsets = [record.offset for record in records]
    if any(offset >= following for offset, following in pairwise(offsets)):
        raise ValueError(f"{tp}: records of a flush must be in offset order, each offset once")
    if offsets and not start <= offsets[0] <= offsets[-1] < stop:
        raise ValueError(f"{tp}: records {offsets[0]} to {offsets[-1]} are outside of the flush [{start}, {stop})")
    times = [record.timestamp for record in records if record.timestamp is not None]
    flush = Flush(start, stop, min(times, default=None), max(times, default=None))
    files, root = archive.file_system()
    folder = f"{root}/{layout.check_topic(tp.topic)}"
    commit = Commit(
        topic=tp.topic,
        partition=tp.partition,
        flush=flush,
        isolation_level=isolation_level,
        parts=tuple(_write_parts(files, folder, tp, flush, _by_hour(records, max_rows_per_part))),
    )
    path = f"{folder}/{layout.commits_folder(tp.partition)}/{layout.commit_name(flush)}"
    _put(files, path, commits.encode(commit))
    return commit


def _by_hour(records: Sequence[Record], max_rows: int) -> list[tuple[int | None, Sequence[Record]]]:
    """Records per hour folder, in pieces of at most `max_rows`; hours ascending, records without a time last."""
    hours: dict[int | None, list[Record]] = defaultdict(list)
    for record in records:
        hours[layout.hour_of(record.timestamp)].append(record)
    ordered = sorted(hours.items(), key=lambda entry: (entry[0] is None, entry[0] or 0))
    return [(hour, rows[at : at + max_rows]) for hour, rows in ordered for at in range(0, len(rows), max_rows)]


def _write_parts(
    files: AbstractFileSystem,
    folder: str,
    tp: TopicPartition,
    flush: Flush,
    pieces: list[tuple[int | None, Sequence[Record]]],
) -> list[Part]:
    parts = []
    for number, (hour, rows) in enumerate(pieces, start=1):
        name = PartName(partition=tp.partition, start=flush.start, stop=flush.stop, part=number, parts=len(pieces))
        path = layout.part_path(name, hour)
        content = io.BytesIO()
        pq.write_table(table_of(tp, rows), content, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
        _put(files, f"{folder}/{path}", content.getvalue())
        parts.append(Part(path=path, size_bytes=content.tell(), rows=len(rows)))
    return parts


def _put(files: AbstractFileSystem, path: str, content: bytes) -> None:
    """Writes a file as a whole: object stores do so anyway, a local one by way of a hidden name beside it."""
    if isinstance(files, LocalFileSystem):
        folder, _, name = path.rpartition("/")
        files.pipe_file(f"{folder}/.{name}", content)
        files.mv(f"{folder}/.{name}", path)
    else:
        files.pipe_file(path, content)
