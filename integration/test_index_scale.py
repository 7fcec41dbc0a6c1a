"""What a reader asks of the archive does not grow with what it does not read: requests are counted, nothing is timed."""

import uuid
from datetime import UTC, datetime

import pytest

from beam_unified import Kafka, KafkaTimestamp, ReadUnified, Start, Stop
from beam_unified.harness import plain_read
from beam_unified.source.discovery import find_partitions
from integration.large_archive import MIDDLE_MS, RECORDS, LargeArchive, counted

OWN = 1_200
"""Of one partition: two requests, of a thousand names each."""


@pytest.fixture
def bucket(object_store):
    return object_store.make_bucket("scale")


def large(kafka, store, bucket, elsewhere):
    """Twenty partitions, one of which is read."""
    topic = kafka.create_topic(f"scale-{uuid.uuid4().hex[:8]}", 20)
    return LargeArchive.write(store, bucket, topic, own=OWN, elsewhere=elsewhere, partitions=20)


def read_of(broker, archive, topic):
    """A flush in the middle."""
    middle = datetime.fromtimestamp(MIDDLE_MS / 1_000, UTC)
    return ReadUnified(
        topic, Kafka(broker.bootstrap_servers), archive, timestamp_fn=KafkaTimestamp(), start=Start.at(middle),
        stop=Stop.offsets(dict.fromkeys(range(20), (OWN // 2 + 1) * RECORDS)), output="record",
    )  # fmt: skip


@pytest.mark.rule("R3", "A1")
def test_listings_do_not_grow_with_the_flushes_of_other_partitions(kafka, object_store, bucket):
    """R3: 19 flushes elsewhere or 3,000: the partitions are listed once, the reader's own flushes once, no hour folder."""
    asked = {}
    for elsewhere in (19, 3_000):
        made = large(kafka, object_store, bucket, elsewhere)
        read = read_of(kafka, made.archive, made.topic)
        with counted(made.archive) as requests:
            found = [record.offset for record, _ in plain_read(read, (made.topic, 0))]
        assert found == list(range(OWN // 2 * RECORDS, (OWN // 2 + 1) * RECORDS))
        asked[elsewhere] = dict(requests.operations)
    assert asked[19] == asked[3_000]
    assert asked[3_000]["ListObjectsV2"] == 1 + 2


@pytest.mark.rule("R3", "A1")
def test_a_check_lists_the_partitions_and_one_of_them(kafka, object_store, bucket):
    """R3: what is done while a pipeline is built, and once a worker."""
    made = large(kafka, object_store, bucket, 3_000)
    with counted(made.archive) as requests:
        find_partitions(read_of(kafka, made.archive, made.topic).splittable_dofn().options)
    assert requests.listings == 1 + 2
