"""Partitions that appear, stay silent or are cut in pieces, on the real runners over a real broker and S3."""

import contextlib
import functools
import re
import time
import uuid
from datetime import timedelta

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from confluent_kafka import Producer

from beam_unified import Archive, Kafka, KafkaTimestamp, ReadUnified, Stop
from integration.services.flink import flink_pipeline_options
from integration.synced_job import write_down
from integration.test_runners import CLOSING_JUMP_MS, flink_options, prism_options, wait_for
from integration.unlimited_log import Ledger, Results, Scenario, SlowDown, window_and_write

# A runner that is cancelled or killed hangs up on the workers in this process, whose threads end with gRPC's error.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

RUNNERS = ["prism", "flink"]
WINDOW_S = 1
SOON = timedelta(milliseconds=500)


class LiveTopics:
    """Topics whose records are as old as the clock says. A partition is known by one number, for the ledger's sake."""

    def __init__(self, broker):
        self.broker = broker
        self.prefix = f"live-{uuid.uuid4().hex[:8]}-"
        self.ledger = Ledger()

    def create(self, letter, partitions):
        return self.broker.create_topic(f"{self.prefix}{letter}", partitions)

    def add_partitions(self, letter, count):
        with self.broker.admin() as admin:
            admin.create_partitions({f"{self.prefix}{letter}": count})

    def produce(self, letter, partition, seconds, per_second=10):
        """Writes for so long, at the pace of the clock; every record is read as soon as it is there."""
        producer = Producer(
            {"bootstrap.servers": self.broker.bootstrap_servers, "linger.ms": 0}
        )  # knows of new partitions
        for _ in range(int(seconds * per_second)):
            producer.produce(
                f"{self.prefix}{letter}", b"x", None, partition, timestamp=round(time.time() * 1_000),
                on_delivery=lambda error, message: self._note(letter, partition, error, message),
            )  # fmt: skip
            producer.flush()
            time.sleep(1 / per_second)

    def _note(self, letter, partition, error, message):
        assert error is None
        self.ledger.times[number_of(letter, partition)][message.offset()] = message.timestamp()[1]

    def read(self, topic, **options):
        return ReadUnified(
            topic, Kafka(self.broker.bootstrap_servers), None, timestamp_fn=KafkaTimestamp(), output="record",
            idle_timeout=SOON, **{"discovery_interval": SOON, **options},
        )  # fmt: skip

    @property
    def expected(self):
        return self.ledger.windows(WINDOW_S)


def number_of(letter, partition):
    return (ord(letter) - ord("a")) * 10 + partition


def numbered(record):
    """A record with the number of its topic and partition in place of the partition's."""
    return record._replace(partition=number_of(record.topic[-1], record.partition))


@pytest.fixture
def topics(kafka):
    return LiveTopics(kafka)


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path)


@pytest.fixture(params=RUNNERS)
def run(request, results):
    """Runs a read, unbounded, on a runner; gives what the job is called there, and cancels it."""
    name = f"{request.param}-{uuid.uuid4().hex[:6]}"
    service = request.getfixturevalue(request.param)
    if request.param == "prism":
        options = [*prism_options(service), "--streaming"]
    else:
        options = [*flink_options(service), f"--job_name={name}", "--number_of_execution_retries=0"]

    @contextlib.contextmanager
    def running(read, window_s=WINDOW_S):
        pipeline = beam.Pipeline(options=PipelineOptions(options))
        window_and_write(pipeline | read | "Number" >> beam.Map(numbered), results.folder, window_s)
        result = pipeline.run()
        job = service.job_id(name) if request.param == "flink" else None
        try:
            yield result
            if job:
                assert service.late_drops(job) == 0
        finally:
            if job and service.jobs()[job] == "RUNNING":
                service.cancel(job)
            result.cancel()

    return running


def check_windows(topics, results, seconds=60):
    """All windows of what was produced fire, each with exactly its records."""
    expected = topics.expected
    wait_for(results, lambda: expected.keys() <= results.windows().keys(), seconds=seconds)
    assert results.problems(expected) == []


