"""What `ordered=False` brings: one archived partition read on Flink by two workers and by one, in processes of their own.

Workers are processes, so what is measured goes through files: each bundle leaves a line with its times and its count.
"""

import json
import os
import statistics
import sys
import time
import uuid
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import Archive, Kafka, KafkaTimestamp, ReadUnified, Record, Stop, TopicPartition
from beam_unified.archive.writer import write_flush
from beam_unified.records import TimestampType
from benchmarks.reads import Data
from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.services.process import Run
from integration.services.workers import worker_pool

FLUSHES = 32
"""Flink deals pieces out by hash: with so many, each worker has about half."""

_JOB = "backfill"
_EPOCH_MS = 1_790_000_000_000
_VALUE = (b"pin published " * 13)[:180]


class Work(beam.DoFn):
    """A stage that costs a few microseconds a record, as parsing does, and notes when it did it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def start_bundle(self) -> None:
        """Counts anew."""
        self._began, self._count = time.time(), 0

    def process(self, value: bytes | None) -> None:
        """One record."""
        assert value is not None
        json.loads(json.dumps({"value": value.decode()}))
        self._count += 1

    def finish_bundle(self) -> None:
        """One line."""
        if self._count:
            with Path(self._folder, f"{os.getpid()}-{id(self)}").open("a") as file:
                file.write(f"{self._began} {time.time()} {self._count}\n")


def measure(run: Run, cluster: FlinkCluster, data: Data, folder: Path, *, runs: int) -> dict[str, object]:
    """Records a second with one worker and with two, and the ratio of each run.

    Args:
        run: Where the worker processes live.
        cluster: With two task managers of one slot each: a worker process is one task manager's.
        data: Its topic is read, from an archive of its own.
        folder: For that archive and for what the workers write.
        runs: How often.

    Raises:
        AssertionError: a record too many or too few, or not as many processes as workers.
    """
    archive = _archive(data, folder / "pieces")
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(runs):
        for workers, found in rates.items():
            print(f"run {number + 1} of {runs}: backfill by {workers}", file=sys.stderr, flush=True)
            with worker_pool(run) as pool:  # of each job its own: Beam ends the workers of the last one late
                options = flink_pipeline_options(
                    cluster.job_endpoint, parallelism=workers, restarts=0, worker_pool=pool,
                    extra=["--finish_bundle_before_checkpointing", "--max_bundle_time_mills=100", f"--job_name={_JOB}"],
                )  # fmt: skip
                found.append(_rate(cluster, options, data, archive, folder / uuid.uuid4().hex, processes=workers))
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "records_per_second": {str(workers): [round(rate) for rate in found] for workers, found in rates.items()},
    }


def _archive(data: Data, folder: Path) -> Archive:
    """The topic in flushes of one size. What is left over is not read."""
    archive, tp = Archive(folder.as_posix()), TopicPartition(data.topic, 0)
    size, kind = data.records // FLUSHES, TimestampType.CREATE_TIME
    for start in range(0, size * FLUSHES, size):
        rows = [
            Record(None, _VALUE, (), data.topic, 0, offset, _EPOCH_MS + offset, kind, "kafka")
            for offset in range(start, start + size)
        ]
        write_flush(archive, tp, rows, start=start, stop=start + size)
    return archive


def _rate(
    cluster: FlinkCluster, options: list[str], data: Data, archive: Archive, folder: Path, *, processes: int
) -> float:
    """Records a second, from the beginning of the first bundle to the end of the last."""
    folder.mkdir()
    records = data.records // FLUSHES * FLUSHES
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    _ = (
        pipeline
        | ReadUnified(
            data.topic, Kafka(data.bootstrap_servers), archive,
            timestamp_fn=KafkaTimestamp(), stop=Stop.offsets({0: records}), ordered=False,
        )
        | "Work" >> beam.ParDo(Work(str(folder)))
    )  # fmt: skip
    result = pipeline.run()
    job = cluster.job_id(_JOB)
    cluster.wait_for_state(job, "RUNNING")
    while sum(int(count) for _, _, count in _bundles(folder)) < records:
        if cluster.jobs()[job] != "RUNNING":
            raise AssertionError(cluster.job_exceptions(job))
        time.sleep(1)
    cluster.cancel(job)  # with checkpoints it would not end by itself; without, Beam ends workers that others still use
    result.cancel()
    bundles = _bundles(folder)
    pids = {file.name.split("-")[0] for file in folder.iterdir()}
    assert sum(int(count) for _, _, count in bundles) == records
    assert len(pids) == processes, pids
    return records / (max(float(end) for _, end, _ in bundles) - min(float(began) for began, _, _ in bundles))


def _bundles(folder: Path) -> list[list[str]]:
    """Complete lines of all workers."""
    lines = (line for file in folder.iterdir() for line in file.read_text().splitlines(keepends=True))
    return [line.split() for line in lines if line.endswith("\n")]
