"""The reads that are compared: plain loops, and `ReadUnified` on two runners, over the same records in one process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from confluent_kafka import Producer
from kafka import KafkaConsumer
from kafka import TopicPartition as ClientTopicPartition

from beam_unified import Archive, Kafka, KafkaTimestamp, ReadUnified, Record, Stop, TopicPartition
from beam_unified.archive.writer import write_flush
from beam_unified.records import TimestampType
from beam_unified.testing import InMemoryLog
from benchmarks import observe
from benchmarks.observe import Stopwatch
from integration.services.flink import flink_pipeline_options
from integration.services.kafka import KafkaBroker

Store = Literal["archive", "kafka", "kafka_confluent"]
Output = Literal["record", "value", "arrow"]

_BATCH = 8_192
_EPOCH_MS = 1_790_000_000_000


@dataclass(frozen=True)
class Data:
    """The same records twice: in one archived flush on local disk, and in a topic of one partition."""

    archive: Archive
    files: tuple[Path, ...]
    bootstrap_servers: str
    topic: str
    records: int


def prepare(folder: Path, broker: KafkaBroker, *, records: int) -> Data:
    """Writes the data: values of 180 bytes, keys, Kafka timestamps, lz4 on the broker, zstd in the archive."""
    topic = broker.create_topic("bench")
    values = [(b"%012d" % i + b"pin published " * 12)[:180] for i in range(records)]
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "compression.type": "lz4", "linger.ms": 50,
         "queue.buffering.max.messages": 2 * records}
    )  # fmt: skip
    for i, value in enumerate(values):
        producer.produce(topic, value, b"%d" % (i % 100), 0, timestamp=_EPOCH_MS + i)
    producer.flush()
    archive, tp = Archive(folder.as_posix()), TopicPartition(topic, 0)
    kind = TimestampType.CREATE_TIME
    rows = [Record(b"%d" % (i % 100), v, (), topic, 0, i, _EPOCH_MS + i, kind, "kafka") for i, v in enumerate(values)]
    commit = write_flush(archive, tp, rows, start=0, stop=records)
    files = tuple(folder / topic / part.path for part in commit.parts)
    return Data(archive, files, broker.bootstrap_servers, topic, records)


def plain_archive(data: Data, output: Output) -> Stopwatch:
    """A pyarrow loop that builds the same: (value, time), or every field of a record, row by row; or batches alone."""
    watch = Stopwatch()
    if output == "arrow":
        for file in data.files:
            for rows in pq.ParquetFile(file).iter_batches():
                watch.batch(rows.num_rows)
        return watch
    for file in data.files:
        for rows in pq.ParquetFile(file).iter_batches(batch_size=_BATCH):
            values = rows.column("value").to_pylist()
            times = rows.column("timestamp").cast(pa.int64()).to_numpy().tolist()
            if output == "value":
                for _ in zip(values, times, strict=True):
                    pass
            else:
                offsets = rows.column("offset").to_numpy().tolist()
                keys = rows.column("key").to_pylist()
                kinds = rows.column("timestamp_type").to_pylist()
                for key, value, offset, time, kind in zip(keys, values, offsets, times, kinds, strict=True):
                    Record(key, value, (), data.topic, 0, offset, time, kind, "archive")
            watch.batch(len(values))
    return watch


def plain_kafka(data: Data, output: Output) -> Stopwatch:
    """A kafka-python poll loop that touches the same fields of every record."""
    watch = Stopwatch()
    tp = ClientTopicPartition(data.topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=data.bootstrap_servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 * 1024 * 1024,
        isolation_level="read_committed",
    )
    consumer.assign([tp])
    consumer.seek(tp, 0)
    while watch.records < data.records:
        for records in consumer.poll(timeout_ms=500, max_records=_BATCH).values():
            if output == "value":
                for record in records:
                    _ = record.value, record.timestamp
            else:
                for record in records:
                    _ = record.key, record.value, record.headers, record.offset, record.timestamp
            watch.batch(len(records))
    consumer.close(autocommit=False)
    return watch


def beam_read(data: Data, store: Store, output: Output, run: Callable[[beam.Pipeline], None]) -> Stopwatch:
    """`ReadUnified` and the cheapest stage behind it."""
    watch = observe.restart()
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    archive = data.archive if store == "archive" else None
    kafka = Kafka(data.bootstrap_servers, client="confluent" if store == "kafka_confluent" else "kafka-python")
    if archive is not None:  # a Kafka that holds nothing, so that only the archive is measured
        log = InMemoryLog(data.topic)
        log.expire(0, data.records)
        kafka = log.kafka  # type: ignore[assignment]  # both are KafkaSource
    _ = (
        pipeline
        | ReadUnified(
            data.topic,
            kafka,
            archive,
            timestamp_fn=KafkaTimestamp(),
            stop=Stop.offsets({0: data.records}),
            output=output,
            on_progress=observe.see,
        )
        | "Touch" >> beam.ParDo(observe.Touch())
    )
    run(pipeline)
    if watch.records != data.records:
        raise AssertionError(f"{watch.records} of {data.records} records were read from {store}")
    return watch


def on_direct(pipeline: beam.Pipeline) -> None:
    """FnApiRunner: what DirectRunner is without Prism."""
    FnApiRunner().run_pipeline(pipeline, pipeline.options).wait_until_finish()


def on_flink(job_endpoint: str) -> Callable[[beam.Pipeline], None]:
    """A Flink cluster, streaming, one subtask, Python in this process."""
    options = flink_pipeline_options(
        job_endpoint, parallelism=1, checkpointing_interval=None, restarts=0, extra=["--max_bundle_time_mills=100"]
    )

    def run(pipeline: beam.Pipeline) -> None:
        configured = PipelineOptions(options)
        runner = configured.view_as(beam.options.pipeline_options.StandardOptions).runner
        beam.runners.create_runner(runner).run_pipeline(pipeline, configured).wait_until_finish()

    return run
