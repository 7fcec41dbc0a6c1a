"""The archiver over a real broker and real S3: kills at every step, two at once, transactions; plain readers; the runners."""

import multiprocessing
import random
import signal
import time
import uuid
from collections import Counter
from datetime import timedelta

import apache_beam as beam
import duckdb
import pyarrow.dataset as ds
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from confluent_kafka import Producer
from kafka.admin import ConfigResource, ConfigResourceType

from beam_unified import (
    Announced,
    Archive,
    ArchiveTopic,
    Kafka,
    KafkaCommitTopic,
    KafkaTimestamp,
    ReadUnified,
    Stop,
    TopicPartition,
    find_orphans,
    remove_orphans,
)
from beam_unified.archive.storage import Storage
from beam_unified.archiver.announcements import announce_again, decode
from beam_unified.errors import ConfigError
from beam_unified.harness import plain_read
from beam_unified.stores import Fetched
from integration import archiver_process
from integration.test_runners import flink_options, prism_options
from integration.unlimited_log import Results, WriteLines
from pipelines.archive_topic import build

# A runner that is cancelled or killed hangs up on the workers in this process, whose threads end with gRPC's error.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

# Each child is forked from a server that has imported everything: a new interpreter takes seconds.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["integration.archiver_process"])

T0 = 1_794_830_400_000
HOUR_MS = 3_600_000


