"""Apache Beam transforms that make a Kafka topic an unlimited log: archived files first, then Kafka, as one stream."""

from beam_unified.archive.archive import Archive
from beam_unified.archive_topic import ArchivedFlush, ArchiveTopic
from beam_unified.archiver.announced import Announced
from beam_unified.archiver.announcements import KafkaCommitTopic, announce_again
from beam_unified.archiver.upkeep import Orphans, abandon_claims, find_orphans, remove_orphans
from beam_unified.dead_letters import DeadLetter, connect_record
from beam_unified.decoding.decoder import Bytes, Decoder, Nullable, Text
from beam_unified.decoding.json_values import Json
from beam_unified.decoding.limits import DeadLetterLimit
from beam_unified.errors import (
    ArchiveUnavailableError,
    BadRecordError,
    ConfigError,
    CorruptArchiveError,
    DataLossError,
    KafkaUnavailableError,
    OpenClaimError,
    SnapshotChangedError,
    StoreError,
    TooManyDeadLettersError,
    UnifiedLogError,
    UnknownTopicError,
)
from beam_unified.event_time import Field, JsonField, KafkaTimestamp
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.sync_topic import KafkaSyncTopic, set_rate_limit
from beam_unified.offsets import TopicPartition
from beam_unified.positions import LAUNCH, Start, StartPosition, Stop, StopPosition
from beam_unified.records import KafkaRecord, Record
from beam_unified.secrets import Secret
from beam_unified.sink import WriteKafka
from beam_unified.snapshots.snapshot import Snapshot
from beam_unified.source.arrow import ExplodeBatches
from beam_unified.source.chunks import Decoded
from beam_unified.source.columns import ARROW_SCHEMA
from beam_unified.source.options import ReadProgress
from beam_unified.sync.options import SyncGroup
from beam_unified.sync.reports import RateLimit
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
    "Secret",
    # archiving
    "ArchiveTopic",
    "ArchivedFlush",
    "KafkaCommitTopic",
    "Announced",
    "announce_again",
    "find_orphans",
    "remove_orphans",
    "Orphans",
    "abandon_claims",
    # decoding
    "Decoder",
    "Bytes",
    "Text",
    "Json",
    "Nullable",
    "Field",
    "DeadLetterLimit",
    # several sources in step
    "SyncGroup",
    "KafkaSyncTopic",
    "RateLimit",
    "LAUNCH",
    "set_rate_limit",
    # writing
    "WriteKafka",
    "KafkaRecord",
    # what comes out
    "Record",
    "Decoded",
    "ARROW_SCHEMA",
    "ExplodeBatches",
    "Results",
    "DeadLetter",
    "connect_record",
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
    "OpenClaimError",
    "SnapshotChangedError",
    "DataLossError",
    "BadRecordError",
    "TooManyDeadLettersError",
]
