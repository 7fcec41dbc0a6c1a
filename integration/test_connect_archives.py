"""Archives of Confluent's and Aiven's sinks, then Kafka: one stream, over a real broker and S3, with the tags of its objects."""

import io
import json
import uuid
from dataclasses import dataclass
from datetime import timedelta

import apache_beam as beam
import fastavro
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from kafka.codec import snappy_encode

from beam_unified import HOURLY, Aiven, Archive, Confluent, JsonField, Kafka, KafkaTimestamp, ReadUnified, Stop
from integration.services.object_store import ObjectStore
from integration.unlimited_log import Results, WriteLines, half_forgotten

PRODUCED = {0: 120, 1: 40}
ARCHIVED = {0: 90, 1: 40}
KEPT_FROM = {0: 70, 1: 30}
"""First offset that Kafka still holds: the archive reaches beyond it."""

T0 = 1_794_830_400_000


def value_of(partition, offset):
    """A value as its producer made it: JSON, keys sorted, no spaces; its own time is Kafka's."""
    return json.dumps({"id": f"{partition}-{offset}", "time": time_of(offset)}, separators=(",", ":")).encode()


def key_of(offset):
    return b"k%d" % offset


def time_of(offset):
    return T0 + 60_000 * offset


@dataclass(frozen=True)
class World:
    """The topic, and the bucket with its archives."""

    topic: str
    kafka: Kafka
    store: ObjectStore
    bucket: str

    def archive(self, layout, name, *, accept=("timestamp", "headers")):
        """An empty archive of its own, its file system, and the path of its root there."""
        root = f"s3://{self.bucket}/{name}-{uuid.uuid4().hex[:8]}"
        archive = Archive(root, self.store.storage_options, layout=layout, accept_missing=accept)
        return archive, *archive.file_system()

    def confluent(self, layout, *, tagged=True, holes=()):
        """Files of Avro by the hour, keys beside values, their offsets in tags."""
        archive, files, base = self.archive(layout, "confluent")
        for partition, count in ARCHIVED.items():
            for start in range(0, count, 30):
                offsets = [offset for offset in range(start, min(start + 30, count)) if offset not in holes]
                hour = f"year=2026/month=11/day=16/hour={start // 60:02d}"
                stem = f"{base}/topics/{self.topic}/{hour}/{self.topic}+{partition}+{start:010d}"
                values = [json.loads(value_of(partition, offset)) for offset in offsets]
                files.pipe(f"{stem}.avro", avro_of([("id", "string"), ("time", "long")], values))
                files.pipe(f"{stem}.keys.avro", avro_of("string", [key_of(offset).decode() for offset in offsets]))
                tags = {"startOffset": offsets[0], "endOffset": offsets[-1], "recordCount": len(offsets)}
                if tagged:
                    files.put_tags(f"{stem}.avro", {name: str(number) for name, number in tags.items()})
        return archive


def avro_of(schema, rows):
    """A container file, of a record with these fields where they are a list."""
    out = io.BytesIO()
    fields = [{"name": name, "type": kind} for name, kind in schema] if isinstance(schema, list) else []
    kind = {"type": "record", "name": "Pin", "fields": fields} if fields else schema
    fastavro.writer(out, fastavro.parse_schema(kind), rows, codec="snappy")
    return out.getvalue()


@pytest.fixture(scope="module")
def world(kafka, object_store):
    rows = ((partition, n) for partition, records in PRODUCED.items() for n in range(records))
    topic = half_forgotten(
        kafka, {(partition, n): (key_of(n), value_of(partition, n), time_of(n)) for partition, n in rows}, KEPT_FROM
    )
    return World(topic, Kafka(kafka.bootstrap_servers), object_store, object_store.make_bucket("connect"))


def seen(record):
    """What is compared: partition, offset, store, and whether value and key, and timestamp, are the ledger's."""
    same = record.value == value_of(record.partition, record.offset) and record.key == key_of(record.offset)
    return [record.partition, record.offset, int(record.store == "kafka"), int(same), record.timestamp]


def run(world, archive, folder, **options):
    """The lines of a read, per partition in order."""
    settings = {"stop": Stop.offsets(PRODUCED), "timestamp_fn": JsonField("time", unit="ms"), **options}
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        records = pipeline | ReadUnified(world.topic, world.kafka, archive, output="record", **settings)
        _ = records | beam.Map(seen) | beam.ParDo(WriteLines(folder, "records"))
    lines = list(Results(folder).lines("records"))
    return {partition: [line[1:] for line in lines if line[0] == partition] for partition in PRODUCED}


@pytest.mark.rule("A3", "R1")
def test_confluent_then_kafka_is_one_stream(world, tmp_path):
    """A3, R1: offsets by the tags of S3; values of Avro are, as JSON, the bytes that Kafka has; the handoff is exact."""
    layout = Confluent(format="avro", ends="tags", keys="avro", partitioner=HOURLY)
    found = run(world, world.confluent(layout), tmp_path)
    for partition, records in PRODUCED.items():
        assert [line[0] for line in found[partition]] == list(range(records))
        assert all(line[2] for line in found[partition])
        assert [line[0] for line in found[partition] if line[1]] == list(range(ARCHIVED[partition], records))
        assert {line[3] for line in found[partition] if not line[1]} == {None}


@pytest.mark.rule("A3", "R1")
def test_a_file_whose_tags_show_a_hole_is_refused(world, tmp_path):
    """A3, R1: which record has which offset is not known, so none is given; the error names the file."""
    layout = Confluent(format="avro", ends="tags", keys="avro", partitioner=HOURLY)
    with pytest.raises(Exception, match=rf"{world.topic}\+0\+0000000030.avro.*29 records for offsets 30 to 59"):
        run(world, world.confluent(layout, holes=[40]), tmp_path, gap_timeout=timedelta(0))


@pytest.mark.rule("A3", "R1", "R6")
def test_aiven_then_kafka_is_one_stream(world, tmp_path):
    """A3, R1: offsets, keys and Kafka's timestamps from the files, which overlap; the handoff is exact."""
    layout = Aiven(format="jsonl", fields=("key", "value", "offset", "timestamp"), compression="snappy", prefix="logs/")
    archive, files, base = world.archive(layout, "aiven", accept=("headers",))
    for partition, count in ARCHIVED.items():
        for start in range(0, count, 20):
            rows = [aiven_row(partition, offset) for offset in range(start, min(start + 25, count))]
            files.pipe(f"{base}/logs/{world.topic}-{partition}-{start}.snappy", xerial(b"\n".join(rows)))
    found = run(world, archive, tmp_path, timestamp_fn=KafkaTimestamp())
    for partition, records in PRODUCED.items():
        assert [line[0] for line in found[partition]] == list(range(records))
        assert all(line[2] for line in found[partition])
        assert [line[3] for line in found[partition]] == [time_of(offset) for offset in range(records)]
        assert [line[0] for line in found[partition] if line[1]] == list(range(ARCHIVED[partition], records))


def aiven_row(partition, offset):
    """A line of jsonl."""
    minutes = (time_of(offset) - T0) // 60_000
    time = f"2026-11-16T{12 + minutes // 60:02d}:{minutes % 60:02d}:00Z"
    value = value_of(partition, offset).decode()
    return f'{{"key":"{key_of(offset).decode()}","value":{value},"offset":{offset},"timestamp":"{time}"}}'.encode()


def xerial(content):
    """As SnappyOutputStream frames it."""
    return snappy_encode(content, xerial_compatible=True)
