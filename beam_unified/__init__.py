"""Apache Beam transforms that make a Kafka topic an unlimited log: archived files first, then Kafka, as one stream."""

from importlib import import_module
from typing import TYPE_CHECKING

from beam_unified.archive.archive import Archive
from beam_unified.archive.foreign.aiven import Aiven
from beam_unified.archive.foreign.confluent import Confluent
from beam_unified.archive.foreign.confluent_names import (
    DAILY,
    HOURLY,
    DefaultPartitioner,
    FieldPartitioner,
    TimeBasedPartitioner,
)
from beam_unified.archive.foreign.detect import Detection, Proposal, detect_layout
from beam_unified.archive.foreign.formats.encoding import as_json, as_text, from_base64
from beam_unified.archive.foreign.json_envelope import JsonEnvelope
from beam_unified.archive.foreign.layout import Completeness, Format, Layout
from beam_unified.archive.foreign.secor import Secor
from beam_unified.archive.foreign.sequence_file import SequenceFiles
from beam_unified.archive.foreign.template import Template, lenses, msk_delivery
from beam_unified.archive.foreign.value_lines import ValueLines
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
    KafkaSecurityError,
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
from beam_unified.late_files import LateFile
from beam_unified.offsets import TopicPartition
from beam_unified.positions import LAUNCH, Start, StartPosition, Stop, StopPosition
from beam_unified.reading.late import find_late_files
from beam_unified.records import KafkaRecord, Record
from beam_unified.replay import ReplayDeadLetters
from beam_unified.replay_speed import ReplaySpeed
from beam_unified.secrets import Secret
from beam_unified.snapshots.snapshot import Snapshot
from beam_unified.source.options import ReadProgress
from beam_unified.sync.options import SyncGroup
from beam_unified.sync.reports import RateLimit

if TYPE_CHECKING:
    from beam_unified.archive_topic import ArchivedFlush, ArchiveTopic
    from beam_unified.sink import WriteKafka
    from beam_unified.source.arrow import ExplodeBatches
    from beam_unified.source.chunks import Decoded
    from beam_unified.source.columns import ARROW_SCHEMA
    from beam_unified.transforms import AllResults, LateFileResults, ReadUnified, Results

# What imports Beam, which takes two seconds, is imported when it is first asked for: the command line never does.
_BEAM = {
    "ArchiveTopic": "beam_unified.archive_topic",
    "ArchivedFlush": "beam_unified.archive_topic",
    "WriteKafka": "beam_unified.sink",
    "ExplodeBatches": "beam_unified.source.arrow",
    "Decoded": "beam_unified.source.chunks",
    "ARROW_SCHEMA": "beam_unified.source.columns",
    "ReadUnified": "beam_unified.transforms",
    "Results": "beam_unified.transforms",
    "LateFileResults": "beam_unified.transforms",
    "AllResults": "beam_unified.transforms",
}

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
    "ReplaySpeed",
    "Secret",
    # archives of other tools
    "Layout",
    "Format",
    "Completeness",
    "Secor",
    "Template",
    "msk_delivery",
    "lenses",
    "SequenceFiles",
    "JsonEnvelope",
    "ValueLines",
    "detect_layout",
    "Detection",
    "Proposal",
    "Confluent",
    "DefaultPartitioner",
    "FieldPartitioner",
    "TimeBasedPartitioner",
    "DAILY",
    "HOURLY",
    "Aiven",
    "as_json",
    "as_text",
    "from_base64",
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
    "ReplayDeadLetters",
    "LateFileResults",
    "AllResults",
    "LateFile",
    "find_late_files",
    "TopicPartition",
    "ReadProgress",
    # errors
    "UnifiedLogError",
    "ConfigError",
    "StoreError",
    "UnknownTopicError",
    "KafkaUnavailableError",
    "KafkaSecurityError",
    "ArchiveUnavailableError",
    "CorruptArchiveError",
    "OpenClaimError",
    "SnapshotChangedError",
    "DataLossError",
    "BadRecordError",
    "TooManyDeadLettersError",
]


def __getattr__(name: str) -> object:
    """PEP 562."""
    if name not in _BEAM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_BEAM[name]), name)
    globals()[name] = found
    return found
