"""Typical uses of the public API. Never run, only type-checked: the types that users see are tested too."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_type

import apache_beam as beam

from beam_unified import (
    Announced,
    Archive,
    ArchivedFlush,
    ArchiveTopic,
    BadRecordError,
    ConfigError,
    DataLossError,
    DeadLetter,
    DeadLetterLimit,
    Decoded,
    Field,
    Json,
    JsonField,
    Kafka,
    KafkaCommitTopic,
    KafkaRecord,
    KafkaTimestamp,
    KafkaUnavailableError,
    LateFile,
    Orphans,
    ReadProgress,
    ReadUnified,
    Record,
    Secret,
    Snapshot,
    Start,
    StartPosition,
    Stop,
    StopPosition,
    StoreError,
    TopicPartition,
    UnifiedLogError,
    WriteKafka,
    abandon_claims,
    announce_again,
    connect_record,
    find_late_files,
    find_orphans,
    remove_orphans,
)
from beam_unified.harness import Report, exhaust
from beam_unified.testing import InMemoryLog, ManualClock, PartitionDigest, PartitionDigests, digests_of


def describing_the_stores() -> tuple[Kafka, Archive]:
    """Settings are plain mappings; servers are text or a sequence."""
    Kafka("broker:9092")
    Kafka(["one:9092", "two:9092"], config={"isolation_level": "read_uncommitted"})
    Kafka("broker:9092", client="auto")
    secured = Kafka("broker:9092", config={"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"})
    assert_type(secured.isolation_level, str)
    return secured, Archive("s3://bucket/folder", storage_options={"anon": True})


def saying_where() -> tuple[list[StartPosition], list[StopPosition]]:
    """Every way to start and to stop."""
    starts = [
        Start.earliest(),
        Start.latest(),
        Start.offsets({0: 42, 1: 43}),
        Start.at("2026-11-16T00:00:00Z"),
        Start.at(datetime(2026, 11, 16, tzinfo=UTC)),
        Start.before_now("7d"),
        Start.before_now(timedelta(days=7)),
    ]
    stops = [Stop.offsets({0: 99}), Stop.at("2026-11-17T00:00:00+01:00"), Stop.now()]
    return starts, stops


def event_time(record: Record) -> datetime:
    """A timestamp function of one's own."""
    assert_type(record.timestamp, int | None)
    return datetime.fromtimestamp((record.timestamp or 0) / 1_000, tz=UTC)


def reading(pipeline: beam.Pipeline) -> None:
    """The least, and everything."""
    kafka, archive = describing_the_stores()
    pipeline | "least" >> ReadUnified("pins", kafka, archive, timestamp_fn=KafkaTimestamp())
    pipeline | "kafka only" >> ReadUnified("pins", kafka, None, timestamp_fn=event_time)
    pipeline | "everything" >> ReadUnified(
        "pins",
        kafka,
        archive,
        timestamp_fn=JsonField("event.time", unit="ms"),
        start=Start.before_now("7d"),
        stop=Stop.now(),
        max_out_of_orderness=timedelta(minutes=5),
        initial_watermark=datetime(2026, 1, 1, tzinfo=UTC),
        on_idle="hold",
        idle_timeout=timedelta(seconds=30),
        output="record",
        prefer="kafka",
        gap_timeout=timedelta(minutes=10),
        validate=False,
        on_progress=watching,
    )


def archiving(pipeline: beam.Pipeline) -> None:
    """For ever with notifications, up to now without; read by announcements; upkeep."""
    kafka, archive = describing_the_stores()
    commits = KafkaCommitTopic(kafka=kafka, topic="archive-commits")
    pipeline | "now" >> ArchiveTopic(["pins", "boards"], kafka, archive, stop=Stop.now())
    flushes = pipeline | ArchiveTopic(
        "pins",
        kafka,
        archive,
        start=Start.latest(),
        flush_records=1_000_000,
        flush_bytes=64 * 1024 * 1024,
        flush_interval=timedelta(minutes=5),
        on_gap="skip",
        notify=commits,
        discovery_interval=None,
    )
    flushes | beam.Map(after_a_flush)
    announced = Announced(archive, commits, since="2026-11-16T00:00:00Z", index="both")
    pipeline | "by announcements" >> ReadUnified("pins", kafka, announced, timestamp_fn=KafkaTimestamp())
    assert_type(announce_again(archive, "pins", commits), int)
    assert_type(find_orphans(archive, "pins"), Orphans)
    assert_type(remove_orphans(archive, "pins").paths, tuple[str, ...])
    assert_type(abandon_claims(archive, "pins"), tuple[str, ...])


def after_a_flush(flush: ArchivedFlush) -> int:
    """What a commit says."""
    assert_type(flush.min_timestamp, int | None)
    return flush.stop - flush.start


