"""A topic into a DuckDB table, as a stand-in for Druid, Pinot, ClickHouse: every record once, however often a bundle is tried.

    python -m pipelines.to_duckdb pins.duckdb --runner=FnApiRunner
    python -c 'import duckdb; print(duckdb.connect("pins.duckdb").sql("from records"))'

Run it twice, kill it and run it again: the table is the same. Its key is (topic, partition, offset), which a record keeps in
either store and for ever, so a row that is there already is left alone. Columns of Parquet go in as columns (docs/arrow.md). The
file is on one machine; so are the workers. All other arguments are Beam's pipeline options; what to read stands on top.
"""

import sys
from collections.abc import Sequence
from datetime import timedelta

import apache_beam as beam
import duckdb
import pyarrow as pa
import tenacity

from beam_unified import Archive, JsonField, Kafka, ReadUnified, StopPosition
from beam_unified.event_time import TimestampFn
from beam_unified.stores import ArchiveSource, KafkaSource
from pipelines.bundle_sink import PATIENCE_S, BundleSink, run

TOPIC = "published_pins"
KAFKA = Kafka("broker:9092")
ARCHIVE = Archive("s3://company-logs/merced")
EVENT_TIME = JsonField("published_at", unit="ms")

TABLE = """
CREATE TABLE IF NOT EXISTS records (
    topic VARCHAR, "partition" INTEGER, "offset" BIGINT, event_time TIMESTAMPTZ, key BLOB, value BLOB,
    PRIMARY KEY (topic, "partition", "offset")
)"""

INSERT = """
INSERT OR IGNORE INTO records
SELECT topic, "partition", "offset", event_time, key, value FROM incoming"""

TURN = tenacity.retry(
    retry=tenacity.retry_if_exception_type(duckdb.IOException),  # another process has the file
    wait=tenacity.wait_random(0.01, 0.1),
    stop=tenacity.stop_after_delay(PATIENCE_S),
    reraise=True,
)


class Upsert(BundleSink):
    """Batches -> rows that were not there.

    Args:
        path: The file; made when it is missing.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    @TURN
    def commit(self, rows: pa.Table) -> None:
        """The file is open for as long as that takes, so that others get their turn."""
        with duckdb.connect(self._path) as connection:
            connection.begin()
            connection.execute(TABLE)
            connection.register("incoming", rows)
            connection.execute(INSERT)
            connection.commit()


def build(
    pipeline: beam.Pipeline,
    path: str,
    topic: str = TOPIC,
    *,
    kafka: KafkaSource = KAFKA,
    archive: ArchiveSource = ARCHIVE,
    timestamp_fn: TimestampFn = EVENT_TIME,
    stop: StopPosition | None = None,
) -> None:
    """The pipeline. Without `stop` the table follows the topic."""
    batches = pipeline | ReadUnified(
        topic,
        kafka,
        archive,
        timestamp_fn=timestamp_fn,
        max_out_of_orderness=timedelta(minutes=5),
        stop=stop,
        output="arrow",
    )
    _ = batches | "To DuckDB" >> beam.ParDo(Upsert(path))


def main(arguments: Sequence[str]) -> None:
    """All that there is now."""
    run(build, __doc__, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