@pytest.mark.rule("R10", "T2", "R1")
def test_partitions_and_topics_that_appear_beside_some_that_are_silent(topics, results, run):
    """R10, T2: found by pattern while the job runs, first records not late; idle, never-written ones pin nothing.

    Each stage ends when all windows so far have fired, so the watermark goes on over unchanged topics, too.
    """
    topics.create("a", 3)  # 0 is written now and then, 1 once, 2 never
    with run(topics.read(re.compile(re.escape(topics.prefix) + "[ab]"))):
        topics.produce("a", 1, 0.5)
        topics.produce("a", 0, 3)
        check_windows(topics, results)
        topics.add_partitions("a", 4)
        topics.produce("a", 3, 2)
        check_windows(topics, results)
        topics.create("b", 2)
        topics.produce("b", 1, 2)
        topics.create("c", 1)  # which the pattern does not match
        topics.produce("a", 0, 2)
        check_windows(topics, results)
        found = {number: sorted(offsets) for number, offsets in results.read_order().items()}
        assert found == topics.ledger.offsets()


@pytest.mark.rule("R10")
def test_topics_by_name(topics, results, run):
    """Several in one transform; one of them gets a partition while the job runs."""
    read = [topics.create("a", 1), topics.create("b", 1)]
    topics.create("c", 1)
    with run(topics.read(read)):
        topics.produce("a", 0, 1)
        topics.produce("b", 0, 1)
        topics.add_partitions("b", 2)
        topics.produce("b", 1, 1)
        check_windows(topics, results)


@pytest.mark.rule("T2")
def test_a_silent_partition_holds_the_windows_when_told_to(topics, results, run):
    """T2: with on_idle="hold" nobody takes silence for the passing of time; a record in it lets the windows go."""
    topics.create("a", 2)
    with run(topics.read([f"{topics.prefix}a"], on_idle="hold", discovery_interval=None)):
        topics.produce("a", 0, 2)
        wait_for(results, lambda: len(results.read_order().get(0, [])) == len(topics.ledger.times[0]), seconds=60)
        time.sleep(3)
        assert results.windows() == {}
        closed = topics.expected
        time.sleep(WINDOW_S)
        topics.produce("a", 1, 0.1)
        topics.produce("a", 0, 0.1)
        wait_for(results, lambda: closed.keys() <= results.windows().keys(), seconds=60)
        assert results.problems(closed) == []


@pytest.mark.rule("R2", "R10")
def test_a_topic_created_anew_fails_the_job(topics, results, run, request):
    """R10: the same name, other records: an error that says so, at the latest when the client asks again for metadata."""
    topic = topics.create("a", 1)
    failure = None
    with contextlib.suppress(RuntimeError), run(topics.read(topic)) as result:
        topics.produce("a", 0, 1)
        check_windows(topics, results)
        topics.broker.delete_topic(topic)
        time.sleep(2)
        topics.create("a", 1)
        topics.produce("a", 0, 2)
        failure = wait_for_failure(result, request)
    assert "deleted and created anew" in str(failure)


def wait_for_failure(result, request):
    """Why the job failed, in the runner's words."""
    if "prism" in request.fixturenames:
        with pytest.raises(RuntimeError) as error:
            result.wait_until_finish()
        return error.value
    flink = request.getfixturevalue("flink")
    job = next(iter(flink.jobs()))
    flink.wait_for_state(job, "FAILED")
    return flink.job_exceptions(job)


# -- without order


PIECES = 6
RECORDS = 3_000


