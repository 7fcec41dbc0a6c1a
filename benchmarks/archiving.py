"""`ArchiveTopic` against a plain loop that polls Kafka and writes the same Parquet: records a second, to local disk.

Both are timed from the end of their first fetch to the moment when all is in its place; the archiver's time holds encoding,
digests, claims, uploads and commits.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from kafka import KafkaConsumer
from kafka import TopicPartition as ClientTopicPartition

from beam_unified import Archive, ArchiveTopic, Kafka, Stop, TopicPartition
from beam_unified.archive.rows import SCHEMA
from beam_unified.stores import Fetched, KafkaLog, OutOfRange
from benchmarks import observe
from benchmarks.observe import Stopwatch
from benchmarks.reads import Data

_FETCH_RECORDS = 10_000
_GROUP_ROWS = 65_536


class TimedKafka(Kafka):
    """Kafka whose fetches the stopwatch sees."""

    def connect(self) -> KafkaLog:  # as much of it as is used
        """A connection that tells."""
        log = super().connect()
        fetch = log.fetch

        def timed(tp: TopicPartition, offset: int, **options: object) -> Fetched | OutOfRange:
            found = fetch(tp, offset, **options)  # type: ignore[arg-type]
            if isinstance(found, Fetched) and found.batch is not None:
                observe.current.batch(len(found.batch))
            return found

        log.fetch = timed  # type: ignore[method-assign]
        return log


def measure(
    folder: Path, data: Data, runners: dict[str, Callable[[beam.Pipeline], None]], *, runs: int
) -> dict[str, object]:
    """Ratios of each runner, and what they are made of."""
    rates: dict[str, list[float]] = {"plain": [], **{name: [] for name in runners}}
    for number in range(runs):
        rates["plain"].append(plain(data, folder / f"plain-{number}.parquet").rate)
        for name, run in runners.items():
            rates[name].append(archived(data, folder / f"archived-{name}-{number}", run).rate)
    ratios = {
        name: round(statistics.median([one / other for one, other in zip(found, rates["plain"], strict=True)]), 3)
        for name, found in rates.items()
    }
    return {
        "archiver_ratio": ratios,
        "archiver_records_per_s": {
            name: ", ".join(str(round(rate)) for rate in found) for name, found in rates.items()
        },
    }


def plain(data: Data, path: Path) -> Stopwatch:
    """Polls, makes columns, writes row groups."""
    watch, tp = Stopwatch(), ClientTopicPartition(data.topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=data.bootstrap_servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 * 1024 * 1024,
        isolation_level="read_committed",
    )
    consumer.assign([tp])
    consumer.seek(tp, 0)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        pending, rows = list[pa.Table](), 0
        while watch.records < data.records:
            for records in consumer.poll(timeout_ms=500, max_records=_FETCH_RECORDS).values():
                pending.append(_table(records))
                rows += len(records)
                if rows >= _GROUP_ROWS:
                    writer.write_table(pa.concat_tables(pending).combine_chunks())
                    pending, rows = [], 0
                watch.batch(len(records))
        if pending:
            writer.write_table(pa.concat_tables(pending).combine_chunks())
    watch.batch(0)
    consumer.close(autocommit=False)
    return watch


def _table(records: list[Any]) -> pa.Table:
    columns = type(records[0])(*zip(*records, strict=True))  # a named tuple of columns
    headers = [[{"key": name, "value": value} for name, value in pairs] for pairs in columns.headers]
    return pa.Table.from_arrays(
        [
            pa.array(columns.offset, pa.int64()),
            pa.array(columns.timestamp, pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
            pa.array(columns.timestamp_type, pa.int8()),
            pa.array(columns.key, pa.binary()),
            pa.array(columns.value, pa.binary()),
            pa.array(headers, SCHEMA.field("headers").type),
        ],
        schema=SCHEMA,
    )


def archived(data: Data, folder: Path, run: Callable[[beam.Pipeline], None]) -> Stopwatch:
    """`ArchiveTopic` up to the end, with its defaults."""
    watch = observe.restart()
    archive, pipeline = Archive(folder.as_posix()), beam.Pipeline()
    _ = pipeline | ArchiveTopic(
        data.topic, TimedKafka(data.bootstrap_servers), archive, stop=Stop.offsets({0: data.records})
    )
    run(pipeline)
    watch.batch(0)
    if archive.connect().index(TopicPartition(data.topic, 0)).stop != data.records or watch.records != data.records:
        raise AssertionError(f"{watch.records} of {data.records} records were archived")
    return watch
