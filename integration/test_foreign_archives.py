"""Secor's archive, in files that Hadoop's own classes wrote, then Kafka: one stream, over a real broker and S3."""

import logging
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_unified import Archive, JsonField, Kafka, KafkaTimestamp, ReadUnified, Secor, Start, Stop
from beam_unified.archive.foreign.secor import hashed_prefix
from integration.services.object_store import ObjectStore
from integration.unlimited_log import Results, WriteLines, half_forgotten
from tests.data.secor import ARCHIVED, FOLDER, TOPIC, key_of, timestamp_of, value_of

PRODUCED = {0: 200, 1: 60}
KEPT_FROM = {0: 140, 1: 40}
"""First offset that Kafka still holds: an overlap, and an exact end."""


@dataclass(frozen=True)
class World:
    """The topic, and the bucket with its archive."""

    topic: str
    kafka: Kafka
    store: ObjectStore
    bucket: str

    def archive(self, keys, *, hashed=False, without=()):
        """Uploads the files as Secor would, markers and leftovers beside them. `without` are endings of names."""
        options = self.store.storage_options
        root = f"s3://{self.bucket}/{uuid.uuid4().hex[:8]}"
        layout = Secor(keys=keys, hashed_path="raw/secor") if hashed else Secor(keys=keys)
        archive = Archive(root, options, layout=layout, accept_missing={"key", "timestamp", "headers"})
        files, base = archive.file_system()
        for path in (FOLDER / keys / TOPIC).rglob("*"):
            if path.is_file() and not path.name.endswith(tuple(without)):
                below = [self.topic, *path.relative_to(FOLDER / keys / TOPIC).parent.parts]
                above = [hashed_prefix(below), "raw", "secor"] if hashed else []
                files.pipe("/".join([base, *above, *below, path.name]), path.read_bytes())
        if not hashed:
            files.pipe(f"{base}/{self.topic}/dt=2026-11-16/_SUCCESS", b"")
            files.pipe(f"{base}/{self.topic}/_temporary/0/1_0_00000000000000000060", b"half a file")
        return archive


@pytest.fixture(scope="module")
def world(kafka, object_store):
    rows = ((partition, n) for partition, records in PRODUCED.items() for n in range(records))
    topic = half_forgotten(
        kafka,
        {(partition, n): (key_of(n), value_of(partition, n), timestamp_of(n)) for partition, n in rows},
        KEPT_FROM,
    )
    return World(topic, Kafka(kafka.bootstrap_servers), object_store, object_store.make_bucket("secor"))


def seen(record):
    """What is compared: place, store, and whether key, value and timestamp are the ledger's."""
    has_key, has_time = record.key == key_of(record.offset), record.timestamp == timestamp_of(record.offset)
    good = record.value == value_of(record.partition, record.offset)
    return [record.partition, record.offset, int(record.store == "kafka"), int(good), int(has_key), int(has_time)]


def run(world, archive, folder, **options):
    """The lines of a read, per partition in order."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        records = pipeline | ReadUnified(
            world.topic,
            world.kafka,
            archive,
            **{
                "stop": Stop.offsets(PRODUCED),
                "output": "record",
                "timestamp_fn": JsonField("time", unit="ms"),
                **options,
            },
        )
        _ = records | beam.Map(seen) | beam.ParDo(WriteLines(folder, "records"))
    lines = list(Results(folder).lines("records"))
    return {partition: [line[1:] for line in lines if line[0] == partition] for partition in PRODUCED}


@pytest.mark.rule("A3", "R1")
@pytest.mark.parametrize("ordered", [True, False])
def test_secor_then_kafka_is_one_stream(world, tmp_path, ordered):
    """A3, R1: every record once, in order; Kafka goes on at the exact offset at which the archive ends. No keys in the archive."""
    found = run(world, world.archive("offset"), tmp_path, ordered=ordered)
    for partition, records in PRODUCED.items():
        lines = found[partition] if ordered else sorted(found[partition])
        assert [line[0] for line in lines] == list(range(records))
        assert all(line[2] for line in lines)
        assert [line[0] for line in lines if line[1]] == list(range(ARCHIVED[partition], records))
        assert all(line[3] and line[4] for line in lines if line[1])


@pytest.mark.rule("A3", "R6")
@pytest.mark.parametrize("hashed", [False, True])
def test_message_pack_has_keys_and_times(world, tmp_path, hashed):
    """A3, R6: what the layout has is the ledger's, hashed paths or not; a start by time is found in the archive."""
    start = datetime.fromtimestamp(timestamp_of(20) / 1_000, UTC)
    archive = world.archive("message_pack", hashed=hashed)
    found = run(world, archive, tmp_path, timestamp_fn=KafkaTimestamp(), start=Start.at(start))
    for partition, records in PRODUCED.items():
        assert [line[0] for line in found[partition]] == list(range(20, records))
        assert all(all(line[2:]) for line in found[partition])


@pytest.mark.rule("A3", "R5")
def test_a_batch_that_was_removed_is_a_gap(world, tmp_path, caplog):
    """A3, R5: what neither store has is named; skipped, the read goes on behind it."""
    archive = world.archive("offset", without=["_0_00000000000000000060.deflate"])
    options = {"on_gap": "skip", "gap_timeout": timedelta(0)}
    with caplog.at_level(logging.ERROR):
        found = run(world, archive, tmp_path, **options)
    assert [line[0] for line in found[0]] == [*range(80), *range(120, 200)]
    assert f"{world.topic}[0]: offsets 80 to 119" in caplog.text
    with pytest.raises(Exception, match=r"offsets 80 to 119 are in neither store"):
        run(world, archive, tmp_path, gap_timeout=timedelta(0))


@pytest.mark.rule("R3")
def test_an_aged_listing_asks_s3_for_what_is_new(world):
    """R3: behind the last name only; all of it before a gap is believed."""
    archive = world.archive("offset")
    storage_folder = archive.connect()._storage
    names = sorted(storage_folder.files(world.topic))
    assert sorted(storage_folder.files_after(world.topic, names[3])) == names[4:]
    assert storage_folder.files_after(world.topic, names[-1]) == {}
