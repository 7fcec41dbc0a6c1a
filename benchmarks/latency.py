"""The archive on S3 with 20 ms more a request against the same without: whether reading ahead hides it.

Both go through the same proxy, in turn. Flushes as a busy partition has them, and small ones; and files that are read a row
group a request.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import Archive, KafkaTimestamp, ReadUnified, Record, Stop, TopicPartition
from beam_unified.archive import reader
from beam_unified.archive.writer import write_flush
from beam_unified.records import TimestampType
from beam_unified.testing import InMemoryLog
from benchmarks import observe
from benchmarks.delay import delayed
from benchmarks.observe import Stopwatch
from benchmarks.reads import on_direct
from integration.services.object_store import ObjectStore

_DELAY_S = 0.02
_TOPIC = "latency"
_EPOCH_MS = 1_790_000_000_000
_FIGURES = {"flushes_of_50000": (50_000, False), "flushes_of_10000": (10_000, False), "row_groups": (200_000, True)}
_OUTPUTS = ("record", "arrow")


def measure(store: ObjectStore, *, records: int = 200_000, runs: int = 3) -> dict[str, dict[str, float]]:
    """Figure -> output -> rate with latency, divided by the rate without; the median of so many runs."""
    ratios: dict[str, dict[str, float]] = {}
    for figure, (flush, piece_by_piece) in _FIGURES.items():
        root = f"s3://{store.make_bucket('latency')}/archive"
        _fill(Archive(root, store.storage_options), records=records, flush=flush)
        pairs: dict[str, list[float]] = {output: [] for output in _OUTPUTS}
        with (
            _row_groups() if piece_by_piece else _nothing(),
            _proxied(store, 0) as near,
            _proxied(store, _DELAY_S) as far,
        ):
            for output in [output for _ in range(runs) for output in _OUTPUTS]:
                rates = [_read(Archive(root, options), output, records).rate for options in (near, far)]
                pairs[output].append(rates[1] / rates[0])
        ratios[figure] = {output: round(statistics.median(found), 3) for output, found in pairs.items()}
    return ratios


def _fill(archive: Archive, *, records: int, flush: int) -> None:
    tp, kind = TopicPartition(_TOPIC, 0), TimestampType.CREATE_TIME
    for start in range(0, records, flush):
        rows = [
            Record(b"k", (b"%012d" % i * 15)[:180], (), _TOPIC, 0, i, _EPOCH_MS + i, kind, "kafka")
            for i in range(start, start + flush)
        ]
        write_flush(archive, tp, rows, start=start, stop=start + flush)


def _read(archive: Archive, output: Any, records: int) -> Stopwatch:
    watch, pipeline = observe.restart(), beam.Pipeline(options=PipelineOptions([]))
    log = InMemoryLog(_TOPIC)
    log.expire(0, records)
    _ = (
        pipeline
        | ReadUnified(
            _TOPIC,
            log.kafka,
            archive,
            timestamp_fn=KafkaTimestamp(),
            stop=Stop.offsets({0: records}),
            output=output,
            on_progress=observe.see,
        )
        | "Touch" >> beam.ParDo(observe.Touch())
    )
    on_direct(pipeline)
    if watch.records != records:
        raise AssertionError(f"{watch.records} of {records} records were read")
    return watch


@contextmanager
def _proxied(store: ObjectStore, seconds: float) -> Iterator[dict[str, Any]]:
    """Options of the store through a proxy."""
    host, port = store.endpoint_url.removeprefix("http://").split(":")
    with delayed(host, int(port), seconds) as here:
        options = store.storage_options
        yield {**options, "client_kwargs": {**options["client_kwargs"], "endpoint_url": f"http://127.0.0.1:{here}"}}


@contextmanager
def _row_groups() -> Iterator[None]:
    """As if files were too large to be fetched whole."""
    whole, reader._WHOLE_FILE_BYTES = reader._WHOLE_FILE_BYTES, 0  # noqa: SLF001
    try:
        yield
    finally:
        reader._WHOLE_FILE_BYTES = whole  # noqa: SLF001


@contextmanager
def _nothing() -> Iterator[None]:
    yield
