"""What a sync group costs a read, and how fast a replay goes under drift: whole pipelines, called by `python -m benchmarks`.

`with_group_to_without`: records a second of the same archive, read in a group and alone, in turn, on FnApiRunner.
`with_drift_to_without`: the same with a `max_drift` that is never used up. It shows the first round: until all have reported,
each reader waits after its first batch, which is one more call a partition.
`drift_per_resume`: event time, in units of `max_drift`, by which two topics get on for each time that a reader was held and
resumed. The drift is so small that it, not the processor, decides.
"""

import statistics
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import (
    Archive,
    Kafka,
    KafkaSyncTopic,
    KafkaTimestamp,
    ReadUnified,
    Record,
    Stop,
    SyncGroup,
    TopicPartition,
)
from beam_unified.archive.writer import write_flush
from beam_unified.records import TimestampType
from beam_unified.sync.coordinator import CoordinatorSource, InProcess
from beam_unified.testing import InMemoryLog, InMemoryTopics
from benchmarks import observe
from benchmarks.reads import on_direct

MEMBERS = (2, 64, 512)
_VALUE = b"pin published " * 12
_STEP_MS = 1_000
_DRIFT_S = 10_000

Run = Callable[[beam.Pipeline], None]


def ratios(folder: Path, members: int, *, records: int, runs: int) -> tuple[list[float], list[float]]:
    """With a group to without, and with one that has a drift to without; `runs` of each."""
    name = f"synced-{members}"
    archive, each = Archive((folder / name).as_posix()), records // members
    log = InMemoryLog(name, partitions=members)  # a Kafka that holds nothing: only the archive is read
    for partition in range(members):
        rows = [
            Record(None, _VALUE, (), name, partition, at, at * _STEP_MS, TimestampType.CREATE_TIME, "kafka")
            for at in range(each)
        ]
        write_flush(archive, TopicPartition(name, partition), rows, start=0, stop=each)
        log.expire(partition, each)
    stop = Stop.offsets(dict.fromkeys(range(members), each))

    def rate(group: SyncGroup | None) -> float:
        watch, pipeline = observe.restart(), beam.Pipeline(options=PipelineOptions([]))
        _ = (
            pipeline
            | ReadUnified(
                name, log.kafka, archive, timestamp_fn=KafkaTimestamp(), stop=stop, sync=group, on_progress=observe.see
            )
            | beam.ParDo(observe.Touch())
        )
        on_direct(pipeline)
        if watch.records != each * members:
            raise AssertionError(f"{watch.records} of {each * members} records were read")
        return watch.rate

    rate(None)
    in_group, with_drift = list[float](), list[float]()
    for _ in range(runs):
        alone = rate(None)
        in_group.append(rate(SyncGroup("bench", [name])) / alone)
        with_drift.append(rate(SyncGroup("bench", [name], max_drift="7d")) / alone)
    return in_group, with_drift


def drift_per_resume(run: Run, coordinator: CoordinatorSource, *, records: int) -> float:
    """Two topics of the same length, in memory."""
    logs = {topic: InMemoryLog(topic) for topic in ("pins", "views")}
    for log in logs.values():
        for at in range(records):
            log.append(0, _VALUE, timestamp=at * _STEP_MS)
        log.flush(0)
    topics = InMemoryTopics(*logs.values())
    group = SyncGroup("bench-drift", list(logs), max_drift=f"{_DRIFT_S}s", coordinator=coordinator)
    observe.restart()
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    for topic in logs:
        _ = (
            pipeline
            | topic
            >> ReadUnified(
                topic, topics.kafka, topics.archive, timestamp_fn=KafkaTimestamp(), stop=Stop.now(), sync=group,
                on_progress=observe.see,
            )
            | f"Touch {topic}" >> beam.ParDo(observe.Touch())
        )  # fmt: skip
    run(pipeline)
    resumed = dict.fromkeys(logs, 0)
    held: set[str] = set()
    for progress in observe.progress:
        if progress.held_by is not None:
            held.add(progress.topic)
        elif progress.topic in held:
            held.remove(progress.topic)
            resumed[progress.topic] += 1
    return records * _STEP_MS / 1_000 / _DRIFT_S / max(1, *resumed.values())


def measure(
    folder: Path, bootstrap_servers: str, runners: dict[str, Run], *, records: int, runs: int
) -> dict[str, object]:
    """All figures, by name."""
    coordinators: dict[str, CoordinatorSource] = {
        "direct": InProcess(),
        "flink": KafkaSyncTopic(kafka=Kafka(bootstrap_servers)),
    }
    found = {str(members): ratios(folder, members, records=2 * records, runs=max(3, runs)) for members in MEMBERS}
    figures: dict[str, object] = {}
    for at, name in enumerate(("with_group_to_without", "with_drift_to_without")):
        figures[name] = {members: round(statistics.median(ways[at]), 3) for members, ways in found.items()}
        figures[f"{name}_runs"] = {members: [round(one, 3) for one in ways[at]] for members, ways in found.items()}
    return {
        **figures,
        "drift_per_resume": {
            name: round(drift_per_resume(run, coordinators[name], records=min(records, 300_000)), 2)
            for name, run in runners.items()
        },
    }
