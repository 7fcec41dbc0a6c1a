"""Archives a topic for ever: Kafka -> Parquet on S3, exactly once, each flush announced on a topic of its own.

    python -m pipelines.archive_topic --runner=FlinkRunner --flink_master=localhost:8081 --streaming \
        --checkpointing_interval=10000 --finish_bundle_before_checkpointing

Run it once beside every topic that is to be read further back than Kafka keeps it. Arguments are Beam's pipeline options.
"""

import logging
import sys
from collections.abc import Sequence
from datetime import timedelta

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import Archive, ArchiveTopic, Kafka, KafkaCommitTopic, StopPosition

TOPIC = "published_pins"
KAFKA = Kafka("broker:9092")
ARCHIVE = Archive("s3://company-logs/merced")
COMMITS = KafkaCommitTopic(kafka=KAFKA, topic="archive-commits")


def build(
    pipeline: beam.Pipeline,
    topic: str = TOPIC,
    *,
    kafka: Kafka = KAFKA,
    archive: Archive = ARCHIVE,
    notify: KafkaCommitTopic | None = COMMITS,
    stop: StopPosition | None = None,
) -> None:
    """The pipeline. What follows `ArchiveTopic` is told of every flush: here it goes to the log."""
    flushes = pipeline | ArchiveTopic(
        topic, kafka, archive, notify=notify, stop=stop, flush_interval=timedelta(minutes=5)
    )
    _ = flushes | "Say" >> beam.Map(lambda flush: logging.getLogger(__name__).info("%s", flush))


def main(arguments: Sequence[str]) -> None:
    """Runs until it is cancelled."""
    with beam.Pipeline(options=PipelineOptions(list(arguments))) as pipeline:
        build(pipeline)


if __name__ == "__main__":
    main(sys.argv[1:])
