"""Writes a flush: its parts first, its commit object last. For tests and demos; the archiver will build on it.

The content is a function of the records and the range alone: whoever retries overwrites with the same bytes. It does
not read Kafka, does not decide when a flush is due, and holds all records of a flush in memory.
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from beam_unified.archive import commits, layout
from beam_unified.archive.archive import Archive
from beam_unified.archive.commits import Commit, Part
from beam_unified.archive.layout import PartName
from beam_unified.archive.rows import table_of
from beam_unified.archive.storage import Storage
from beam_unified.flushes import Flush
from beam_unified.offsets import TopicPartition
from beam_unified.records import Record

_ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 64 * 1024 * 1024  # of large records fewer, so that nobody must hold more than this to read one


def write_flush(
    archive: Archive,
    tp: TopicPartition,
    records: Iterable[Record],
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
        ValueError: records out of order, outside of the range or of another partition; an empty range.
        ArchiveUnavailableError: the storage does not answer. The flush is not there, or there as a whole.
    """
    rows = list(records)
    _check(rows, tp, start, stop, max_rows_per_part)
    times = [record.timestamp for record in rows if record.timestamp is not None]
    flush = Flush(start, stop, min(times, default=None), max(times, default=None))
    topic = layout.check_topic(tp.topic)
    name = f"{topic}/{layout.commits_folder(tp.partition)}/{layout.commit_name(flush)}"
    _commit(tp, flush, isolation_level, ())  # what would be refused at the end is refused before anything is written
    storage = archive.storage()
    parts = _write_parts(storage, tp, flush, _by_hour(rows, max_rows_per_part))
    commit = _commit(tp, flush, isolation_level, parts)
    storage.put(name, commits.encode(commit))
    return commit


def _check(rows: Sequence[Record], tp: TopicPartition, start: int, stop: int, max_rows: int) -> None:
    if max_rows < 1:
        raise ValueError(f"max_rows_per_part is at least 1, got {max_rows}")
    if any(one.offset >= other.offset for one, other in pairwise(rows)):
        raise ValueError(f"{tp}: records of a flush must be in offset order, each offset once")
    if rows and not start <= rows[0].offset <= rows[-1].offset < stop:
        raise ValueError(
            f"{tp}: records {rows[0].offset} to {rows[-1].offset} are outside of the flush [{start}, {stop})"
        )
    for record in rows:
        if (record.topic, record.partition) != (tp.topic, tp.partition):
            raise ValueError(
                f"{tp}: the record at offset {record.offset} is one of {TopicPartition(record.topic, record.partition)}"
            )


def _commit(tp: TopicPartition, flush: Flush, isolation_level: str, parts: Iterable[Part]) -> Commit:
    return Commit(
        topic=tp.topic, partition=tp.partition, flush=flush, isolation_level=isolation_level, parts=tuple(parts)
    )


def _by_hour(records: Sequence[Record], max_rows: int) -> list[tuple[int | None, Sequence[Record]]]:
    """Records per hour folder, in pieces of at most `max_rows`; hours ascending, records without a time last."""
    hours: dict[int | None, list[Record]] = defaultdict(list)
    for record in records:
        hours[layout.hour_of(record.timestamp)].append(record)
    ordered = sorted(hours.items(), key=lambda entry: (entry[0] is None, entry[0] or 0))
    return [(hour, rows[at : at + max_rows]) for hour, rows in ordered for at in range(0, len(rows), max_rows)]


def _write_parts(
    storage: Storage, tp: TopicPartition, flush: Flush, pieces: list[tuple[int | None, Sequence[Record]]]
) -> list[Part]:
    parts = []
    for number, (hour, rows) in enumerate(pieces, start=1):
        name = PartName(partition=tp.partition, start=flush.start, stop=flush.stop, part=number, parts=len(pieces))
        path = layout.part_path(name, hour)
        content = _parquet(table_of(tp, rows))
        storage.put(f"{tp.topic}/{path}", content)
        parts.append(Part(path=path, size_bytes=len(content), rows=len(rows)))
    return parts


def _parquet(table: pa.Table) -> bytes:
    rows = min(_ROW_GROUP_ROWS, max(1, table.num_rows * _ROW_GROUP_BYTES // max(1, table.nbytes)))
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd", row_group_size=rows, write_page_checksum=True)
    return content.getvalue()