class Topic:
    """A topic on the broker, the archive it goes to, and the producer's ledger: what a committed read must see."""

    def __init__(self, broker, root, storage_options, partitions=1):
        self.broker, self.partitions = broker, partitions
        self.name = broker.create_topic(f"archived-{uuid.uuid4().hex[:8]}", partitions)
        self.kafka = Kafka(broker.bootstrap_servers)
        self.archive = Archive(root, storage_options)
        self.commits = KafkaCommitTopic(kafka=self.kafka, topic=f"{self.name}-commits")
        self.ledger: dict[int, dict[int, bytes]] = {number: {} for number in range(partitions)}
        self._random = random.Random(5)
        self._n = 0

    def produce(self, records, *, transactions=False):
        """Out of order over some hours. With transactions, every third of ten records is aborted."""
        settings = {"bootstrap.servers": self.broker.bootstrap_servers, "linger.ms": 5}
        if not transactions:
            self._send(Producer(settings), records, keep=True)
            return
        producer = Producer({**settings, "transactional.id": uuid.uuid4().hex})
        producer.init_transactions(10)
        for number in range(records // 10):
            producer.begin_transaction()
            self._send(producer, 10, keep=number % 3 != 1)
            (producer.abort_transaction if number % 3 == 1 else producer.commit_transaction)(10)

    def _send(self, producer, records, *, keep):
        def delivered(error, message):
            assert error is None
            if keep:
                self.ledger[message.partition()][message.offset()] = message.value()

        for _ in range(records):
            self._n += 1
            when = T0 + self._n * 1_000 - self._random.choice([0, 0, 0, HOUR_MS, 30 * HOUR_MS])
            producer.produce(
                self.name, b"%d" % self._n, b"k", self._n % self.partitions, on_delivery=delivered, timestamp=when
            )
        producer.flush()

    def stop(self, partition=0):
        log = self.kafka.connect()
        try:
            return log.bounds(TopicPartition(self.name, partition)).stop
        finally:
            log.close()

    def spawn(self, *, die_before="nothing", die_at=1, records=40):
        arguments = {
            "root": self.archive.root, "storage_options": dict(self.archive.storage_options), "topic": self.name,
            "partition": 0, "servers": self.broker.bootstrap_servers, "commits": self.commits.topic, "stop": self.stop(),
            "die_before": die_before, "die_at": die_at, "records": records,
        }  # fmt: skip
        process = _PROCESSES.Process(target=archiver_process.main, args=(arguments,))
        process.start()
        return process

    def storage(self):
        return Storage(self.archive.root, self.archive.storage_options)

    def check(self, *, orphans=False):
        """The ledger is what `ReadUnified` sees, and what a plain Parquet reader sees; every commit was announced."""
        for partition, ledger in self.ledger.items():
            read = ReadUnified(
                self.name, self.kafka, self.archive, timestamp_fn=KafkaTimestamp(), stop=Stop.now(), output="record"
            )
            found = [record for record, _ in plain_read(read, (self.name, partition))]
            assert [(record.offset, record.value) for record in found] == sorted(ledger.items())
            assert {record.store for record in found} == {"archive"}
        assert [path for path in self.storage().files(self.name) if path.startswith("_claims")] == []
        assert (find_orphans(self.archive, self.name).paths != ()) == orphans
        rows = self.table().select(["offset", "value"]).to_pylist()
        assert sorted((row["offset"], row["value"]) for row in rows) == sorted(
            pair for ledger in self.ledger.values() for pair in ledger.items()
        )
        assert self.announced() == self.committed()

    def table(self):
        files, root = self.archive.file_system()
        return ds.dataset(f"{root}/{self.name}", filesystem=files, format="parquet", partitioning="hive").to_table()

    def committed(self):
        log = self.archive.connect()
        return {(n, f.start, f.stop) for n in self.ledger for f in log.index(TopicPartition(self.name, n))}

    def messages(self):
        log, tp, offset, found = self.kafka.connect(), TopicPartition(self.commits.topic, 0), 0, []
        stop = log.bounds(tp).stop
        while offset < stop:
            fetched = log.fetch(tp, offset, max_records=1_000, timeout_ms=500)
            assert isinstance(fetched, Fetched)
            values = [] if fetched.batch is None else fetched.batch.values()
            found += [decode(value, "message") for value in values if value is not None]
            offset = fetched.next_offset
        log.close()
        return found

    def announced(self):
        return {(one.tp.partition, one.flush.start, one.flush.stop) for one in self.messages()}


@pytest.fixture(params=["s3", "disk"])
def topic(request, kafka, tmp_path):
    if request.param == "disk":
        return Topic(kafka, (tmp_path / "archive").as_posix(), {})
    return on_s3(kafka, request.getfixturevalue("object_store"))


def on_s3(kafka, store, partitions=1):
    return Topic(kafka, f"s3://{store.make_bucket('archiver')}/merced", store.storage_options, partitions)


STEPS = [
    ("after poll", 2), ("claim", 2), ("check", 2), ("upload a part", 1), ("upload a part", 2), ("within an upload", 2),
    ("commit", 1), ("announce", 1), ("release", 2),
]  # fmt: skip


@pytest.mark.rule("A2")
def test_kill_at_every_step(topic):
    """A2: SIGKILL after a poll, around the claim, within and between uploads, before commit, announcement and release.

    The log grows meanwhile, in transactions of which a third is aborted; each process finds what the one before it left.
    """
    topic.produce(120)
    on_disk = topic.archive.root.startswith("/")
    for step, count in STEPS[::3] + STEPS[4:6] if on_disk else STEPS:
        topic.produce(60, transactions=True)
        process = topic.spawn(die_before=step, die_at=count)
        assert exit_code(process) == -signal.SIGKILL, step
    finished(topic.spawn())
    topic.check(orphans=on_disk)  # half of an upload, under a hidden name
    assert len(remove_orphans(topic.archive, topic.name).paths) == int(on_disk)
    topic.check()


def finished(process):
    assert exit_code(process) == 0


def exit_code(process):
    process.join(60)
    return process.exitcode


@pytest.mark.rule("A2")
def test_two_at_once_and_from_nothing(kafka, object_store):
    """A2: three processes with limits of their own on one partition; then one more from nothing, which finds all done."""
    topic = on_s3(kafka, object_store)
    topic.produce(300)
    topic.produce(300, transactions=True)
    processes = [topic.spawn(records=records) for records in (25, 40, 31)]
    for process in processes:
        finished(process)
    topic.check()
    before = topic.committed()
    finished(topic.spawn())
    assert topic.committed() == before
    topic.check()


@pytest.mark.rule("A1", "A2")
def test_query_engines_read_the_folder_as_a_table(kafka, tmp_path):
    """A1: pyarrow.dataset and DuckDB, with hive partitions; commits and claims disturb neither. DuckDB prunes by hour."""
    topic = Topic(kafka, (tmp_path / "archive").as_posix(), {})
    topic.produce(200)
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        build(pipeline, topic.name, kafka=topic.kafka, archive=topic.archive, notify=topic.commits, stop=Stop.now())
    topic.check()
    table = topic.table()
    assert {"dt", "hr", "offset"} <= set(table.column_names)
    glob = f"{topic.archive.root}/{topic.name}/dt=*/hr=*/*.parquet"
    rows = f"read_parquet('{glob}', hive_partitioning=true)"
    query = f'select dt, hr, count(*), min("offset") from {rows} group by all order by all'
    counts = duckdb.connect().execute(query).fetchall()
    assert sum(count for _, _, count, _ in counts) == 200
    assert len(counts) > 2
    by_hour = Counter(zip(map(str, table.column("dt").to_pylist()), table.column("hr").to_pylist(), strict=True))
    assert {(str(day), int(hour)): count for day, hour, count, _ in counts} == {
        (day, int(hour)): count for (day, hour), count in by_hour.items()
    }


@pytest.mark.rule("A2")
@pytest.mark.parametrize("runner", ["fn_api", "prism"])
def test_a_bounded_pipeline(kafka, object_store, tmp_path, runner, request):
    """A2: everything up to now, over two partitions; the output are the flushes, in order, one after the other."""
    topic = on_s3(kafka, object_store, partitions=2)
    topic.produce(500, transactions=True)
    results = Results(tmp_path)
    options = prism_options(request.getfixturevalue("prism")) if runner == "prism" else []
    engine = FnApiRunner() if runner == "fn_api" else None
    for _ in range(2):
        with beam.Pipeline(runner=engine, options=PipelineOptions(options)) as pipeline:
            archive_and_write(pipeline, topic, results, stop=Stop.now(), flush_records=60)
        topic.produce(100)
    archived = {(partition, start, stop) for partition, start, stop in results.lines("flushes")}
    assert archived == topic.committed()
    assert len(archived) == sum(1 for _ in results.lines("flushes"))


def archive_and_write(pipeline, topic, results, **options):
    flushes = pipeline | ArchiveTopic(topic.name, topic.kafka, topic.archive, notify=topic.commits, **options)
    _ = (
        flushes
        | "Row" >> beam.Map(lambda flush: [flush.partition, flush.start, flush.stop])
        | "Write" >> beam.ParDo(WriteLines(results.folder, "flushes"))
    )


@pytest.mark.rule("A2", "R8")
def test_flink_survives_a_kill(kafka, object_store, tmp_path, flink):
    """A2, R8: for ever on Flink, the task manager killed while it archives; checkpoints pass meanwhile."""
    topic = on_s3(kafka, object_store, partitions=2)
    results = Results(tmp_path)
    topic.produce(2_000)
    pipeline = beam.Pipeline(options=PipelineOptions([*flink_options(flink), "--job_name=archiver"]))
    archive_and_write(pipeline, topic, results, flush_records=150, flush_interval=timedelta(seconds=1))
    result = pipeline.run()
    try:
        job = flink.job_id("archiver")
        wait_until(lambda: len(topic.committed()) > 3, "some flushes")
        wait_until(lambda: flink.completed_checkpoints(job) > 0, "a checkpoint")
        flink.kill_task_manager()
        topic.produce(1_000)
        flink.start_task_manager()
        topic.produce(500, transactions=True)
        ends = [topic.stop(partition) for partition in range(2)]
        wait_until(lambda: all(archived_to(topic, n) >= last_record(topic, n) for n in range(2)), "everything archived")
        assert flink.restarts(job) >= 1
        wait_until(
            lambda: topic.committed() <= {tuple(line) for line in results.lines("flushes")}, "every flush came out"
        )
        before = flink.completed_checkpoints(job)
        wait_until(lambda: flink.completed_checkpoints(job) > before, "checkpoints go on")
        flink.cancel(job)
    finally:
        result.cancel()
    assert all(end > 0 for end in ends)
    topic.check()


def archived_to(topic, partition):
    return topic.archive.connect().index(TopicPartition(topic.name, partition)).stop or 0


def last_record(topic, partition):
    return max(topic.ledger[partition]) + 1


def wait_until(done, what, seconds=90):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what}: not in {seconds} s"
        time.sleep(0.3)


