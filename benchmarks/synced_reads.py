"""What a sync group costs a read, and how fast a replay goes under drift: whole pipelines, called by `python -m benchmarks`.

`with_group_to_without`: records a second of processor time of the same archive, read in a group and alone, in turn, on
FnApiRunner, where everything happens in this process. The best run of each, for whatever disturbs a run slows it; the order
rotates.
`with_drift_to_without`: the same with a `max_drift` that is never used up. It shows the first round: until all have reported,
each reader waits after its first batch, which is one more call a partition, 1 to 2 ms, however long the partition is.
`drift_per_resume`: event time, in units of `max_drift`, by which two topics get on for each time that a reader was held and
resumed. The drift is so small that it, not the processor, decides.
"""

import gc
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
_ONE_HOUR_STEP_MS = 10  # a flush of one file
_DRIFT_S = 10_000
_RECORDS_A_MEMBER = 10_000

Run = Callable[[beam.Pipeline], None]


def rates(folder: Path, members: int, *, records: int, runs: int) -> dict[str, list[float]]:
    """Records a second of processor time alone, in a group, and in one that has a drift; `runs` of each."""
    name = f"synced-{members}"
    archive, each = Archive((folder / name).as_posix()), records // members
    log = InMemoryLog(name, partitions=members)  # a Kafka that holds nothing: only the archive is read
    for partition in range(members):
        rows = [
            Record(None, _VALUE, (), name, partition, at, at * _ONE_HOUR_STEP_MS, TimestampType.CREATE_TIME, "kafka")
            for at in range(each)
        ]
        write_flush(archive, TopicPartition(name, partition), rows, start=0, stop=each)
        log.expire(partition, each)
    stop = Stop.offsets(dict.fromkeys(range(members), each))

    def rate(group: SyncGroup | None) -> float:
        gc.collect()
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
        return watch.rate_of_processor

    ways = {
        "alone": None,
        "group": SyncGroup("bench", [name]),
        "drift": SyncGroup("bench", [name], max_drift="7d"),
    }
    order = list(ways)
    rate(None)
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(runs):
        for way in order:
            found[way].append(rate(ways[way]))
        order.append(order.pop(0))
    return found


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
    enough = {members: max(2 * records, _RECORDS_A_MEMBER * members) for members in MEMBERS}
    found = {str(members): rates(folder, members, records=enough[members], runs=max(4, runs)) for members in MEMBERS}
    figures: dict[str, object] = {
        f"with_{way}_to_without": {members: round(max(of[way]) / max(of["alone"]), 3) for members, of in found.items()}
        for way in ("group", "drift")
    }
    figures["synced_records_per_processor_second"] = {
        members: {way: [round(rate) for rate in several] for way, several in of.items()}
        for members, of in found.items()
    }
    return {
        **figures,
        "drift_per_resume": {
            name: round(drift_per_resume(run, coordinators[name], records=min(records, 300_000)), 2)
            for name, run in runners.items()
        },
    }