def decoding_and_writing(pipeline: beam.Pipeline, letter: DeadLetter, decoded: Decoded) -> None:
    """Typed values in, records out."""
    kafka = Kafka("broker:9092", config={"ssl_password": Secret.env("KAFKA_PASSWORD")})
    pipeline | ReadUnified(
        "pins",
        kafka,
        None,
        decoder=Json(dict),
        timestamp_fn=Field("time", unit="ms"),
        dead_letters=True,
        dead_letter_limit=DeadLetterLimit(consecutive=9),
    )
    assert_type(connect_record(letter), KafkaRecord)
    assert_type(decoded.record, Record)
    pipeline | WriteKafka("pins", kafka, config={"acks": "all"}, partitioner=lambda key, partitions: partitions[0])


def late_files(archive: Archive, letters: list[DeadLetter]) -> int:
    """Told of while a read runs, and asked for afterwards."""
    ReadUnified(
        "pins",
        Kafka("broker:9092"),
        archive,
        timestamp_fn=KafkaTimestamp(),
        on_gap="skip",
        late_files=True,
        late_file_interval=timedelta(minutes=5),
    )
    found = find_late_files(archive, letters)
    assert_type(found, tuple[LateFile, ...])
    return sum(stop - start for late in found for start, stop in late.skipped)


def snapshots(pipeline: beam.Pipeline) -> list[PartitionDigest]:
    """Taken, kept, replayed, compared."""
    kafka, archive = describing_the_stores()
    taken = Snapshot.capture(kafka, archive, ["pins"], stop=Stop.now(), fingerprint="sha256", archive_missing=True)
    taken.save("pins.json")
    assert_type(Snapshot.load(Path("pins.json"), {"anon": True}), Snapshot)
    read = ReadUnified.from_snapshot("pins.json", timestamp_fn=KafkaTimestamp(), topics="pins", output="record")
    assert_type(read, ReadUnified)
    pipeline | read | PartitionDigests()
    pipeline | ReadUnified.from_snapshot(taken, timestamp_fn=event_time, archive_root="/copy", ordered=False)
    return digests_of([])


def mistakes(kafka: Kafka) -> None:
    """What a type checker finds before a pipeline is built."""
    ReadUnified("pins", kafka, None, timestamp_fn=KafkaTimestamp)  # type: ignore[arg-type]
    ReadUnified("pins", kafka, None, timestamp_fn=KafkaTimestamp(), start="earliest")  # type: ignore[arg-type]
    ReadUnified("pins", kafka, None, timestamp_fn=KafkaTimestamp(), stop=Start.latest())  # type: ignore[arg-type]
    ReadUnified("pins", kafka, None, timestamp_fn=KafkaTimestamp(), output="bytes")  # type: ignore[arg-type]
    ReadUnified("pins", "broker:9092", None, timestamp_fn=KafkaTimestamp())  # type: ignore[arg-type]
    ReadUnified("pins", kafka, None, KafkaTimestamp())  # type: ignore[call-arg]
    JsonField("time", unit="minutes")  # type: ignore[arg-type]
    Start.at(5)  # type: ignore[arg-type]


def watching(progress: ReadProgress) -> None:
    """An observer."""
    assert_type(progress.watermark, int | None)
    print(progress.topic, progress.partition, progress.next_offset, progress.store)


def using(record: Record) -> str:
    """What a record holds."""
    assert_type(record.key, bytes | None)
    assert_type(record.value, bytes | None)
    assert_type(record.headers, tuple[tuple[str, bytes | None], ...])
    assert_type(record.offset, int)
    return str(TopicPartition(record.topic, record.partition))


def telling_errors_apart(run: Callable[[], None]) -> str:
    """Three people: who wrote the pipeline, who runs the stores, who owns the data."""
    try:
        run()
    except ConfigError as error:
        assert_type(error, ConfigError)
        return "pipeline"
    except KafkaUnavailableError:
        return "brokers"
    except StoreError:
        return "stores"
    except (DataLossError, BadRecordError):
        return "data"
    except UnifiedLogError as error:
        return str(error)
    return "none"


def testing(pipeline: beam.Pipeline) -> Report:
    """The testing kit stands in for both stores, and for the clock."""
    log, clock = InMemoryLog("pins", partitions=2), ManualClock()
    assert_type(log.append(0, b"value", timestamp=1_000, key=b"key", headers=(("name", None),)), int)
    flush = log.flush(0)
    log.when_asked(0, 1, log.restore, 0, flush, log.remove(0, flush))
    log.expire(0, 1)
    read = ReadUnified("pins", log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), stop=Stop.now(), clock=clock)
    pipeline | read
    return exhaust(read, ("pins", 0))