@pytest.mark.rule("A4")
def test_an_archive_is_announced_again(kafka, tmp_path):
    """A4: every commit of an archive, for one that was written without, or whose topic was lost."""
    topic = Topic(kafka, (tmp_path / "archive").as_posix(), {})
    topic.produce(200)
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        _ = pipeline | ArchiveTopic(topic.name, topic.kafka, topic.archive, stop=Stop.now(), flush_records=50)
    assert announce_again(topic.archive, topic.name, topic.commits) == len(topic.committed()) == 4
    assert topic.announced() == topic.committed()
    announced = Announced(topic.archive, topic.commits)
    read = ReadUnified(
        topic.name, topic.kafka, announced, timestamp_fn=KafkaTimestamp(), stop=Stop.now(), output="record"
    )
    found = [record for record, _ in plain_read(read, (topic.name, 0))]
    assert [(record.offset, record.value) for record in found] == sorted(topic.ledger[0].items())
    assert {record.store for record in found} == {"archive"}


@pytest.mark.rule("A4")
def test_a_commit_topic_never_forgets(kafka, tmp_path):
    """A4: it is created compacted; one that exists and has a retention is refused, when the pipeline is built and on a worker."""
    topic = Topic(kafka, (tmp_path / "archive").as_posix(), {})
    topic.commits.check()  # not there yet: nothing is created by looking
    topic.commits.connect().close()
    topic.commits.check()
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.commits.topic, ["cleanup.policy"])
    with kafka.admin() as admin:
        described = admin.describe_configs([resource], config_filter="all")
    assert described["topic"][topic.commits.topic]["cleanup.policy"]["value"] == "compact"
    forgetful = kafka.create_topic(f"{topic.name}-forgetful", 1, {"retention.ms": "3600000"})
    commits = KafkaCommitTopic(kafka=topic.kafka, topic=forgetful)
    message = f"{forgetful}.*cleanup.policy=delete, retention.ms=3600000.*compact"
    with pytest.raises(ConfigError, match=message):
        commits.connect()
    with pytest.raises(ConfigError, match=message):
        beam.Pipeline() | ArchiveTopic(topic.name, topic.kafka, topic.archive, notify=commits)
    kept = kafka.create_topic(f"{topic.name}-kept", 1)  # nothing is ever deleted
    KafkaCommitTopic(kafka=topic.kafka, topic=kept).connect().close()
