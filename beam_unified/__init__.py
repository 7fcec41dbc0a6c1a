"""Apache Beam transforms that make a Kafka topic an unlimited log: archived files first, then Kafka, as one stream."""

from beam_unified.archive.archive import Archive
from beam_unified.dead_letters import DeadLetter
from beam_unified.errors import (
    ArchiveUnavailableError,
    BadRecordError,
    ConfigError,
    CorruptArchiveError,
    DataLossError,
    KafkaUnavailableError,
    SnapshotChangedError,
    StoreError,
    UnifiedLogError,
    UnknownTopicError,
)
from beam_unified.event_time import JsonField, KafkaTimestamp
from beam_unified.kafka.client import Kafka
from beam_unified.offsets import TopicPartition
from beam_unified.positions import Start, StartPosition, Stop, StopPosition
from beam_unified.records import Record
from beam_unified.snapshots.snapshot import Snapshot
from beam_unified.source.options import ReadProgress
from beam_unified.transforms import ReadUnified, Results

__all__ = [
    # reading
    "ReadUnified",
    "Snapshot",
    "Kafka",
    "Archive",
    "Start",
    "Stop",
    "StartPosition",
    "StopPosition",
    "KafkaTimestamp",
    "JsonField",
    # what comes out
    "Record",
    "Results",
    "DeadLetter",
    "TopicPartition",
    "ReadProgress",
    # errors
    "UnifiedLogError",
    "ConfigError",
    "StoreError",
    "UnknownTopicError",
    "KafkaUnavailableError",
    "ArchiveUnavailableError",
    "CorruptArchiveError",
    "SnapshotChangedError",
    "DataLossError",
    "BadRecordError",
]
