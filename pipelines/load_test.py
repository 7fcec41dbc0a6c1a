"""Replays what is archived of a topic into another topic, flat out or at a rate, to put load on whoever reads that one.

    python -m pipelines.load_test views loaded --runner=FnApiRunner --rate 5000

The brokers write the load and do not read it: history comes from the archive. Made beforehand, the target topic must have
`message.timestamp.type=LogAppendTime`; then the report comes from the topic itself: asked and achieved rate, and the time from a
record's way out of the source to its place in the broker's log (worker's clock against broker's). The rate holds over all workers
and can be changed meanwhile: `beam-unified throttle`, or `set_rate_limit`. Other arguments are Beam's pipeline options.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import (
    Archive,
    ConfigError,
    DataLossError,
    Kafka,
    KafkaRecord,
    KafkaSyncTopic,
    KafkaTimestamp,
    RateLimit,
    ReadUnified,
    Record,
    Stop,
    SyncGroup,
    TopicPartition,
    WriteKafka,
)
from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.records import TimestampType
from beam_unified.stores import OutOfRange

KAFKA = Kafka("broker:9092")
ARCHIVE = Archive("s3://company-logs/merced")
GROUP = "load-test"

SENT = "load-test-sent-ms"
"""Header: when a record was on its way to the target."""

Ends = Mapping[int, int]
"""Partition -> offset, exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        records: How many there are in the target.
        asked: Records a second; None is flat out.
        achieved: The same, from the first record in the broker's log to the last.
        latency_ms: Percentile -> milliseconds of delivery.
        bytes_from_kafka: Read from the brokers of the replayed topic.
    """

    records: int
    asked: float | None
    achieved: float
    latency_ms: Mapping[int, float]
    bytes_from_kafka: int

    def __str__(self) -> str:
        """For people."""
        asked = "flat out" if self.asked is None else f"{self.asked:,.0f}/s"
        latency = ", ".join(f"p{percentile} {ms:,.0f} ms" for percentile, ms in self.latency_ms.items())
        return (
            f"{self.records:,} records; asked {asked}, achieved {self.achieved:,.0f}/s\ndelivery: {latency}\n"
            f"read from the brokers: {self.bytes_from_kafka:,} bytes"
        )


def archived(kafka: Kafka, archive: Archive, topic: str) -> Ends:
    """Where the archive ends."""
    with closing(kafka.connect()) as log, closing(archive.connect()) as files:
        partitions = [TopicPartition(topic, number) for number in log.partitions(topic)]
        return {tp.partition: files.index(tp).stop or 0 for tp in partitions}


def ends(kafka: Kafka, topic: str) -> Ends:
    """Where a topic ends now."""
    with closing(kafka.connect()) as log:
        return {number: log.bounds(TopicPartition(topic, number)).stop for number in log.partitions(topic)}


def to_send(record: Record) -> KafkaRecord:
    """The same again, with the time."""
    sent = (SENT, b"%d" % SYSTEM_CLOCK.now_ms())
    return KafkaRecord(record.value, record.key, (*record.headers, sent))


def build(
    pipeline: beam.Pipeline, topic: str, target: str, *, kafka: Kafka, archive: Archive, rate: float | None
) -> None:
    """The load. `rate` in records a second; None is flat out."""
    group = None if rate is None else SyncGroup(GROUP, [topic], coordinator=KafkaSyncTopic(kafka=kafka))
    records = pipeline | ReadUnified(
        topic,
        kafka,
        archive,
        stop=Stop.offsets(archived(kafka, archive, topic)),
        timestamp_fn=KafkaTimestamp(),
        output="record",
        sync=group,
        rate_limit=None if rate is None else RateLimit(records_per_s=rate),
    )
    _ = records | beam.Map(to_send).with_output_types(KafkaRecord) | WriteKafka(target, kafka)


def times(record: Record) -> tuple[int, int]:
    """Of one record of the target."""
    if record.timestamp is None or record.timestamp_type is not TimestampType.LOG_APPEND_TIME:
        raise ConfigError(
            f"topic {record.topic} tells no delivery: create it with message.timestamp.type=LogAppendTime."
        )
    return int(dict(record.headers)[SENT] or 0), record.timestamp


def delivered(kafka: Kafka, topic: str, since: Ends) -> list[tuple[int, int]]:
    """(sent, in the broker's log) of each record since some offsets: milliseconds since the epoch."""
    found: list[tuple[int, int]] = []
    with closing(kafka.connect()) as log:
        for partition, stop in ends(kafka, topic).items():
            at = since[partition]
            while at < stop:
                step = log.fetch(TopicPartition(topic, partition), at, max_records=10_000, timeout_ms=500)
                if isinstance(step, OutOfRange):
                    raise DataLossError(f"{topic}[{partition}]: retention took offset {at} before it was looked at.")
                at = step.next_offset
                found += map(times, [] if step.batch is None else step.batch.records())
    return found


def run(
    topic: str, target: str, options: Sequence[str], *, kafka: Kafka, archive: Archive, rate: float | None
) -> Outcome:
    """Puts the load on, up to the archive's end, and looks at the target. Nobody else must write to it meanwhile."""
    before = ends(kafka, target)
    pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
    build(pipeline, topic, target, kafka=kafka, archive=archive, rate=rate)
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_name("bytes_from_kafka"))["counters"]
    seen = np.array(delivered(kafka, target, before), np.int64).reshape(-1, 2)
    if not len(seen):
        raise ConfigError(f"the archive of {topic} holds nothing to replay.")
    logged = seen[:, 1]
    seconds = max(1, int(logged.max() - logged.min())) / 1_000
    return Outcome(
        records=len(seen),
        asked=rate,
        achieved=len(seen) / seconds,
        latency_ms={at: float(np.percentile(logged - seen[:, 0], at)) for at in (50, 95, 99)},
        bytes_from_kafka=sum(one.committed for one in counters),
    )


def main(arguments: Sequence[str]) -> None:
    """Loads, prints."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.load_test", description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("target")
    parser.add_argument("--rate", type=float, help="records a second; flat out without")
    chosen, options = parser.parse_known_args(arguments)
    print(run(chosen.topic, chosen.target, options, kafka=KAFKA, archive=ARCHIVE, rate=chosen.rate))


if __name__ == "__main__":
    main(sys.argv[1:])
