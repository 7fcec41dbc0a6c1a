"""What `providers.yaml` offers: functions whose arguments are what YAML can say, which make the transforms of this package.

Durations are text such as "90s" or "7d"; starts and stops are text as in `beam_unified.position_text`; a setting may be
`{env: NAME}` or `{file: PATH}` in place of a secret.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_unified.archive.archive import Archive
from beam_unified.archive_topic import ArchivedFlush, ArchiveTopic
from beam_unified.archiver.announcements import KafkaCommitTopic
from beam_unified.archiver.planning import FlushLimits
from beam_unified.error_handling import yaml_outputs
from beam_unified.errors import ConfigError
from beam_unified.event_time import Field, JsonField, KafkaTimestamp, TimestampFn
from beam_unified.kafka.client import Kafka
from beam_unified.position_text import parse_start, parse_stop
from beam_unified.positions import duration_ms
from beam_unified.records import KafkaRecord, Record
from beam_unified.secret_tables import with_secrets
from beam_unified.sink import WriteKafka
from beam_unified.transforms import ReadUnified, Results
from beam_unified.yaml.formats import RAW_ROW, decoder_of, formatter_of

_LIMITS = FlushLimits()
_RECORD_ROW = RowTypeConstraint.from_fields(
    [
        ("key", bytes | None),
        ("value", bytes | None),
        ("topic", str),
        ("partition", int),
        ("offset", int),
        ("timestamp_ms", int | None),
        ("store", str),
    ]
)
_FLUSH_ROW = RowTypeConstraint.from_fields(list(ArchivedFlush.__annotations__.items()))


def read_unified(
    *,
    topic: str,
    bootstrap_servers: str,
    archive: str | None = None,
    format: str = "RAW",  # noqa: A002 - Beam YAML's word
    schema: Any | None = None,
    output: str = "value",
    start: str = "earliest",
    stop: str | None = None,
    timestamp_field: str | None = None,
    timestamp_unit: str = "ms",
    max_out_of_orderness: str = "0s",
    ordered: bool = True,
    prefer: str = "archive",
    on_gap: str = "fail",
    gap_timeout: str = "30s",
    consumer_config: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    error_handling: Mapping[str, str] | None = None,
) -> beam.PTransform:
    """Reads a topic as one log: archived files first, then Kafka, from the exact next offset.

    Args:
        topic: Name of the topic.
        bootstrap_servers: "host:port", or several, comma separated.
        archive: Folder above the archived topics, as "s3://bucket/folder"; without it only Kafka is read.
        format: What the bytes of a value mean: RAW (a row of `payload`), STRING, JSON, AVRO.
        schema: JSON Schema or Avro schema of the values; with JSON and AVRO only, and needed there.
        output: "value", or with RAW "record" for rows of key, value, topic, partition, offset, timestamp_ms, store.
        start: "earliest", "latest", "7d" (before the launch), "2026-11-16T00:00:00Z", or offsets "0:42,1:17".
        stop: Where to stop, in the same words, or "now"; the pipeline is bounded then. Without it, it never ends.
        timestamp_field: Field of the value with the event time, dots go into nested ones; without it Kafka's timestamp is taken.
        timestamp_unit: Of that field: "s", "ms", "us", or "iso8601".
        max_out_of_orderness: How much older than its predecessors a record may be without being late.
        ordered: False reads the archived part of a partition in pieces, side by side.
        prefer: Which store serves what both hold: "archive" or "kafka".
        on_gap: What becomes of offsets that neither store has: "fail", "skip", "wait".
        gap_timeout: How long to look for a late file first.
        consumer_config: Settings of the Kafka client, by Kafka's names.
        storage_options: Options of the archive's file system (fsspec).
        error_handling: `{output: name}` gives records that cannot be decoded, or have no event time, as a second output.
    """
    if output not in {"value", "record"} or (output == "record" and format.upper() != "RAW"):
        raise ConfigError(f"output must be 'value', or with format RAW 'record', got {output!r} with format {format}.")
    decoder = decoder_of(format, schema)
    read = ReadUnified(
        topic,
        _kafka(bootstrap_servers, consumer_config),
        None if archive is None else _archive(archive, storage_options),
        decoder=decoder,
        start=parse_start(start),
        stop=None if stop is None else parse_stop(stop),
        timestamp_fn=_event_time(timestamp_field, timestamp_unit, fields=format.upper() in {"JSON", "AVRO"}),
        max_out_of_orderness=_duration(max_out_of_orderness, "max_out_of_orderness"),
        ordered=ordered,
        prefer=prefer,  # type: ignore[arg-type]  # checked by ReadUnified
        on_gap=on_gap,  # type: ignore[arg-type]
        gap_timeout=_duration(gap_timeout, "gap_timeout"),
        output=output,  # type: ignore[arg-type]
        dead_letters=error_handling is not None,
    )
    return _Read(read, output if decoder is None else None, error_handling)


def archive_topic(
    *,
    topic: str,
    bootstrap_servers: str,
    archive: str,
    start: str = "earliest",
    stop: str | None = None,
    flush_records: int = _LIMITS.records,
    flush_bytes: int = _LIMITS.size_bytes,
    flush_interval: str = "10m",
    on_gap: str = "fail",
    notify: str | None = None,
    consumer_config: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> beam.PTransform:
    """Writes a topic to the archive, exactly once; gives a row for each committed flush.

    Rows: topic, partition, start, stop, min_timestamp, max_timestamp (milliseconds, null where no record has one).

    Args:
        topic: Name of the topic.
        bootstrap_servers: "host:port", or several, comma separated.
        archive: Folder above the archived topics: S3, GCS or a local disk.
        start: Where to begin a partition that is not archived yet, as of ReadUnified.
        stop: Where to stop; "now" archives what is there. Without it, it never ends.
        flush_records: A flush is due when it holds so many records,
        flush_bytes: or so many bytes of Parquet,
        flush_interval: or when its first record was read so long ago.
        on_gap: What becomes of offsets that Kafka forgot before: "fail" or "skip".
        notify: Topic on which every commit is announced.
        consumer_config: Settings of the Kafka client, by Kafka's names.
        storage_options: Options of the archive's file system (fsspec).
    """
    kafka = _kafka(bootstrap_servers, consumer_config)
    return _Archive(
        ArchiveTopic(
            topic,
            kafka,
            _archive(archive, storage_options),
            start=parse_start(start),
            stop=None if stop is None else parse_stop(stop),
            flush_records=flush_records,
            flush_bytes=flush_bytes,
            flush_interval=_duration(flush_interval, "flush_interval"),
            on_gap=on_gap,  # type: ignore[arg-type]  # checked by ArchiveTopic
            notify=None if notify is None else KafkaCommitTopic(kafka=kafka, topic=notify),
        )
    )


def write_kafka(
    *,
    topic: str,
    bootstrap_servers: str,
    format: str = "JSON",  # noqa: A002 - Beam YAML's word
    key_field: str | None = None,
    consumer_config: Mapping[str, Any] | None = None,
    producer_config: Mapping[str, Any] | None = None,
) -> beam.PTransform:
    """Writes rows to a topic, at least once.

    Args:
        topic: Name of the topic.
        bootstrap_servers: "host:port", or several, comma separated.
        format: JSON or AVRO (of the rows' own schema); RAW or STRING for rows of one field of bytes or text.
        key_field: Field with the key, bytes or text; it is in the value, too. Without it records have no key.
        consumer_config: Settings of the Kafka client that readers share: security.
        producer_config: More settings, of the producer.
    """
    write = WriteKafka(topic, _kafka(bootstrap_servers, consumer_config), config=with_secrets(producer_config or {}))
    return _Write(write, format, key_field)


# Beam YAML takes what is not called Read... for a transform with an input, unless it finds this.
archive_topic._yaml_requires_inputs = False  # type: ignore[attr-defined]  # noqa: SLF001


class _Read(beam.PTransform):
    """`ReadUnified` with rows, and dead letters in YAML's form."""

    def __init__(self, read: ReadUnified, raw: str | None, error_handling: Mapping[str, str] | None) -> None:
        super().__init__()
        self._read, self._raw, self._error_handling = read, raw, error_handling

    def expand(self, pbegin: PBegin) -> Any:
        found = pbegin | self._read
        if self._error_handling is None:
            return self._rows(found)
        return yaml_outputs(Results(self._rows(found.records), found.dead_letters), self._error_handling)

    def _rows(self, records: PCollection) -> PCollection:
        match self._raw:
            case "value":
                return records | "Rows" >> beam.Map(_payload).with_output_types(RAW_ROW)
            case "record":
                return records | "Rows" >> beam.Map(_record_row).with_output_types(_RECORD_ROW)
            case _:
                return records


class _Archive(beam.PTransform):
    """`ArchiveTopic` with rows."""

    def __init__(self, archive: ArchiveTopic) -> None:
        super().__init__()
        self._archive = archive

    def expand(self, pbegin: PBegin) -> PCollection:
        return pbegin | self._archive | "Rows" >> beam.Map(_flush_row).with_output_types(_FLUSH_ROW)


class _Write(beam.PTransform):
    """`WriteKafka` of rows."""

    def __init__(self, write: WriteKafka, format_name: str, key_field: str | None) -> None:
        super().__init__()
        self._write, self._format, self._key = write, format_name, key_field

    def expand(self, rows: PCollection) -> Any:
        formatter, key = formatter_of(self._format, rows.element_type), self._key
        make = beam.Map(lambda row: KafkaRecord(formatter(row), None if key is None else _key(getattr(row, key))))
        return rows | "Records" >> make.with_output_types(KafkaRecord) | self._write


def _kafka(bootstrap_servers: str, config: Mapping[str, Any] | None) -> Kafka:
    return Kafka(bootstrap_servers, with_secrets(config or {}))


def _archive(root: str, storage_options: Mapping[str, Any] | None) -> Archive:
    return Archive(root, with_secrets(storage_options or {}))


def _duration(text: str, option: str) -> timedelta:
    return timedelta(milliseconds=duration_ms(text, option))


def _event_time(field: str | None, unit: str, *, fields: bool) -> TimestampFn:
    """Of the decoded row where it has fields, else of JSON in the bytes."""
    if field is None:
        return KafkaTimestamp()
    kind: Any = Field if fields else JsonField
    made: TimestampFn = kind(field, unit)
    return made


def _payload(value: bytes | None) -> beam.Row:
    return beam.Row(payload=value)


def _record_row(record: Record) -> beam.Row:
    return beam.Row(
        key=record.key,
        value=record.value,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        store=record.store,
    )


def _flush_row(flush: ArchivedFlush) -> beam.Row:
    return beam.Row(**flush._asdict())


def _key(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