@pytest.fixture
def scenario(kafka, object_store):
    """Two partitions, seven tenths of each archived in six flushes, with an overlap with Kafka."""
    archive = Archive(f"s3://{object_store.make_bucket('pieces')}/merced", object_store.storage_options)
    scenario = Scenario(kafka, archive, partitions=2)
    scenario.produce(RECORDS * 7 // 10)
    scenario.archive_and_expire(flushes=PIECES, keep=100)
    scenario.produce(RECORDS * 3 // 10)
    return scenario


def read_in_pieces(scenario, folder, options, *, stop, runner=None, slow=0.0):
    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(options))
    stop_at = Stop.offsets(scenario.stop_offsets()) if stop else None
    records = pipeline | scenario.read(stop=stop_at, ordered=False)
    if slow:
        records = records | "Slow" >> beam.ParDo(SlowDown(slow))
    window_and_write(records, folder)
    return pipeline.run()


def check_all(scenario, results, *, once=True):
    offsets = results.read_order()
    assert {
        number: sorted(found if once else set(found)) for number, found in offsets.items()
    } == scenario.ledger.offsets()
    assert results.problems(scenario.ledger.windows()) == []
    assert results.windows().keys() == scenario.ledger.windows().keys()


@pytest.mark.rule("R7", "R9", "T1")
@pytest.mark.parametrize("runner", ["fn_api", "prism", "flink"])
def test_a_bounded_backfill_in_pieces(scenario, results, runner, request):
    """R7: archived pieces side by side, and what follows them: every offset once, every window exact."""
    if runner == "fn_api":
        read_in_pieces(scenario, results.folder, [], stop=True, runner=FnApiRunner()).wait_until_finish()
    elif runner == "prism":
        options = prism_options(request.getfixturevalue("prism"))
        read_in_pieces(scenario, results.folder, options, stop=True).wait_until_finish()
    else:
        endpoint = request.getfixturevalue("flink").job_endpoint
        options = flink_pipeline_options(endpoint, streaming=False, checkpointing_interval=None, restarts=0)
        read_in_pieces(scenario, results.folder, options, stop=True).wait_until_finish()
    check_all(scenario, results)


@pytest.mark.rule("R7")
def test_the_pieces_of_one_partition_go_to_several_workers(kafka, object_store, tmp_path, flink, worker_pool):
    """R7: on Flink two worker processes read one partition; as splits of one element its pieces would stay together."""
    archive = Archive(f"s3://{object_store.make_bucket('spread')}/merced", object_store.storage_options)
    scenario = Scenario(kafka, archive, partitions=1)
    scenario.produce(RECORDS)
    scenario.archive_and_expire(flushes=12)
    flink.start_task_manager()
    options = flink_pipeline_options(
        flink.job_endpoint,
        parallelism=2,
        restarts=0,
        worker_pool=worker_pool,
        extra=["--job_name=spread", "--max_bundle_time_mills=100", "--finish_bundle_before_checkpointing"],
    )
    read = ReadUnified(
        scenario.topic, scenario.kafka, archive, timestamp_fn=KafkaTimestamp(), output="record", ordered=False,
        stop=Stop.offsets(scenario.stop_offsets()), on_progress=functools.partial(write_down, tmp_path),
    )  # fmt: skip
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    window_and_write(pipeline | read, tmp_path)
    result = pipeline.run()
    try:
        job, results = flink.job_id("spread"), Results(tmp_path)
        wait_for(results, lambda: len(results.read_order().get(0, [])) == RECORDS, seconds=120)
        flink.cancel(job)  # with checkpoints it would not end by itself
    finally:
        result.cancel()
    assert sorted(results.read_order()[0]) == scenario.ledger.offsets()[0]
    assert len(list(tmp_path.glob("events-*.jsonl"))) >= 2


@pytest.mark.rule("R7", "R1", "T1")
def test_a_backfill_in_pieces_and_the_live_tail_survive_a_kill(scenario, results, flink):
    """R7: the tail is read from the start, the pieces hold the watermark; kill -9 in their midst: windows exact."""
    options = [*flink_options(flink), "--job_name=pieces"]
    result = read_in_pieces(scenario, results.folder, options, stop=False, slow=0.002)
    try:
        job = flink.job_id("pieces")
        wait_for(results, lambda: results.progress()[False] > RECORDS // 4, seconds=60)
        flink.kill_task_manager()
        flink.start_task_manager()
        scenario.produce(50)
        expected = scenario.ledger.windows()
        scenario.produce(1, jump_ms=CLOSING_JUMP_MS)
        wait_for(results, lambda: expected.keys() <= results.windows().keys(), seconds=300)
        assert results.problems(expected) == []
        assert {
            number: sorted(set(found)) for number, found in results.read_order().items()
        } == scenario.ledger.offsets()
        assert flink.restarts(job) >= 1
        flink.cancel(job)
    finally:
        result.cancel()
