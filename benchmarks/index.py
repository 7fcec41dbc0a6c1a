"""The index of an archive of very many flushes: what it costs a reader that starts in the middle of it.

`python -m benchmarks` makes a small one (`FLUSHES`); `python -m benchmarks.index --flushes 100000` the whole size: seven days of 64
partitions. Each figure comes from a process of its own, once with few flushes outside of its partition and once with all of
them: the listings must be as many. By listing, and by announcements. Connecting to both stores is in the times.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection

import psutil
from apache_beam.runners.sdf_utils import (
    RestrictionTrackerView,
    ThreadsafeRestrictionTracker,
    ThreadsafeWatermarkEstimator,
)
from confluent_kafka import Producer

from beam_unified import Announced, Archive, Kafka, KafkaCommitTopic, KafkaTimestamp, ReadUnified, Start, TopicPartition
from beam_unified.archiver import announcements
from benchmarks.sync import print_figures
from integration.large_archive import MIDDLE_MS, LargeArchive, counted
from integration.services import lifecycle
from integration.services.kafka import KafkaBroker
from integration.services.object_store import ObjectStore
from integration.services.process import Run, named_run

FLUSHES = 6_400
FEW_ELSEWHERE = 1_000
PARTITIONS = 64

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What it cost. "All" is a worker that has every partition; the memory is what it then holds more than before.

    `cpu` are seconds of processor in the reader's process, which what else runs on the machine changes little.
    """

    first_record_s: float
    first_record_cpu_s: float
    listings: int
    listing_kib: int
    first_record_mib: int
    all_partitions_s: float
    all_partitions_cpu_s: float
    all_listings: int
    all_listing_kib: int
    all_mib: int


def measure(run: Run, broker: KafkaBroker, *, flushes: int = FLUSHES) -> dict[str, object]:
    """Costs by index and by how much there is elsewhere.

    Raises:
        AssertionError: flushes elsewhere made a reader of one partition list more.
    """
    store = lifecycle.ensure(ObjectStore, run)
    bucket, own = store.make_bucket("index"), flushes // PARTITIONS
    found: dict[str, object] = {}
    listings = dict[str, set[int]]()
    for elsewhere in (min(FEW_ELSEWHERE, flushes // 2), flushes - own):
        print(f"index: {own} flushes of one partition, {elsewhere} elsewhere", file=sys.stderr, flush=True)
        topic = broker.create_topic(f"index-{elsewhere}", PARTITIONS)
        large = LargeArchive.write(store, bucket, topic, own=own, elsewhere=elsewhere, partitions=PARTITIONS)
        kafka = Kafka(broker.bootstrap_servers)
        commits = KafkaCommitTopic(kafka=kafka, topic=f"{topic}-commits")
        announced_kib = _announce(large, commits, broker.bootstrap_servers) // 1024
        for index, source in (("listed", large.archive), ("announced", Announced(large.archive, commits))):
            cost = _in_a_process(source, kafka, topic)
            listings.setdefault(index, set()).add(cost.listings)
            found[f"{index}, {elsewhere} more"] = asdict(cost)
        found[f"messages, {elsewhere} more"] = {"announced_kib": announced_kib}
    assert all(len(counts) == 1 for counts in listings.values()), listings
    return found


def _announce(large: LargeArchive, commits: KafkaCommitTopic, servers: str) -> int:
    """Every commit; gives the bytes. As `announce_again`, without waiting for each."""
    commits.connect().close()  # creates the topic
    producer, size = Producer({"bootstrap.servers": servers, "linger.ms": 50, "compression.type": "zstd"}), 0
    for number, commit in enumerate(large.commits()):
        key, value = announcements.key_of(commit), announcements.encode(commit)
        producer.produce(commits.topic, value, key, 0)
        size += len(key) + len(value)
        if number % 10_000 == 0:
            producer.flush()
    producer.flush()
    return size


def _in_a_process(source: Archive | Announced, kafka: Kafka, topic: str) -> Cost:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["beam_unified", "integration.large_archive", "s3fs"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(there, source, kafka, topic))
    process.start()
    there.close()
    cost: Cost = here.recv()
    process.join()
    return cost


def _measured(answer: Connection, source: Archive | Announced, kafka: Kafka, topic: str) -> None:
    archive = source.archive if isinstance(source, Announced) else source
    began, cpu, before = time.perf_counter(), time.process_time(), _rss()
    with counted(archive) as requests:
        _first_record(source, kafka, topic)
        first_s, listings, size, first_rss = (
            time.perf_counter() - began,
            requests.listings,
            requests.listing_bytes,
            _rss(),
        )
    first_cpu_s = time.process_time() - cpu
    began, cpu = time.perf_counter(), time.process_time()
    with counted(archive) as requests:
        log = source.connect()
        log.check(topic, isolation_level=kafka.isolation_level)
        indexes = [log.index(TopicPartition(topic, number)) for number in range(PARTITIONS)]
        assert all(indexes)
        all_s, all_cpu_s = time.perf_counter() - began, time.process_time() - cpu
        all_rss = _rss()
        log.close()
    answer.send(
        Cost(
            first_record_s=round(first_s, 2),
            first_record_cpu_s=round(first_cpu_s, 2),
            listings=listings,
            listing_kib=size // 1024,
            first_record_mib=(first_rss - before) // _MIB,
            all_partitions_s=round(all_s, 2),
            all_partitions_cpu_s=round(all_cpu_s, 2),
            all_listings=requests.listings,
            all_listing_kib=requests.listing_bytes // 1024,
            all_mib=(all_rss - first_rss) // _MIB,
        )
    )


def _first_record(source: Archive | Announced, kafka: Kafka, topic: str) -> None:
    """As a worker does it: where to start, and the first call up to its first batch."""
    read = ReadUnified(
        topic,
        kafka,
        source,
        timestamp_fn=KafkaTimestamp(),
        start=Start.at(datetime.fromtimestamp(MIDDLE_MS / 1_000, UTC)),
        validate=False,
    )
    dofn, element = read.splittable_dofn(), (topic, 0)
    dofn.setup()
    restriction = dofn.initial_restriction(element)
    tracker = RestrictionTrackerView(ThreadsafeRestrictionTracker(dofn.create_tracker(restriction)))
    state = dofn.initial_estimator_state(element, restriction)
    estimator = ThreadsafeWatermarkEstimator(dofn.create_watermark_estimator(state))
    chunk = next(iter(dofn.process(element, tracker=tracker, estimator=estimator))).value
    first = next(chunk.batch.iter_records())
    assert first.timestamp is not None
    assert first.timestamp >= MIDDLE_MS


def _rss() -> int:
    return int(psutil.Process().memory_info().rss)


def main() -> int:
    """The whole size, by itself."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__)
    parser.add_argument("--flushes", type=int, default=100_000)
    arguments = parser.parse_args()
    run = named_run(f"bench-{os.getpid()}")
    try:
        found = measure(run, lifecycle.ensure(KafkaBroker, run), flushes=arguments.flushes)
    finally:
        run.remove()
    print_figures(found)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
